#include "kv/page_tables.h"

#include <gtest/gtest.h>

#include <random>

#include "kv/kv_stats.h"

namespace pm {
namespace {

constexpr Pos kEnd = std::numeric_limits<Pos>::max();
using Entries = std::vector<TableEntry>;

class PageTablesTest : public ::testing::Test {
 protected:
  PageTablesTest() { EXPECT_TRUE(pool.commit(64)); }

  // A step that appends tokens at consecutive positions from the sequence's end on.
  void add(std::vector<SeqId> owners, int count) {
    tables.begin_step();
    add_to_step(std::move(owners), count);
  }
  void add_to_step(std::vector<SeqId> owners, int count) {
    Pos pos = tables.pos_max(owners[0]) + 1;
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(tables.append(owners, {pos + i, 0, 0}, copies));
    }
  }
  Entries table(SeqId seq) const {
    const auto entries = tables.table(seq);
    return {entries.begin(), entries.end()};
  }
  size_t needed(std::vector<SeqId> owners, size_t count) const {
    const TokenGroup group{owners, count};
    return tables.pages_needed({&group, 1});
  }

  PagePool pool{64, nullptr, 3};
  PageTables tables{pool, 8};
  std::vector<PageCopy> copies;
};

TEST_F(PageTablesTest, FillsPagesInOrder) {
  EXPECT_EQ(tables.pos_min(0), -1);
  EXPECT_EQ(tables.pos_max(0), -1);
  EXPECT_EQ(tables.append(std::vector<SeqId>{0}, {5, 0, 0}, copies), 0u);
  EXPECT_EQ(tables.append(std::vector<SeqId>{0}, {6, 0, 0}, copies), 1u);
  add({1}, 1);
  add({0}, 32);
  EXPECT_EQ(table(0), (Entries{{0, kAllSlots}, {2, 0b11}}));
  EXPECT_EQ(table(1), (Entries{{1, 0b1}}));
  EXPECT_EQ(tables.tokens(0), 34u);
  EXPECT_EQ(tables.pos_min(0), 5);
  EXPECT_EQ(tables.pos_max(0), 38);
  EXPECT_TRUE(copies.empty());
}

TEST_F(PageTablesTest, KeepsTwoDimensionalPlaces) {
  const SlotId slot = *tables.append(std::vector<SeqId>{0}, {7, 3, 4}, copies);
  EXPECT_EQ(tables.place(slot), (TokenPlace{7, 3, 4}));
}

TEST_F(PageTablesTest, ForkSharesPagesAndCopiesTheTailOnWrite) {
  add({0}, 40);
  tables.fork(0, 1);
  tables.fork(0, 2);
  EXPECT_EQ(pool.used(), 2u);
  EXPECT_EQ(pool.shared(), 2u);
  EXPECT_EQ(table(1), table(0));

  EXPECT_EQ(needed({1}, 1), 1u);
  EXPECT_EQ(needed({1}, 24), 1u);
  EXPECT_EQ(needed({1}, 25), 2u);
  add({1}, 1);
  EXPECT_EQ(copies, (std::vector<PageCopy>{{1, 2, 8}}));
  EXPECT_EQ(table(1), (Entries{{0, kAllSlots}, {2, 0x1ff}}));
  EXPECT_EQ(table(0), (Entries{{0, kAllSlots}, {1, 0xff}}));
  EXPECT_EQ(tables.place(2 * 32 + 3), (TokenPlace{35, 0, 0}));  // positions went along

  add({0}, 1);  // 2 still holds page 1
  EXPECT_EQ(copies.back(), (PageCopy{1, 3, 8}));
  copies.clear();
  add({2}, 1);  // nobody else does any more
  EXPECT_TRUE(copies.empty());
  EXPECT_EQ(table(2), (Entries{{0, kAllSlots}, {1, 0x1ff}}));
}

TEST_F(PageTablesTest, ForkOfARangeTakesOnlyItsTokens) {
  add({0}, 70);
  tables.fork(0, 1, 40, 66);
  EXPECT_EQ(table(1), (Entries{{1, 0xffffff00}, {2, 0b11}}));
  EXPECT_EQ(tables.tokens(1), 26u);
  EXPECT_EQ(tables.pos_min(1), 40);
  EXPECT_EQ(tables.pos_max(1), 65);
  // The rest joins pages that are there already.
  tables.fork(0, 1, 0, 50);
  EXPECT_EQ(tables.tokens(1), 66u);
  EXPECT_EQ(table(1), (Entries{{1, kAllSlots}, {2, 0b11}, {0, kAllSlots}}));
  EXPECT_EQ(pool.references(1), 2u);
  tables.fork(0, 1, 1000, 2000);
  tables.fork(1, 1);
  EXPECT_EQ(tables.tokens(1), 66u);
}

TEST_F(PageTablesTest, TruncatesAndUsesTheSlotsAgain) {
  add({0}, 70);
  tables.remove(0, 40);
  EXPECT_EQ(table(0), (Entries{{0, kAllSlots}, {1, 0xff}}));
  EXPECT_EQ(pool.used(), 2u);
  EXPECT_EQ(tables.append(std::vector<SeqId>{0}, {40, 0, 0}, copies), 32u + 8u);
  EXPECT_EQ(tables.pos_max(0), 40);
  tables.remove(0, 0);
  EXPECT_EQ(pool.used(), 0u);
  EXPECT_EQ(tables.tokens(0), 0u);
  EXPECT_EQ(tables.pos_max(0), -1);
}

TEST_F(PageTablesTest, RemovesFromTheMiddle) {
  add({0}, 100);
  tables.fork(0, 1);
  tables.remove(0, 30, 66);
  EXPECT_EQ(table(0), (Entries{{0, 0x3fffffff}, {2, 0xfffffffc}, {3, 0xf}}));
  EXPECT_EQ(table(1).size(), 4u);  // the fork sees everything
  EXPECT_EQ(tables.tokens(0), 64u);
  EXPECT_EQ(tables.tokens(1), 100u);
  tables.remove(1, 0);
  EXPECT_EQ(pool.used(), 3u);
  // Holes are not filled: positions stay in order within a page.
  EXPECT_EQ(tables.append(std::vector<SeqId>{0}, {100, 0, 0}, copies), 3u * 32 + 4);
}

TEST_F(PageTablesTest, TruncatedSharedPageIsCopiedBeforeWriting) {
  add({0}, 32);
  tables.fork(0, 1);
  tables.remove(1, 10);
  add({1}, 1);
  EXPECT_EQ(copies, (std::vector<PageCopy>{{0, 1, 10}}));
  EXPECT_EQ(table(0), (Entries{{0, kAllSlots}}));
  EXPECT_EQ(table(1), (Entries{{1, 0x7ff}}));
}

TEST_F(PageTablesTest, CoupledTokensTakeOneSlot) {
  add({0, 1, 2}, 40);
  EXPECT_EQ(pool.used(), 2u);
  EXPECT_EQ(tables.tokens(2), 40u);
  EXPECT_EQ(table(0), table(2));
  EXPECT_TRUE(copies.empty());
}

TEST_F(PageTablesTest, CoupledOwnersWithDifferentTailsGetAFreshPage) {
  add({0}, 3);
  EXPECT_EQ(needed({0, 1}, 33), 2u);
  add({0, 1}, 2);
  EXPECT_EQ(table(0), (Entries{{0, 0b111}, {1, 0b11}}));
  EXPECT_EQ(table(1), (Entries{{1, 0b11}}));
  // A third holder of the tail forces a copy that both owners get.
  tables.fork(1, 2);
  add({0, 1}, 1);
  EXPECT_EQ(copies, (std::vector<PageCopy>{{1, 2, 2}}));
  EXPECT_EQ(table(0), (Entries{{0, 0b111}, {2, 0b111}}));
  EXPECT_EQ(table(1), (Entries{{2, 0b111}}));
  EXPECT_EQ(pool.references(1), 1u);
  EXPECT_EQ(pool.references(2), 2u);
}

TEST_F(PageTablesTest, CoupledOwnersThatSeeDifferentSlotsGetAFreshPage) {
  add({0}, 8);
  tables.fork(0, 1, 0, 5);
  add({1, 0}, 1);  // slot 5 is free for sequence 1 only
  EXPECT_EQ(table(0), (Entries{{0, 0xff}, {1, 0b1}}));
  EXPECT_EQ(table(1), (Entries{{0, 0x1f}, {1, 0b1}}));
}

// Copies run before the step's writes, so a page written in this step cannot be copied.
TEST_F(PageTablesTest, OwnersThatPartWithinAStepGetFreshPages) {
  add({0, 1}, 8);
  add_to_step({0}, 1);
  add_to_step({1}, 1);
  EXPECT_TRUE(copies.empty());
  EXPECT_EQ(table(0), (Entries{{0, 0xff}, {1, 0b1}}));
  EXPECT_EQ(table(1), (Entries{{0, 0xff}, {2, 0b1}}));
  tables.fork(0, 2);
  add({2}, 1);
  EXPECT_EQ(copies, (std::vector<PageCopy>{{1, 3, 1}}));
}

TEST_F(PageTablesTest, SlidesPagesOutOfTheWindow) {
  PageTables windowed(pool, 2, 40);
  const std::vector<SeqId> owner{0};
  for (Pos pos = 0; pos < 100; ++pos) ASSERT_TRUE(windowed.append(owner, {pos, 0, 0}, copies));
  windowed.fork(0, 1);
  // A token at 71 sees 32 … 71; page 0 ends at 31. One at 103 sees from 64 on.
  windowed.slide(0, 70);
  EXPECT_EQ(windowed.table(0).size(), 4u);
  windowed.slide(0, 71);
  EXPECT_EQ(windowed.table(0).size(), 3u);
  EXPECT_EQ(windowed.pos_min(0), 32);
  windowed.slide(0, 102);
  EXPECT_EQ(windowed.table(0).size(), 3u);
  windowed.slide(0, 103);
  EXPECT_EQ(windowed.table(0).size(), 2u);
  EXPECT_EQ(windowed.tokens(0), 36u);
  EXPECT_EQ(windowed.full_pages(0).first, 2u);
  EXPECT_EQ(windowed.full_pages(0).entries.size(), 1u);
  EXPECT_EQ(pool.used(), 4u);  // the fork holds them
  windowed.remove(1, 0);
  EXPECT_EQ(pool.used(), 2u);
  tables.fork(0, 1);
  tables.slide(1, 1000);  // no window: nothing
}

TEST_F(PageTablesTest, PagesThatSlidOutKeepTheirNumbers) {
  PageTables windowed(pool, 2, 40);
  const auto add_pages = [&](SeqId seq, Pos pos, Pos count) {
    const std::vector<SeqId> owner{seq};
    for (Pos i = 0; i < count; ++i) ASSERT_TRUE(windowed.append(owner, {pos + i, 0, 0}, copies));
  };
  const auto full = [&](SeqId seq) { return windowed.full_pages(seq).entries.size(); };
  add_pages(0, 0, 96);
  windowed.slide(0, 1000);
  EXPECT_EQ(windowed.tokens(0), 0u);
  add_pages(0, 96, 32);
  EXPECT_EQ(windowed.full_pages(0).first, 3u);
  EXPECT_EQ(full(0), 1u);
  // Cut back to what has slid out: the next page is not page 3.
  windowed.remove(0, 50);
  add_pages(0, 50, 32);
  EXPECT_EQ(full(0), 0u);
  windowed.remove(0, 0);
  add_pages(0, 0, 32);
  EXPECT_EQ(windowed.full_pages(0).first, 0u);
  EXPECT_EQ(full(0), 1u);
  // A page with a hole slides out: nobody can tell how many tokens were before.
  add_pages(1, 0, 64);
  windowed.remove(1, 10, 12);
  windowed.slide(1, 71);
  EXPECT_EQ(windowed.table(1).size(), 1u);
  EXPECT_EQ(full(1), 0u);
}

TEST_F(PageTablesTest, FullPagesStopWhereTheOrderIsLost) {
  const auto full = [&](SeqId seq) { return tables.full_pages(seq).entries.size(); };
  add({0}, 100);
  EXPECT_EQ(full(0), 3u);
  tables.remove(0, 70);
  EXPECT_EQ(full(0), 2u);
  add({0}, 30);
  EXPECT_EQ(full(0), 3u);
  tables.fork(0, 1);
  tables.remove(1, 32, 64);  // a whole page: what follows is no longer page 1
  EXPECT_EQ(full(1), 1u);
  add({1}, 32);
  EXPECT_EQ(full(1), 1u);
  tables.remove(1, 32);
  add({1}, 70);
  EXPECT_EQ(full(1), 3u);
  tables.remove(1, 40, 41);
  EXPECT_EQ(full(1), 1u);
  tables.fork(0, 2, 32, kEnd);  // starts in the middle
  EXPECT_EQ(full(2), 0u);
  tables.fork(0, 3, 0, 64);
  tables.fork(0, 3, 64, kEnd);  // a second piece: not known to follow the first
  EXPECT_EQ(full(3), 2u);
}

TEST_F(PageTablesTest, AdoptsPagesThatOthersComputed) {
  add({0}, 100);
  const std::vector<PageId> pages{0, 1};
  ASSERT_TRUE(tables.adopt(1, 0, pages));
  EXPECT_EQ(tables.tokens(1), 64u);
  EXPECT_EQ(tables.pos_max(1), 63);
  EXPECT_EQ(pool.references(1), 2u);
  const std::vector<PageId> more{2};
  ASSERT_TRUE(tables.adopt(1, 2, more));
  EXPECT_EQ(tables.full_pages(1).entries.size(), 3u);
  EXPECT_FALSE(tables.adopt(1, 2, more));  // it has that page
  EXPECT_FALSE(tables.adopt(1, 4, more));  // page 3 is missing
  add({1}, 1);
  EXPECT_EQ(table(1).back(), (TableEntry{4, 0b1}));
  EXPECT_FALSE(tables.adopt(1, 4, more));  // not at a page's end
  EXPECT_EQ(tables.tokens(1), 97u);

  PageTables windowed(pool, 1, 40);
  for (PageId page = 0; page < 3; ++page) windowed.set_places(page, tables.places(page));
  ASSERT_TRUE(windowed.adopt(0, 1, std::vector<PageId>{1}));
  ASSERT_TRUE(windowed.adopt(0, 2, std::vector<PageId>{2}));
  EXPECT_EQ(windowed.full_pages(0).first, 1u);
  EXPECT_EQ(windowed.tokens(0), 64u);
  ASSERT_TRUE(windowed.adopt(0, 7, std::vector<PageId>{0}));
  EXPECT_EQ(windowed.full_pages(0).first, 7u);
  EXPECT_EQ(windowed.tokens(0), 32u);
}

TEST_F(PageTablesTest, SpanTellsRuns) {
  add({0}, 40);
  EXPECT_TRUE(tables.span({0, kAllSlots}).contiguous);
  EXPECT_TRUE(tables.span({1, 0xff}).contiguous);
  EXPECT_EQ(tables.span({1, 0xf}).pos_max, 35);
  EXPECT_FALSE(tables.span({1, 0b101}).contiguous);
  EXPECT_EQ(tables.span({1, 0b101}).pos_max, 34);
  // Tokens of an image share a position.
  const std::vector<SeqId> owner{1};
  for (const Pos pos : {3, 4, 4, 5}) ASSERT_TRUE(tables.append(owner, {pos, pos, 0}, copies));
  EXPECT_TRUE(tables.span({2, 0b11}).contiguous);
  EXPECT_FALSE(tables.span({2, 0b1111}).contiguous);
  EXPECT_EQ(tables.span({2, 0b1111}).pos_max, 5);
  // Written again: the run goes on.
  tables.remove(1, 4);
  for (const Pos pos : {4, 5, 6}) ASSERT_TRUE(tables.append(owner, {pos, 0, 0}, copies));
  EXPECT_TRUE(tables.span({2, 0b1111}).contiguous);
}

TEST_F(PageTablesTest, NeededPagesAreExactForAStepOfManyOwners) {
  add({0}, 40);
  for (SeqId seq = 1; seq < 4; ++seq) tables.fork(0, seq);
  tables.begin_step();
  const std::vector<SeqId> a{0}, b{1}, c{2, 3}, d{4, 5}, e{4};
  const std::vector<TokenGroup> step{{a, 1}, {b, 30}, {c, 2}, {d, 33}, {e, 1}, {a, 2}};
  const size_t needed = tables.pages_needed(step);
  const size_t before = pool.used();
  for (const TokenGroup& group : step) {
    add_to_step({group.owners.begin(), group.owners.end()}, static_cast<int>(group.count));
  }
  // a copies; b copies and goes on; c finds the tail its own; d takes two pages; e parts from d.
  EXPECT_EQ(needed, 1u + 2 + 0 + 2 + 1);
  EXPECT_EQ(pool.used() - before, needed);
}

TEST_F(PageTablesTest, KeepOnlyAndClear) {
  for (SeqId seq = 0; seq < 8; ++seq) add({seq}, 5);
  tables.keep_only(3);
  EXPECT_EQ(pool.used(), 1u);
  EXPECT_EQ(tables.tokens(3), 5u);
  tables.clear();
  EXPECT_EQ(pool.used(), 0u);
}

TEST(PageTables, AFullPoolChangesNothing) {
  // n pages are enough for the first n takes of this script; whatever fails must leave no trace.
  for (size_t capacity = 0; capacity < 6; ++capacity) {
    PagePool pool(capacity, nullptr, 0);
    ASSERT_TRUE(pool.commit(capacity));
    {
      PageTables tables(pool, 3);
      std::vector<PageCopy> copies;
      const std::vector<std::vector<SeqId>> script{{0}, {0, 1}, {1}, {2}, {0, 2}};
      for (const auto& owners : script) {
        tables.begin_step();
        const size_t used = pool.used(), shared = pool.shared(), copied = copies.size();
        const TokenGroup group{owners, 1};
        const size_t needed = tables.pages_needed({&group, 1});
        std::vector<Entries> before;
        for (SeqId s = 0; s < 3; ++s)
          before.emplace_back(tables.table(s).begin(), tables.table(s).end());
        const bool done = tables.append(owners, {0, 0, 0}, copies).has_value();
        EXPECT_EQ(done, needed <= capacity - used);
        if (done) continue;
        EXPECT_EQ(pool.used(), used);
        EXPECT_EQ(pool.shared(), shared);
        EXPECT_EQ(copies.size(), copied);
        for (SeqId s = 0; s < 3; ++s) {
          EXPECT_EQ(Entries(tables.table(s).begin(), tables.table(s).end()),
                    before[static_cast<size_t>(s)]);
        }
      }
    }
    EXPECT_EQ(pool.used(), 0u);
  }
}

TEST(KvStats, CountsEverySlotOnce) {
  PagePool pool(16, nullptr, 2);
  ASSERT_TRUE(pool.commit(4));
  PageTables tables(pool, 3);
  std::vector<PageCopy> copies;
  const std::vector<SeqId> owner{0};
  for (Pos pos = 0; pos < 40; ++pos) ASSERT_TRUE(tables.append(owner, {pos, 0, 0}, copies));
  tables.fork(0, 1);
  tables.remove(0, 36);
  tables.fork(0, 2, 0, 3);
  const PageId cached = *pool.take();
  KvStats stats;
  add_group(stats, pool, tables, 1000);
  EXPECT_EQ(stats.pages_total, 16u);
  EXPECT_EQ(stats.pages_used, 3u);
  EXPECT_EQ(stats.pages_shared, 2u);
  EXPECT_EQ(stats.pages_cached, 1u);
  EXPECT_EQ(stats.pages_free, 13u);
  EXPECT_EQ(stats.bytes_used, 3000u);
  EXPECT_EQ(stats.bytes_committed, 4000u);
  EXPECT_EQ(stats.slots_taken, 96u);
  EXPECT_EQ(stats.slots_live, 72u);
  EXPECT_DOUBLE_EQ(stats.waste_fraction(), 0.25);
  pool.release(cached);
}

TEST(KvStats, WasteOfMixedRequestsIsSmall) {
  constexpr size_t kRequests = 200;
  PagePool pool(kRequests * 128, nullptr, 6);
  ASSERT_TRUE(pool.commit(pool.capacity()));
  PageTables tables(pool, kRequests);
  std::mt19937 random(1);
  std::uniform_int_distribution<Pos> length(50, 4000);
  std::vector<PageCopy> copies;
  for (size_t i = 0; i < kRequests; ++i) {
    const std::vector<SeqId> owner{static_cast<SeqId>(i)};
    const Pos tokens = length(random);
    for (Pos pos = 0; pos < tokens; ++pos) ASSERT_TRUE(tables.append(owner, {pos, 0, 0}, copies));
  }
  KvStats stats;
  add_group(stats, pool, tables, 1);
  EXPECT_GT(stats.pages_used, 10000u);
  EXPECT_LT(stats.waste_fraction(), 0.04);
  RecordProperty("waste_fraction", std::to_string(stats.waste_fraction()));
}

}  // namespace
}  // namespace pm

#include "kv/kv_record.h"

#include <gtest/gtest.h>

#include "kv/checksum.h"
#include "kv/kv_test_support.h"

namespace pm {
namespace {

Digest named(uint8_t name) {
  Digest digest;
  digest.bytes.fill(name);
  return digest;
}

std::vector<uint8_t> counting(size_t count) {
  std::vector<uint8_t> bytes(count);
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<uint8_t>(i);
  return bytes;
}

// From the reference implementation.
TEST(Checksum, MatchesTheReference) {
  EXPECT_EQ(xxh64(counting(0)), 0xef46db3751d8e999u);
  EXPECT_EQ(xxh64(counting(1)), 0xe934a84adb052768u);
  EXPECT_EQ(xxh64(counting(3)), 0xe5c7bb4533bc65ddu);
  EXPECT_EQ(xxh64(counting(4)), 0xffced8604453cc1eu);
  EXPECT_EQ(xxh64(counting(7)), 0x14cc643f630c72d2u);
  EXPECT_EQ(xxh64(counting(8)), 0x884a173614b81b8du);
  EXPECT_EQ(xxh64(counting(31)), 0xc346d2b59b4d8ee1u);
  EXPECT_EQ(xxh64(counting(32)), 0xcbf59c5116ff32b4u);
  EXPECT_EQ(xxh64(counting(101)), 0xe99038495f85381eu);
  EXPECT_EQ(xxh64(counting(101), 2654435761), 0xa1c6d4174c37136du);
}

const RecordLayout kLayout{named(1), named(2), {100, 60}};

KvRecord page_record(uint32_t groups) {
  KvRecord record;
  record.digest = named(3);
  record.live = 0x00ff00ff;
  record.groups = groups;
  record.payload.resize(kLayout.payload_bytes(groups));
  std::mt19937 random(groups);
  for (size_t i = 384; i < record.payload.size(); ++i) {
    record.payload[i] = static_cast<uint8_t>(random());
  }
  return record;
}

std::string reason(const Result<KvRecord>& result) {
  return result ? "" : detail(result.error(), "reason");
}

TEST(KvRecord, ComesBackAsItWent) {
  for (const uint32_t groups : {1u, 2u, 3u}) {
    const KvRecord record = page_record(groups);
    const auto bytes = encode_record(kLayout, record);
    EXPECT_EQ(bytes.size(), kLayout.record_bytes(kLayout.payload_bytes(groups)));
    const auto back = decode_record(kLayout, bytes);
    ASSERT_TRUE(back);
    EXPECT_EQ(back.value().digest, record.digest);
    EXPECT_EQ(back.value().live, record.live);
    EXPECT_EQ(back.value().groups, groups);
    EXPECT_EQ(back.value().payload, record.payload);
  }
  EXPECT_EQ(kLayout.max_record_bytes(), 88u + 384 + 160 + 8);
}

TEST(KvRecord, EveryTruncationIsNoticed) {
  const auto bytes = encode_record(kLayout, page_record(3));
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_EQ(reason(decode_record(kLayout, std::span(bytes).first(length))), "truncated");
  }
}

TEST(KvRecord, EveryFlippedBitIsNoticed) {
  const auto bytes = encode_record(kLayout, page_record(3));
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    auto damaged = bytes;
    damaged[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    const auto result = decode_record(kLayout, damaged);
    ASSERT_FALSE(result) << bit;
    EXPECT_EQ(result.error().code, ErrorCode::kInvalidRequest);
  }
}

TEST(KvRecord, SaysWhatDoesNotFit) {
  const auto bytes = encode_record(kLayout, page_record(1));
  RecordLayout other = kLayout;
  other.model = named(9);
  EXPECT_EQ(reason(decode_record(other, bytes)), "model");
  other = kLayout;
  other.config = named(9);
  EXPECT_EQ(reason(decode_record(other, bytes)), "config");
  auto later = bytes;
  later[8] = 2;
  EXPECT_EQ(reason(decode_record(kLayout, later)), "version");
  EXPECT_EQ(reason(decode_record(kLayout, counting(200))), "not_a_record");
}

// A checksum proves nothing about who wrote it.
TEST(KvRecord, RefusesContradictionsWithAGoodChecksum) {
  const auto refused = [](auto change) {
    KvRecord record = page_record(3);
    change(record);
    return reason(decode_record(kLayout, encode_record(kLayout, record)));
  };
  EXPECT_EQ(refused([](KvRecord&) {}), "");
  EXPECT_EQ(refused([](KvRecord& r) { r.groups = 7; }), "damaged");
  EXPECT_EQ(refused([](KvRecord& r) { r.groups = 1; }), "damaged");
  EXPECT_EQ(refused([](KvRecord& r) { r.groups = 0; }), "damaged");
  EXPECT_EQ(refused([](KvRecord& r) { r.live = 0; }), "damaged");
  EXPECT_EQ(refused([](KvRecord& r) { r.payload.pop_back(); }), "damaged");
  EXPECT_EQ(refused([](KvRecord& r) { r.payload[3] = 0x80; }), "damaged");    // slot 0 is live
  EXPECT_EQ(refused([](KvRecord& r) { r.payload[8 * 12 + 3] = 0x80; }), "");  // slot 8 is not
  EXPECT_EQ(refused([](KvRecord& r) { r.kind = static_cast<RecordKind>(7); }), "damaged");
}

TEST(KvRecord, MovesPagesWithTheirPlaces) {
  PagePool global(8, nullptr, 3), windowed(8, nullptr, 3);
  ASSERT_TRUE(global.commit(8));
  ASSERT_TRUE(windowed.commit(1));
  PageTables global_tables(global, 2), windowed_tables(windowed, 2, 64);
  const LayerGroup groups[] = {{&global, &global_tables}, {&windowed, &windowed_tables}};
  FakePageBytes memory(2, 8);
  std::vector<PageCopy> copies;
  const std::vector<SeqId> owner{0};
  for (Pos i = 0; i < 20; ++i) {
    const TokenPlace place{i + 100, i, -i};
    memory.slot(0, *global_tables.append(owner, place, copies)) = static_cast<uint64_t>(i) + 7;
    memory.slot(1, *windowed_tables.append(owner, place, copies)) = static_cast<uint64_t>(i) + 70;
  }
  const TableEntry entry = global_tables.table(0)[0];
  const PageId pages[] = {entry.page, windowed_tables.table(0)[0].page};
  const KvRecord record = capture_page(named(5), entry.live, pages, groups, memory);
  global_tables.clear();
  windowed_tables.clear();
  const PageId other = *global.take();  // the record comes back elsewhere

  const auto placed = place_record(record, groups, memory);
  ASSERT_TRUE(placed);
  EXPECT_EQ(*placed, (std::vector<PageId>{1, 0}));
  global_tables.attach(1, {(*placed)[0], record.live});
  EXPECT_EQ(global_tables.tokens(1), 20u);
  EXPECT_EQ(global_tables.pos_min(1), 100);
  EXPECT_EQ(global_tables.place(1 * 32 + 3), (TokenPlace{103, 3, -3}));
  EXPECT_EQ(memory.slot(0, 1 * 32 + 19), 26u);
  EXPECT_EQ(memory.slot(1, 0 * 32 + 19), 89u);

  // No page ready in one group: none is taken in the other.
  for (int i = 0; i < 7; ++i) windowed.take();
  const size_t used = global.used();
  EXPECT_EQ(place_record(record, groups, memory), std::nullopt);
  EXPECT_EQ(global.used(), used);
  global.release(other);
}

}  // namespace
}  // namespace pm

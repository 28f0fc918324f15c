// Which pages hold the tokens of which sequence, for one layer group.
//
// A sequence is a list of pages, each with a mask of the slots that belong to it. Pages may be
// shared: forks, tokens that several sequences own, and cached prefixes. Only a page that nobody
// else holds is written; a shared tail is copied first. Positions belong to slots and are the same
// for all holders, so nothing moves when a sequence is forked, truncated or cut in the middle.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "kv/page_pool.h"
#include "kv/sequence_memory.h"

namespace pm {

inline constexpr uint32_t kAllSlots = 0xffffffffu;
static_assert(kPageTokens == 32, "a page's slots are the bits of a uint32_t");

struct TableEntry {
  PageId page;
  uint32_t live;  // bit i: slot i belongs to this sequence; never 0
  bool operator==(const TableEntry&) const = default;
};

struct TokenPlace {
  Pos pos = 0;
  // M-RoPE: column and row of an image token.
  Pos x = 0;
  Pos y = 0;
  bool operator==(const TokenPlace&) const = default;
};

// Bytes of slots [0, count) of `from`, all layers of the group, go to the same slots of `to`.
struct PageCopy {
  PageId from;
  PageId to;
  int count;
  bool operator==(const PageCopy&) const = default;
};

// `count` consecutive tokens that all `owners` (distinct) hold.
struct TokenGroup {
  std::span<const SeqId> owners;
  size_t count;
};

// What a mask planner needs of an entry.
struct EntrySpan {
  Pos pos_min;
  Pos pos_max;
  // Slots 0 … n-1 are live and hold pos_min, pos_min + 1, … pos_max.
  bool contiguous;
};

// A sequence's pages that may go into the prefix cache.
struct FullPages {
  // Pages of the sequence before these that sliding released: entry i is page first + i.
  size_t first;
  std::span<const TableEntry> entries;
};

// Not thread-safe. Sequence ids must be in range; every function checks nothing else.
class PageTables {
 public:
  // `window`: a token at position p sees positions greater than p - window.
  PageTables(PagePool& pool, size_t sequences, std::optional<Pos> window = std::nullopt);
  ~PageTables();
  PageTables(const PageTables&) = delete;
  PageTables& operator=(const PageTables&) = delete;

  size_t sequences() const { return tables_.size(); }
  std::optional<Pos> window() const { return window_; }

  // Pages that appending the groups takes, in this order and in a step of their own: what to commit
  // before.
  size_t pages_needed(std::span<const TokenGroup> groups) const;

  // A new step: the bytes of all tokens appended so far are in their pages. Copies that append()
  // asks for only ever concern such bytes, so that a step may append all its tokens, then copy,
  // then write.
  void begin_step() { ++step_; }

  // A slot for a token that all `owners` (distinct, at least one) hold. A tail page that others
  // hold as well is replaced by a copy, which is added to `copies`. Owners with different tails
  // continue on a fresh page that they share. Nothing, and nothing changed, if the pool has no
  // page ready.
  std::optional<SlotId> append(std::span<const SeqId> owners, const TokenPlace& place,
                               std::vector<PageCopy>& copies);

  // Forgets the tokens of `seq` at positions [from, to). Slots at the end are used again.
  void remove(SeqId seq, Pos from, Pos to = std::numeric_limits<Pos>::max());
  // `to_seq` holds the tokens of `from_seq` at positions [from, to) as well.
  void fork(SeqId from_seq, SeqId to_seq, Pos from = 0, Pos to = std::numeric_limits<Pos>::max());
  void keep_only(SeqId seq);
  void clear();

  // Releases pages that neither a token at `next_pos` nor any later one can see. Without a window
  // nothing happens.
  void slide(SeqId seq, Pos next_pos);

  // `seq`, which is empty or consists of full pages only, continues with full pages that somebody
  // else computed: pages first, first + 1, … of the sequence. `first` may lie beyond its end only
  // in a windowed group; what it held is then released. False, and nothing changed, otherwise.
  [[nodiscard]] bool adopt(SeqId seq, size_t first, std::span<const PageId> pages);

  // `seq` goes on with a page whose places are known (a loaded conversation); `live` is not 0.
  void attach(SeqId seq, const TableEntry& entry);
  // Where the numbers of an empty sequence's pages begin: FullPages::first of a loaded one.
  void set_first(SeqId seq, size_t first) { tables_[index(seq)].first = first; }

  std::span<const TableEntry> table(SeqId seq) const { return tables_[index(seq)].entries; }
  // Leading full pages in the order in which their tokens were appended: page n of the sequence
  // holds its tokens 32 n … 32 n + 31.
  FullPages full_pages(SeqId seq) const;
  size_t tokens(SeqId seq) const { return tables_[index(seq)].tokens; }
  // -1: empty.
  Pos pos_min(SeqId seq) const { return tables_[index(seq)].pos_min; }
  Pos pos_max(SeqId seq) const { return tables_[index(seq)].pos_max; }

  EntrySpan span(const TableEntry& entry) const;
  const TokenPlace& place(SlotId slot) const {
    return pages_[slot / kPageTokens].places[slot % kPageTokens];
  }
  std::span<const TokenPlace, kPageTokens> places(PageId page) const { return pages_[page].places; }
  // Places of a page whose bytes come from elsewhere (a file). The caller holds the page alone.
  void set_places(PageId page, std::span<const TokenPlace> places);

 private:
  struct Page {
    std::array<TokenPlace, kPageTokens> places;
    uint64_t written_in = 0;  // step of the last append
    uint32_t run = 0;         // slots 0 … run-1 hold consecutive positions
  };
  struct Table {
    std::vector<TableEntry> entries;
    size_t tokens = 0;
    Pos pos_min = -1;
    Pos pos_max = -1;
    size_t first = 0;  // pages that slid out before entries[0]
    // Pages from this one on are not those that a digest chain counts: something before is missing.
    size_t ordered = kOrdered;
  };
  static constexpr size_t kOrdered = std::numeric_limits<size_t>::max();

  static size_t index(SeqId seq) { return static_cast<size_t>(seq); }
  // The tail that all owners share; null if there is none.
  const TableEntry* common_tail(std::span<const SeqId> owners) const;
  uint32_t slots_between(const TableEntry& entry, Pos from, Pos to) const;
  void write_place(PageId page, uint32_t slot, const TokenPlace& place);
  void add_entry(Table& table, PageId page, uint32_t live);
  void update_bounds(Table& table) const;

  PagePool& pool_;
  std::optional<Pos> window_;
  std::vector<Table> tables_;
  std::deque<Page> pages_;  // grows with the highest page ever taken
  uint64_t step_ = 1;
};

}  // namespace pm

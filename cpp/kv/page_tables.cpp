#include "kv/page_tables.h"

#include <algorithm>
#include <bit>
#include <unordered_map>

namespace pm {
namespace {

// Where the next token goes, given the page that all its owners have last.
enum class Tail { kAppend, kCopy, kFresh };

// `holders`: of the page, owners included. `written`: its last bytes belong to the running step,
// so there is nothing to copy yet.
Tail next_place(uint32_t live, size_t owners, size_t holders, bool written) {
  if (std::bit_width(live) == kPageTokens) return Tail::kFresh;
  if (holders == owners) return Tail::kAppend;
  return written ? Tail::kFresh : Tail::kCopy;
}

// `count` low bits.
uint32_t low_slots(size_t count) {
  return count >= kPageTokens ? kAllSlots : (uint32_t{1} << count) - 1;
}

// Plays a step through without taking pages.
class StepRehearsal {
 public:
  explicit StepRehearsal(size_t sequences) : tails_(sequences) {}

  void set_tail(size_t seq, const TableEntry& entry, uint32_t holders) {
    tails_[seq] = {entry.page, entry.live};
    pages_[entry.page] = {holders, false};
  }

  void append(const TokenGroup& group) {
    for (size_t left = group.count; left > 0;) {
      const SimTail tail = step_onto_page(group.owners);
      const size_t next = static_cast<size_t>(std::bit_width(tail.live));
      const size_t count = std::min(left, kPageTokens - next);
      const uint32_t live = tail.live | (low_slots(next + count) & ~low_slots(next));
      for (const SeqId owner : group.owners) tails_[static_cast<size_t>(owner)] = {tail.page, live};
      pages_[tail.page].written = true;
      left -= count;
    }
  }

  size_t taken() const { return taken_; }

 private:
  struct SimTail {
    uint64_t page = kNone;
    uint32_t live = 0;
    bool operator==(const SimTail&) const = default;
  };
  struct SimPage {
    size_t holders = 0;
    bool written = false;
  };
  static constexpr uint64_t kNone = UINT64_MAX;

  // The page that takes the owners' next token.
  SimTail step_onto_page(std::span<const SeqId> owners) {
    const SimTail tail = tails_[static_cast<size_t>(owners[0])];
    const bool common = std::all_of(owners.begin(), owners.end(), [&](SeqId owner) {
      return tails_[static_cast<size_t>(owner)] == tail;
    });
    Tail place = Tail::kFresh;
    if (common && tail.page != kNone) {
      const SimPage& page = pages_[tail.page];
      place = next_place(tail.live, owners.size(), page.holders, page.written);
    }
    if (place == Tail::kAppend) return tail;
    if (place == Tail::kCopy) pages_[tail.page].holders -= owners.size();
    const uint64_t fresh = uint64_t{kNoPage} + 1 + taken_++;
    pages_[fresh] = {owners.size(), false};
    return {fresh, place == Tail::kCopy ? tail.live : 0};
  }

  std::vector<SimTail> tails_;
  std::unordered_map<uint64_t, SimPage> pages_;
  size_t taken_ = 0;
};

}  // namespace

PageTables::PageTables(PagePool& pool, size_t sequences, std::optional<Pos> window)
    : pool_(pool), window_(window), tables_(sequences) {}

PageTables::~PageTables() { clear(); }

size_t PageTables::pages_needed(std::span<const TokenGroup> groups) const {
  StepRehearsal rehearsal(tables_.size());
  for (size_t seq = 0; seq < tables_.size(); ++seq) {
    if (tables_[seq].entries.empty()) continue;
    const TableEntry& tail = tables_[seq].entries.back();
    rehearsal.set_tail(seq, tail, pool_.references(tail.page));
  }
  for (const TokenGroup& group : groups) rehearsal.append(group);
  return rehearsal.taken();
}

const TableEntry* PageTables::common_tail(std::span<const SeqId> owners) const {
  const TableEntry* tail = nullptr;
  for (const SeqId owner : owners) {
    const auto& entries = tables_[index(owner)].entries;
    if (entries.empty() || (tail && entries.back() != *tail)) return nullptr;
    tail = &entries.back();
  }
  return tail;
}

std::optional<SlotId> PageTables::append(std::span<const SeqId> owners, const TokenPlace& place,
                                         std::vector<PageCopy>& copies) {
  const TableEntry* common = common_tail(owners);
  const TableEntry tail = common ? *common : TableEntry{kNoPage, 0};
  const Tail where = !common ? Tail::kFresh
                             : next_place(tail.live, owners.size(), pool_.references(tail.page),
                                          pages_[tail.page].written_in == step_);
  PageId page = tail.page;
  if (where != Tail::kAppend) {
    const std::optional<PageId> taken = pool_.take();
    if (!taken) return std::nullopt;
    page = *taken;
    if (page >= pages_.size()) pages_.resize(page + 1);
    for (size_t i = 1; i < owners.size(); ++i) pool_.retain(page);
  }
  if (where == Tail::kCopy) {
    pages_[page] = pages_[tail.page];
    copies.push_back({tail.page, page, static_cast<int>(std::bit_width(tail.live))});
  }
  const uint32_t slot =
      where == Tail::kFresh ? 0 : static_cast<uint32_t>(std::bit_width(tail.live));
  write_place(page, slot, place);

  for (const SeqId owner : owners) {
    Table& table = tables_[index(owner)];
    if (where == Tail::kFresh) {
      table.entries.push_back({page, 0});
    } else if (where == Tail::kCopy) {
      table.entries.back().page = page;
      pool_.release(tail.page);
    }
    table.entries.back().live |= uint32_t{1} << slot;
    table.pos_min = table.tokens == 0 ? place.pos : std::min(table.pos_min, place.pos);
    table.pos_max = std::max(table.pos_max, place.pos);
    ++table.tokens;
  }
  return page * kPageTokens + slot;
}

void PageTables::write_place(PageId id, uint32_t slot, const TokenPlace& place) {
  Page& page = pages_[id];
  page.places[slot] = place;
  page.written_in = step_;
  if (slot > page.run) return;
  const bool consecutive = slot == 0 || page.places[slot - 1].pos + 1 == place.pos;
  page.run = consecutive ? slot + 1 : slot;
}

void PageTables::set_places(PageId id, std::span<const TokenPlace> places) {
  if (id >= pages_.size()) pages_.resize(id + 1);
  for (uint32_t slot = 0; slot < places.size(); ++slot) write_place(id, slot, places[slot]);
}

EntrySpan PageTables::span(const TableEntry& entry) const {
  const Page& page = pages_[entry.page];
  const auto count = static_cast<uint32_t>(std::popcount(entry.live));
  if (entry.live == low_slots(count) && count <= page.run) {
    const Pos first = page.places[0].pos;
    return {first, first + static_cast<Pos>(count) - 1, true};
  }
  EntrySpan span{std::numeric_limits<Pos>::max(), std::numeric_limits<Pos>::min(), false};
  for (uint32_t left = entry.live; left != 0; left &= left - 1) {
    const Pos pos = page.places[static_cast<size_t>(std::countr_zero(left))].pos;
    span.pos_min = std::min(span.pos_min, pos);
    span.pos_max = std::max(span.pos_max, pos);
  }
  return span;
}

uint32_t PageTables::slots_between(const TableEntry& entry, Pos from, Pos to) const {
  const EntrySpan bounds = span(entry);
  if (bounds.pos_max < from || bounds.pos_min >= to) return 0;
  if (bounds.pos_min >= from && bounds.pos_max < to) return entry.live;
  uint32_t slots = 0;
  for (uint32_t left = entry.live; left != 0; left &= left - 1) {
    const int slot = std::countr_zero(left);
    const Pos pos = pages_[entry.page].places[static_cast<size_t>(slot)].pos;
    if (pos >= from && pos < to) slots |= uint32_t{1} << slot;
  }
  return slots;
}

void PageTables::update_bounds(Table& table) const {
  table.pos_min = table.pos_max = -1;
  for (const TableEntry& entry : table.entries) {
    const EntrySpan bounds = span(entry);
    table.pos_min = table.pos_min < 0 ? bounds.pos_min : std::min(table.pos_min, bounds.pos_min);
    table.pos_max = std::max(table.pos_max, bounds.pos_max);
  }
}

void PageTables::remove(SeqId seq, Pos from, Pos to) {
  Table& table = tables_[index(seq)];
  size_t kept = 0;
  for (TableEntry entry : table.entries) {
    const uint32_t gone = slots_between(entry, from, to);
    table.tokens -= static_cast<size_t>(std::popcount(gone));
    entry.live &= ~gone;
    if (entry.live == 0) {
      pool_.release(entry.page);
      // Pages that follow, if any, are no longer where a digest chain has them.
      table.ordered = std::min(table.ordered, table.first + kept);
    } else {
      table.entries[kept++] = entry;
    }
  }
  table.entries.resize(kept);
  if (kept == 0 && from <= 0) table.first = 0;
  if (kept == 0 && table.first > 0) {
    // Cut back to what has slid out: nobody knows where it goes on.
    table.ordered = 0;
  } else if (table.first + kept <= table.ordered) {
    table.ordered = kOrdered;  // nothing follows the gap: it was the end that went
  }
  update_bounds(table);
}

void PageTables::add_entry(Table& table, PageId page, uint32_t live) {
  pool_.retain(page);
  table.entries.push_back({page, live});
  table.tokens += static_cast<size_t>(std::popcount(live));
}

void PageTables::fork(SeqId from_seq, SeqId to_seq, Pos from, Pos to) {
  if (from_seq == to_seq) return;
  const Table& source = tables_[index(from_seq)];
  Table& target = tables_[index(to_seq)];
  const size_t held = target.entries.size();
  if (held == 0) {
    target.first = source.first;
    target.ordered = source.ordered;
  } else {
    target.ordered = std::min(target.ordered, target.first + full_pages(to_seq).entries.size());
  }
  bool gap = false;
  for (const TableEntry& entry : source.entries) {
    const uint32_t live = slots_between(entry, from, to);
    if (live == 0) {
      gap = true;
      continue;
    }
    if (gap) target.ordered = std::min(target.ordered, target.first + target.entries.size());
    const auto end = target.entries.begin() + static_cast<std::ptrdiff_t>(held);
    const auto same = std::find_if(target.entries.begin(), end,
                                   [&](const TableEntry& e) { return e.page == entry.page; });
    if (same == end) {
      add_entry(target, entry.page, live);
    } else {
      target.tokens += static_cast<size_t>(std::popcount(live & ~same->live));
      same->live |= live;
    }
  }
  if (target.entries.empty()) {
    target.first = 0;
    target.ordered = kOrdered;
  }
  update_bounds(target);
}

void PageTables::keep_only(SeqId seq) {
  for (size_t other = 0; other < tables_.size(); ++other) {
    if (other != index(seq)) remove(static_cast<SeqId>(other), 0);
  }
}

void PageTables::clear() {
  for (size_t seq = 0; seq < tables_.size(); ++seq) remove(static_cast<SeqId>(seq), 0);
}

void PageTables::slide(SeqId seq, Pos next_pos) {
  if (!window_) return;
  Table& table = tables_[index(seq)];
  const Pos oldest_hidden = next_pos - *window_;
  size_t gone = 0;
  for (; gone < table.entries.size(); ++gone) {
    const TableEntry& entry = table.entries[gone];
    if (span(entry).pos_max > oldest_hidden) break;
    if (entry.live != kAllSlots) table.ordered = std::min(table.ordered, table.first + gone);
    table.tokens -= static_cast<size_t>(std::popcount(entry.live));
    pool_.release(entry.page);
  }
  if (gone == 0) return;
  table.entries.erase(table.entries.begin(),
                      table.entries.begin() + static_cast<std::ptrdiff_t>(gone));
  table.first += gone;
  update_bounds(table);
}

bool PageTables::adopt(SeqId seq, size_t first, std::span<const PageId> pages) {
  Table& table = tables_[index(seq)];
  if (full_pages(seq).entries.size() != table.entries.size()) return false;
  const size_t end = table.first + table.entries.size();
  if (first < end || (first > end && !window_)) return false;
  if (first != end) {
    remove(seq, 0);
    table.first = first;
  }
  for (const PageId page : pages) add_entry(table, page, kAllSlots);
  update_bounds(table);
  return true;
}

void PageTables::attach(SeqId seq, const TableEntry& entry) {
  Table& table = tables_[index(seq)];
  add_entry(table, entry.page, entry.live);
  update_bounds(table);
}

FullPages PageTables::full_pages(SeqId seq) const {
  const Table& table = tables_[index(seq)];
  const size_t limit = table.ordered > table.first ? table.ordered - table.first : 0;
  size_t count = 0;
  while (count < std::min(limit, table.entries.size()) && table.entries[count].live == kAllSlots) {
    ++count;
  }
  return {table.first, std::span(table.entries).first(count)};
}

}  // namespace pm

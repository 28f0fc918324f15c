// Two layer groups with everything around them, as an engine has it: one sees everything, one a
// window. A slot's bytes are a number, its content.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "kv/kv_record.h"
#include "kv/kv_stats.h"
#include "kv/kv_test_script.h"
#include "kv/kv_test_support.h"
#include "kv/prefix_cache.h"

namespace pm::kv_test {

inline constexpr Pos kWindow = 40;
inline constexpr size_t kGroups = 2;  // one sees everything, one the window
inline constexpr SeqId kSequences = 5;
inline constexpr size_t kPages[kGroups] = {22, 14};
inline constexpr uint32_t kSlabShift = 2;

class Rig {
 public:
  void copy_slots(size_t group, const PageCopy& copy) {
    for (int slot = 0; slot < copy.count; ++slot) {
      const auto at = [&](PageId page) { return page * kPageTokens + static_cast<SlotId>(slot); };
      memory.slot(group, at(copy.to)) = memory.slot(group, at(copy.from));
    }
  }

  // Lets the cache give pages back until the step fits.
  bool make_room(std::span<const TokenGroup> step) {
    bool room = true;
    for (size_t group = 0; group < kGroups; ++group) {
      const size_t needed = tables[group].pages_needed(step);
      PagePool& pool = pools[group];
      if (pool.free() < needed) cache.evict(group, needed - pool.free());
      if (!pool.commit(needed) && pool.ready() < needed) {
        cache.evict(group, needed - pool.ready());
      }
      room &= pool.ready() >= needed;
    }
    return room;
  }

  // What the pages say that a sequence holds.
  std::vector<Token> actual(size_t group, SeqId seq) {
    std::vector<Token> tokens;
    for (const TableEntry& entry : tables[group].table(seq)) {
      for (SlotId slot = 0; slot < kPageTokens; ++slot) {
        if (!(entry.live >> slot & 1)) continue;
        const SlotId id = entry.page * kPageTokens + slot;
        tokens.push_back({tables[group].place(id), memory.slot(group, id)});
      }
    }
    return tokens;
  }

  void check_bounds(size_t group, SeqId seq) const {
    const PageTables& table = tables[group];
    size_t tokens = 0;
    Pos first = -1, last = -1;
    for (const TableEntry& entry : table.table(seq)) {
      ASSERT_NE(entry.live, 0u);
      for (SlotId slot = 0; slot < kPageTokens; ++slot) {
        if (!(entry.live >> slot & 1)) continue;
        const Pos pos = table.place(entry.page * kPageTokens + slot).pos;
        first = first < 0 ? pos : std::min(first, pos);
        last = std::max(last, pos);
        ++tokens;
      }
    }
    ASSERT_EQ(table.tokens(seq), tokens);
    ASSERT_EQ(table.pos_min(seq), first);
    ASSERT_EQ(table.pos_max(seq), last);
  }

  // Every reference belongs to a table or to the cache.
  void check_references(size_t group) const {
    const PagePool& pool = pools[group];
    std::vector<uint32_t> holders(pool.capacity(), 0);
    size_t entries = 0;
    for (SeqId seq = 0; seq < kSequences; ++seq) {
      for (const TableEntry& entry : tables[group].table(seq)) ++holders[entry.page], ++entries;
    }
    size_t references = 0, used = 0, shared = 0;
    for (PageId page = 0; page < pool.capacity(); ++page) {
      ASSERT_GE(pool.references(page), holders[page]);
      ASSERT_LE(pool.references(page), holders[page] + 1);  // the cache holds a page once
      references += pool.references(page);
      used += pool.references(page) > 0;
      shared += pool.references(page) > 1;
    }
    ASSERT_EQ(references, entries + cache.pages(group));
    ASSERT_EQ(pool.used(), used);
    ASSERT_EQ(pool.shared(), shared);
    KvStats stats;
    add_group(stats, pool, tables[group], 1);
    ASSERT_LE(stats.slots_live, stats.slots_taken);
    ASSERT_EQ(stats.pages_used + stats.pages_free, pool.capacity());
  }

  FakeSlabs slabs[kGroups];
  PagePool pools[kGroups] = {{kPages[0], &slabs[0], kSlabShift},
                             {kPages[1], &slabs[1], kSlabShift}};
  FakePageBytes memory{kGroups, 32};
  PageTables tables[kGroups] = {{pools[0], kSequences}, {pools[1], kSequences, kWindow}};
  LayerGroup groups[kGroups] = {{&pools[0], &tables[0]}, {&pools[1], &tables[1]}};
  PrefixCache cache{{{&pools[0], std::nullopt}, {&pools[1], kWindow}}};
};

}  // namespace pm::kv_test

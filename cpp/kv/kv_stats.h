// Exact accounting of the paged cache, all layer groups together.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kv/page_pool.h"
#include "kv/page_tables.h"

namespace pm {

struct KvStats {
  size_t pages_total = 0;
  size_t pages_used = 0;
  size_t pages_shared = 0;  // more than one holder
  size_t pages_cached = 0;  // in no sequence: only the prefix cache holds them
  size_t pages_free = 0;
  size_t bytes_used = 0;
  size_t bytes_committed = 0;  // backed by memory
  size_t slots_taken = 0;      // of pages in use
  size_t slots_live = 0;       // of those, visible to a sequence or cached
  uint64_t evictions = 0;
  uint64_t spilled_pages = 0;  // in the spill file now

  double waste_fraction() const {
    if (slots_taken == 0) return 0;
    return 1.0 - static_cast<double>(slots_live) / static_cast<double>(slots_taken);
  }
};

// Adds one layer group, whose pages are `page_bytes` long (all layers and KV heads). Looks at every
// table entry: for reports, not for every step.
void add_group(KvStats& stats, const PagePool& pool, const PageTables& tables, size_t page_bytes);

}  // namespace pm

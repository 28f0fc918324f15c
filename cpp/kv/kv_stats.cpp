#include "kv/kv_stats.h"

#include <bit>
#include <vector>

namespace pm {

void add_group(KvStats& stats, const PagePool& pool, const PageTables& tables, size_t page_bytes) {
  // A slot is live if any of its page's holders sees it.
  std::vector<uint32_t> live(pool.capacity(), 0);
  for (size_t seq = 0; seq < tables.sequences(); ++seq) {
    for (const TableEntry& entry : tables.table(static_cast<SeqId>(seq))) {
      live[entry.page] |= entry.live;
    }
  }
  for (size_t page = 0; page < live.size(); ++page) {
    if (pool.references(static_cast<PageId>(page)) == 0) continue;
    if (live[page] == 0) {
      ++stats.pages_cached;
      live[page] = kAllSlots;  // the prefix cache takes full pages only
    }
    stats.slots_live += static_cast<size_t>(std::popcount(live[page]));
  }
  stats.pages_total += pool.capacity();
  stats.pages_used += pool.used();
  stats.pages_shared += pool.shared();
  stats.pages_free += pool.free();
  stats.slots_taken += pool.used() * kPageTokens;
  stats.bytes_used += pool.used() * page_bytes;
  stats.bytes_committed += pool.committed() * page_bytes;
}

}  // namespace pm

#include "kv/memory_stats.h"

namespace pm {

PoolPicture picture_of(const PagePool& pool, const PageTables& tables, size_t page_bytes) {
  PoolPicture picture{page_bytes, std::string(pool.capacity(), '.')};
  for (size_t page = 0; page < pool.capacity(); ++page) {
    if (pool.references(static_cast<PageId>(page)) > 0) picture.states[page] = 'c';
  }
  for (size_t seq = 0; seq < tables.sequences(); ++seq) {
    for (const TableEntry& entry : tables.table(static_cast<SeqId>(seq))) {
      picture.states[entry.page] = pool.references(entry.page) > 1 ? 's' : 'u';
    }
  }
  return picture;
}

}  // namespace pm

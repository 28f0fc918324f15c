// What engine.stats().kv reports, for either kind of memory.
#pragma once

#include <string>

#include "kv/kv_stats.h"

namespace pm {

// One pool as a picture shows it, a character for each page: '.' free, 'u' used by one sequence,
// 's' held by several, 'c' held by the prefix cache alone.
struct PoolPicture {
  size_t page_bytes = 0;
  std::string states;
};

PoolPicture picture_of(const PagePool& pool, const PageTables& tables, size_t page_bytes);

struct MemoryStats {
  // Tokens of a page; 1 for memory without pages.
  int page_tokens = 1;
  KvStats kv;
};

}  // namespace pm

// What engine.stats().kv reports, for either kind of memory.
#pragma once

#include "kv/kv_stats.h"

namespace pm {

struct MemoryStats {
  // Tokens of a page; 1 for memory without pages.
  int page_tokens = 1;
  KvStats kv;
};

}  // namespace pm

// Counters in the shape of engine.stats(). Written by the engine thread, read by anyone.
#pragma once

#include <cstdint>
#include <mutex>

#include "kv/memory_stats.h"

namespace pm {

struct EngineStats {
  int64_t running = 0;
  int64_t waiting = 0;
  int64_t finished = 0;
  int64_t cancelled = 0;
  int64_t failed = 0;
  int64_t steps = 0;
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;
  // Milliseconds, all requests together.
  double queue_ms = 0;
  double encode_ms = 0;
  double prefill_ms = 0;
  double decode_ms = 0;
  double sample_ms = 0;
  int64_t preemptions = 0;
  // Tokens of admitted prompts that were looked for in the prefix cache, and found.
  int64_t prefix_lookup_tokens = 0;
  int64_t prefix_hit_tokens = 0;
  MemoryStats memory;
};

class StatsCell {
 public:
  EngineStats read() const {
    std::lock_guard lock(mutex_);
    return stats_;
  }
  void write(const EngineStats& stats) {
    std::lock_guard lock(mutex_);
    stats_ = stats;
  }

 private:
  mutable std::mutex mutex_;
  EngineStats stats_;
};

}  // namespace pm

// Counters in the shape of engine.stats(). Written by the engine thread, read by anyone.
#pragma once

#include <cstdint>
#include <mutex>

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
  // Pool, in tokens.
  int64_t kv_capacity = 0;
  int64_t kv_reserved = 0;
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

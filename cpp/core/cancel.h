// A flag that is created before the work starts, so a stop that arrives early is never lost.
#pragma once

#include <atomic>
#include <memory>

namespace pm {

class CancelToken {
 public:
  void cancel() { cancelled_.store(true, std::memory_order_release); }
  bool cancelled() const { return cancelled_.load(std::memory_order_acquire); }

 private:
  std::atomic<bool> cancelled_{false};
};

using CancelTokenPtr = std::shared_ptr<CancelToken>;

}  // namespace pm

// A flag that is created before the work starts, so a stop that arrives early is never lost.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>

namespace pm {

class CancelToken {
 public:
  void cancel() {
    cancelled_.store(true, std::memory_order_release);
    std::lock_guard lock(mutex_);
    if (listener_) listener_();
  }
  // `listener` runs at every cancel() from now on, on the cancelling thread; it must not block.
  // Wakes whoever would otherwise sleep past the flag.
  void on_cancel(std::function<void()> listener) {
    std::lock_guard lock(mutex_);
    listener_ = std::move(listener);
    if (cancelled() && listener_) listener_();
  }
  bool cancelled() const { return cancelled_.load(std::memory_order_acquire); }

 private:
  std::atomic<bool> cancelled_{false};
  std::mutex mutex_;
  std::function<void()> listener_;
};

using CancelTokenPtr = std::shared_ptr<CancelToken>;

}  // namespace pm

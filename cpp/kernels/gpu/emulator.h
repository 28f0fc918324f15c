// Runs GPU kernels written in the dialect (dialect.h) on the CPU, for tests: one block after the
// other, its threads as coroutines that change hands only where they wait. Deterministic, and
// stricter than a GPU: it reports
//   - threads of a block or warp that wait in different places, or that left while others wait,
//   - shared memory used outside its bounds, before it was written, or by two threads without a
//     barrier between them.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <coroutine>
#include <cstdint>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pm::emulator {

class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

inline constexpr uint32_t kLanes = 32;

// What a warp does when all its lanes have arrived.
enum class Exchange : uint8_t { kNone, kBarrier, kShuffleXor, kMax, kSum, kMaxBits };

struct Thread {
  enum class State : uint8_t { kReady, kAtWarp, kAtBlock, kDone };

  uint32_t index = 0;
  State state = State::kReady;
  std::coroutine_handle<> resume;  // the innermost routine that waits
  Exchange exchange = Exchange::kNone;
  std::string_view file;
  int line = 0;
  uint32_t value = 0;  // what it brings, then what it gets
  uint32_t operand = 0;
};

// Synchronisation so far: what happened before the last barrier is visible after it.
struct Clock {
  uint32_t block = 0;
  std::vector<uint32_t> warps;
};

// The thread that is running, and its block's clock.
inline thread_local Thread* running = nullptr;
inline thread_local Clock* running_clock = nullptr;

// A kernel or a function called from one that may wait. Starts when awaited or resumed.
class [[nodiscard]] Routine {
 public:
  struct promise_type;
  using Handle = std::coroutine_handle<promise_type>;

  struct ReturnToCaller {
    bool await_ready() noexcept { return false; }
    std::coroutine_handle<> await_suspend(Handle self) noexcept {
      if (self.promise().caller) return self.promise().caller;
      return std::noop_coroutine();
    }
    void await_resume() noexcept {}
  };

  struct promise_type {
    std::coroutine_handle<> caller;
    std::exception_ptr error;

    Routine get_return_object() { return Routine(Handle::from_promise(*this)); }
    std::suspend_always initial_suspend() noexcept { return {}; }
    ReturnToCaller final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { error = std::current_exception(); }
  };

  Routine(Routine&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Routine& operator=(Routine&&) = delete;
  ~Routine() {
    if (handle_) handle_.destroy();
  }

  Handle handle() const { return handle_; }
  void rethrow() const {
    if (handle_.promise().error) std::rethrow_exception(handle_.promise().error);
  }

  bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> caller) noexcept {
    handle_.promise().caller = caller;
    return handle_;
  }
  void await_resume() const { rethrow(); }

 private:
  explicit Routine(Handle handle) : handle_(handle) {}

  Handle handle_;
};

// What a thread says when it waits; the scheduler answers in Thread::value.
template <class T>
struct Waiting {
  Thread::State state;
  Exchange exchange;
  std::string_view file;
  int line;
  T value;
  uint32_t operand;

  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> self) noexcept {
    Thread& thread = *running;
    thread.resume = self;
    thread.state = state;
    thread.exchange = exchange;
    thread.file = file;
    thread.line = line;
    thread.value = std::bit_cast<uint32_t>(value);
    thread.operand = operand;
  }
  T await_resume() const noexcept { return std::bit_cast<T>(running->value); }
};

template <class T = uint32_t>
Waiting<T> exchange(Exchange kind, std::string_view file, int line, T value = {},
                    uint32_t operand = 0) {
  return {Thread::State::kAtWarp, kind, file, line, value, operand};
}

inline Waiting<uint32_t> block_barrier(std::string_view file, int line) {
  return {Thread::State::kAtBlock, Exchange::kNone, file, line, 0, 0};
}

// An array in the memory of a block. Every access is checked.
template <class T, size_t kCount>
class SharedArray {
 public:
  class Element {
   public:
    Element(SharedArray& array, size_t index) : array_(array), index_(index) {}
    operator T() const { return array_.read(index_); }
    const Element& operator=(T value) const {
      array_.write(index_, value);
      return *this;
    }
    const Element& operator=(const Element& other) const { return *this = static_cast<T>(other); }
    const Element& operator+=(T value) const { return *this = static_cast<T>(*this) + value; }

   private:
    SharedArray& array_;
    size_t index_;
  };

  SharedArray() = default;
  SharedArray(const SharedArray&) = delete;
  SharedArray& operator=(const SharedArray&) = delete;

  Element operator[](size_t index) {
    if (index >= kCount) fail("outside of its bounds", index);
    return {*this, index};
  }

 private:
  static constexpr uint32_t kNobody = ~0u;
  static constexpr uint32_t kSeveral = ~0u - 1;

  // Who used an element last, and when. `thread` and `warp` may be kSeveral.
  struct Use {
    uint32_t thread = kNobody;
    uint32_t warp = kNobody;
    uint32_t block_time = 0;
    uint32_t warp_time = 0;

    // No barrier between this use and now, and another thread did it.
    bool races() const {
      const uint32_t own_warp = running->index / kLanes;
      if (thread == kNobody || block_time != running_clock->block) return false;
      if (warp != own_warp) return true;
      return thread != running->index && warp_time == running_clock->warps[own_warp];
    }
    void set() {
      thread = running->index;
      warp = thread / kLanes;
      block_time = running_clock->block;
      warp_time = running_clock->warps[warp];
    }
    void add() {
      const uint32_t own_warp = running->index / kLanes;
      if (thread == kNobody || block_time != running_clock->block) return set();
      if (warp != own_warp) {
        warp = kSeveral;
      } else if (warp_time != running_clock->warps[own_warp]) {
        set();
      } else if (thread != running->index) {
        thread = kSeveral;
      }
    }
  };
  struct Cell {
    T value{};
    Use written;
    Use read;
  };

  T read(size_t index) {
    Cell& cell = cells_[index];
    if (cell.written.thread == kNobody) fail("read before it was written", index);
    if (cell.written.races()) fail("read without a barrier after a write", index);
    cell.read.add();
    return cell.value;
  }

  void write(size_t index, T value) {
    Cell& cell = cells_[index];
    if (cell.written.races()) fail("written twice without a barrier", index);
    if (cell.read.races()) fail("written without a barrier after a read", index);
    cell.written.set();
    cell.value = value;
  }

  [[noreturn]] static void fail(const char* what, size_t index) {
    throw Failure("shared memory " + std::string(what) + ": element " + std::to_string(index) +
                  " of " + std::to_string(kCount) + ", thread " + std::to_string(running->index));
  }

  std::array<Cell, kCount> cells_;
};

struct Grid {
  uint32_t x = 1;
  uint32_t y = 1;
  uint32_t z = 1;
};

// In which order ready threads run between two waits, and blocks in a grid: results must not
// depend on it.
enum class Order : uint8_t { kForward, kBackward };

// The threads of one block, from start to end.
class BlockRun {
 public:
  BlockRun(std::vector<Routine> routines, Order order)
      : routines_(std::move(routines)), threads_(routines_.size()), order_(order) {
    if (threads_.empty() || threads_.size() % kLanes != 0) {
      throw Failure("a block has whole warps of 32 threads");
    }
    clock_.warps.assign(threads_.size() / kLanes, 0);
    for (size_t i = 0; i < threads_.size(); ++i) {
      threads_[i].index = static_cast<uint32_t>(i);
      threads_[i].resume = routines_[i].handle();
    }
  }

  void run() {
    running_clock = &clock_;
    while (true) {
      resume_ready();
      const bool warp_went_on = release_warps();
      if (warp_went_on) continue;
      if (count(Thread::State::kDone) == threads_.size()) return;
      release_block();
    }
  }

 private:
  void resume_ready() {
    const size_t size = threads_.size();
    for (size_t n = 0; n < size; ++n) {
      const size_t i = order_ == Order::kForward ? n : size - 1 - n;
      Thread& thread = threads_[i];
      if (thread.state != Thread::State::kReady) continue;
      running = &thread;
      thread.resume.resume();
      routines_[i].rethrow();
      if (routines_[i].handle().done()) thread.state = Thread::State::kDone;
    }
  }

  bool release_warps() {
    bool any = false;
    for (size_t first = 0; first < threads_.size(); first += kLanes) {
      Thread* warp = &threads_[first];
      size_t waiting = 0;
      for (size_t i = 0; i < kLanes; ++i) waiting += warp[i].state == Thread::State::kAtWarp;
      if (waiting == 0) continue;
      require_same_place(warp, kLanes, Thread::State::kAtWarp);
      perform(warp);
      any = true;
    }
    return any;
  }

  void release_block() {
    require_same_place(threads_.data(), threads_.size(), Thread::State::kAtBlock);
    for (Thread& thread : threads_) thread.state = Thread::State::kReady;
    ++clock_.block;
  }

  void perform(Thread* warp) {
    if (warp->exchange == Exchange::kBarrier) ++clock_.warps[warp->index / kLanes];
    if (warp->exchange == Exchange::kShuffleXor) {
      shuffle(warp, warp->operand, [](uint32_t, uint32_t other) { return other; });
    } else {
      for (uint32_t step = kLanes / 2; step > 0; step /= 2) shuffle(warp, step, merge(*warp));
    }
    for (size_t i = 0; i < kLanes; ++i) warp[i].state = Thread::State::kReady;
  }

  static uint32_t (*merge(const Thread& thread))(uint32_t, uint32_t) {
    switch (thread.exchange) {
      case Exchange::kMax:
        return [](uint32_t a, uint32_t b) {
          return std::bit_cast<uint32_t>(
              std::fmax(std::bit_cast<float>(a), std::bit_cast<float>(b)));
        };
      case Exchange::kSum:
        return [](uint32_t a, uint32_t b) {
          return std::bit_cast<uint32_t>(std::bit_cast<float>(a) + std::bit_cast<float>(b));
        };
      case Exchange::kMaxBits:
        return [](uint32_t a, uint32_t b) { return a > b ? a : b; };
      default:
        return [](uint32_t a, uint32_t) { return a; };
    }
  }

  template <class Merge>
  static void shuffle(Thread* warp, uint32_t mask, Merge merge) {
    std::array<uint32_t, kLanes> before;
    for (uint32_t i = 0; i < kLanes; ++i) before[i] = warp[i].value;
    for (uint32_t i = 0; i < kLanes; ++i) {
      warp[i].value = merge(before[i], before[(i ^ mask) % kLanes]);
    }
  }

  void require_same_place(const Thread* threads, size_t size, Thread::State state) const {
    const Thread* lead = threads;
    while (lead->state != state) ++lead;
    for (size_t i = 0; i < size; ++i) {
      const Thread& thread = threads[i];
      if (thread.state == state && thread.line == lead->line && thread.file == lead->file &&
          thread.operand == lead->operand) {
        continue;
      }
      throw Failure("divergence: thread " + std::to_string(lead->index) + " waits at " +
                    place(*lead) + ", thread " + std::to_string(thread.index) +
                    (thread.state == Thread::State::kDone ? " has left" : " at " + place(thread)));
    }
  }

  static std::string place(const Thread& thread) {
    return std::string(thread.file) + ":" + std::to_string(thread.line);
  }

  size_t count(Thread::State state) const {
    size_t n = 0;
    for (const Thread& thread : threads_) n += thread.state == state;
    return n;
  }

  std::vector<Routine> routines_;
  std::vector<Thread> threads_;
  Order order_;
  Clock clock_;
};

// Runs a grid of blocks of `threads` threads. `kernel(place, shared)` gives each thread's routine;
// Place is the dialect's, Shared the memory of one block.
template <class Place, class Shared, class Kernel>
void launch(Grid grid, uint32_t threads, Order order, Kernel kernel) {
  const uint32_t blocks = grid.x * grid.y * grid.z;
  for (uint32_t n = 0; n < blocks; ++n) {
    const uint32_t block = order == Order::kForward ? n : blocks - 1 - n;
    const auto shared = std::make_unique<Shared>();
    std::vector<Routine> routines;
    routines.reserve(threads);
    for (uint32_t thread = 0; thread < threads; ++thread) {
      const Place place{thread, block % grid.x, block / grid.x % grid.y, block / grid.x / grid.y};
      routines.push_back(kernel(place, *shared));
    }
    BlockRun(std::move(routines), order).run();
  }
}

}  // namespace pm::emulator

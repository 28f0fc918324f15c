// The emulator itself: that it computes what a block of threads would, and that it catches what a
// GPU would let pass.
#include "kernels/gpu/emulator.h"

#include <gtest/gtest.h>

#include <functional>
#include <numeric>

#include "kernels/gpu/dialect.h"

namespace pm {
namespace {

using emulator::Failure;
using emulator::Order;
using gpu::Place;

struct Memory {
  PM_SHARED_ARRAY(float, cells, 64);
};

using Kernel = std::function<emulator::Routine(Place, Memory&)>;

void run(uint32_t threads, Order order, Kernel kernel) {
  emulator::launch<Place, Memory>({2, 1, 1}, threads, order, kernel);
}

// Whether both orders report a failure that says `what`.
void expect_failure(const Kernel& kernel, const std::string& what) {
  for (Order order : {Order::kForward, Order::kBackward}) {
    try {
      run(64, order, kernel);
      ADD_FAILURE() << "expected: " << what;
    } catch (const Failure& failure) {
      EXPECT_NE(std::string(failure.what()).find(what), std::string::npos) << failure.what();
    }
  }
}

PM_COLLECTIVE reverse(Place at, Memory& shared, std::vector<float>& out) {
  shared.cells[at.thread] = static_cast<float>(at.thread);
  PM_BARRIER();
  out[at.block_x * 64 + at.thread] = shared.cells[63 - at.thread];
}

TEST(Emulator, BarrierMakesSharedMemoryVisible) {
  for (Order order : {Order::kForward, Order::kBackward}) {
    std::vector<float> out(128);
    run(64, order, [&](Place at, Memory& shared) { return reverse(at, shared, out); });
    for (size_t i = 0; i < 128; ++i) EXPECT_EQ(out[i], static_cast<float>(63 - i % 64));
  }
}

PM_COLLECTIVE add_neighbour(float& x, uint32_t mask) {
  const float other = PM_SHUFFLE_XOR(x, mask);
  x += other;
}

PM_COLLECTIVE reduce(Place at, std::vector<float>& out) {
  float x = static_cast<float>(at.thread);
  PM_CALL(add_neighbour(x, 1));  // thread + its neighbour, of its own warp
  const float sum = PM_WARP_SUM(x);
  const float max = PM_WARP_MAX(x);
  const uint32_t bits = PM_WARP_MAX_BITS(at.thread * 3);
  out[at.thread] = sum + 10000 * max + 10000000 * static_cast<float>(bits);
}

TEST(Emulator, WarpsExchangeValuesAmongThemselves) {
  std::vector<float> out(64);
  run(64, Order::kForward, [&](Place at, Memory&) { return reduce(at, out); });
  for (uint32_t i = 0; i < 64; ++i) {
    const uint32_t warp = i / 32;
    const float sum = static_cast<float>(2 * (31 * 16 + 32 * 32 * warp));
    const float max = static_cast<float>(30 + 31 + 64 * warp);
    const float bits = static_cast<float>((31 + 32 * warp) * 3);
    EXPECT_EQ(out[i], sum + 10000 * max + 10000000 * bits);
  }
}

TEST(Emulator, ABlockHasWholeWarps) {
  EXPECT_THROW(run(33, Order::kForward, [](Place, Memory&) -> emulator::Routine { co_return; }),
               Failure);
}

PM_COLLECTIVE barrier_for_some(Place at) {
  if (at.thread < 40) PM_BARRIER();
}

PM_COLLECTIVE barrier_in_two_places(Place at) {
  if (at.thread % 2 == 0) {
    PM_BARRIER();
  } else {
    PM_BARRIER();
  }
}

PM_COLLECTIVE shuffle_for_some(Place at) {
  float x = 1;
  if (at.thread != 5) x = PM_SHUFFLE_XOR(x, 1);
}

PM_COLLECTIVE shuffle_against_barrier(Place at) {
  if (at.thread == 7) PM_BARRIER();
  float x = 1;
  x = PM_SHUFFLE_XOR(x, 1);
}

PM_COLLECTIVE shuffle_by_lane(Place at) {
  float x = 1;
  x = PM_SHUFFLE_XOR(x, at.thread);
}

TEST(Emulator, ReportsThreadsThatWaitInDifferentPlaces) {
  expect_failure([](Place at, Memory&) { return barrier_for_some(at); }, "has left");
  expect_failure([](Place at, Memory&) { return barrier_in_two_places(at); }, "divergence");
  expect_failure([](Place at, Memory&) { return shuffle_for_some(at); }, "has left");
  expect_failure([](Place at, Memory&) { return shuffle_against_barrier(at); }, "divergence");
  expect_failure([](Place at, Memory&) { return shuffle_by_lane(at); }, "divergence");
}

PM_COLLECTIVE read_only(Place at, Memory& shared) {
  const float x = shared.cells[at.thread];
  EXPECT_EQ(x, x);
  co_return;
}

PM_COLLECTIVE overrun(Place at, Memory& shared) {
  shared.cells[at.thread + 1] = 0;
  co_return;
}

PM_COLLECTIVE write_one_cell(Place, Memory& shared) {
  shared.cells[0] = 1;
  co_return;
}

// A warp barrier orders its warp only.
PM_COLLECTIVE read_neighbour(Place at, Memory& shared, uint32_t distance) {
  shared.cells[at.thread] = 1;
  PM_WARP_BARRIER();
  const float other = shared.cells[at.thread ^ distance];
  EXPECT_EQ(other, 1);
}

PM_COLLECTIVE overwrite_neighbour(Place at, Memory& shared, bool wait) {
  shared.cells[at.thread] = 1;
  PM_BARRIER();
  const float other = shared.cells[at.thread ^ 1];
  if (wait) PM_WARP_BARRIER();
  shared.cells[at.thread] = other;
}

// All read the cell that one of another warp then writes.
PM_COLLECTIVE overwrite_shared_cell(Place at, Memory& shared) {
  if (at.thread == 0) shared.cells[0] = 1;
  PM_BARRIER();
  const float x = shared.cells[0];
  PM_WARP_BARRIER();
  if (at.thread == 32) shared.cells[0] = x;
}

TEST(Emulator, ReportsMisuseOfSharedMemory) {
  expect_failure([](Place at, Memory& shared) { return read_only(at, shared); },
                 "before it was written");
  expect_failure([](Place at, Memory& shared) { return overrun(at, shared); },
                 "outside of its bounds");
  expect_failure([](Place at, Memory& shared) { return write_one_cell(at, shared); },
                 "written twice");
  expect_failure([](Place at, Memory& shared) { return read_neighbour(at, shared, 32); },
                 "shared memory");
  expect_failure([](Place at, Memory& shared) { return overwrite_neighbour(at, shared, false); },
                 "shared memory");
  expect_failure([](Place at, Memory& shared) { return overwrite_shared_cell(at, shared); },
                 "written without a barrier after a read");
}

TEST(Emulator, AcceptsWhatABarrierOrders) {
  for (Order order : {Order::kForward, Order::kBackward}) {
    run(64, order, [](Place at, Memory& shared) { return read_neighbour(at, shared, 31); });
    run(64, order, [](Place at, Memory& shared) { return overwrite_neighbour(at, shared, true); });
  }
}

}  // namespace
}  // namespace pm

#include "core/worker.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>

namespace pm {
namespace {

TEST(Worker, RunsJobsInOrder) {
  std::vector<int> seen;
  std::promise<void> done;
  Worker worker("test");
  for (int i = 0; i < 100; ++i) worker.post([&seen, i] { seen.push_back(i); });
  worker.post([&] { done.set_value(); });
  done.get_future().wait();
  ASSERT_EQ(seen.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(seen[static_cast<size_t>(i)], i);
}

TEST(Worker, StopWaitsForTheRunningJobAndDropsTheRest) {
  std::promise<void> started;
  std::promise<void> release;
  std::atomic<bool> finished{false};
  std::atomic<bool> second_ran{false};
  auto dropped = std::make_shared<int>(1);
  const std::weak_ptr<int> watch = dropped;
  Worker worker("test");
  worker.post([&] {
    started.set_value();
    release.get_future().wait();
    finished = true;
  });
  worker.post([&second_ran, dropped = std::move(dropped)] { second_ran = true; });
  started.get_future().wait();
  std::thread stopper([&] { worker.stop(); });
  // stop() has dropped the second job before it waits for the first.
  while (!watch.expired()) std::this_thread::yield();
  release.set_value();
  stopper.join();
  EXPECT_TRUE(finished);
  EXPECT_FALSE(second_ran);
  worker.post([&] { second_ran = true; });
  worker.stop();
  EXPECT_FALSE(second_ran);
}

}  // namespace
}  // namespace pm

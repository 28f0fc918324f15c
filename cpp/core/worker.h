// One thread that runs jobs in the order given. Owned by exactly one object; the destructor drops
// jobs that have not started and joins.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace pm {

class Worker {
 public:
  explicit Worker(std::string name);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Never blocks. Jobs posted after stop() are dropped.
  void post(std::function<void()> job);
  // Drops waiting jobs, waits for the running one. Idempotent; not callable from a job.
  void stop();

 private:
  void loop();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  bool stopping_ = false;
  std::thread thread_;
};

// Names the calling thread for debuggers and profilers (15 characters are kept on Linux).
void set_thread_name(const std::string& name);

}  // namespace pm

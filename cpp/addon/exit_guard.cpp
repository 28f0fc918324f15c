#include "addon/exit_guard.h"

#include <cstdlib>
#include <mutex>
#include <vector>

namespace pm::addon {
namespace {

struct Engines {
  std::mutex mutex;
  std::vector<std::weak_ptr<Engine>> live;
};

// Never destroyed: it is used while static objects are.
Engines& engines() {
  static auto* all = new Engines;
  return *all;
}

void stop_all() {
  std::vector<std::weak_ptr<Engine>> live;
  {
    std::lock_guard lock(engines().mutex);
    live.swap(engines().live);
  }
  for (const auto& weak : live) {
    if (const auto engine = weak.lock()) {
      engine->stop({ErrorCode::kDisposed, "the process exits"});
    }
  }
}

}  // namespace

void stop_at_exit(const std::shared_ptr<Engine>& engine) {
  std::lock_guard lock(engines().mutex);
  std::erase_if(engines().live, [](const auto& weak) { return weak.expired(); });
  engines().live.push_back(engine);
  // Anew for every engine: loading it may have initialised more.
  std::atexit(stop_all);
}

}  // namespace pm::addon

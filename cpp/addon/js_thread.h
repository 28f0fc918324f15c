// The one way from native threads to the JavaScript thread.
//
// Lifetime rules:
//  1. post() may be called from any thread until close(); afterwards, and once the environment is
//     going away, tasks are dropped (destroyed, not run).
//  2. The event loop stays alive while hold() calls outnumber release_hold() calls. Both belong to
//     the JavaScript thread.
//  3. Tasks posted before close() still run. close() belongs to the JavaScript thread; idempotent.
//  4. The environment frees the function behind our back when it exits; its finalizer says so, and
//     from then on the handle is never touched (it would be a use after free).
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <mutex>

namespace pm::addon {

class JsThread {
 public:
  using Task = std::function<void(Napi::Env)>;

  JsThread(Napi::Env env, const char* name);
  ~JsThread() { close(); }
  JsThread(const JsThread&) = delete;
  JsThread& operator=(const JsThread&) = delete;

  void post(Task task);
  void hold();
  void release_hold();
  void close();
  bool is_open() const;

 private:
  // Shared with the finalizer, which may outlive the JsThread.
  struct State {
    std::mutex mutex;
    bool open = true;
  };

  static void run(Napi::Env env, Napi::Function, std::nullptr_t*, Task* task);
  using Function = Napi::TypedThreadSafeFunction<std::nullptr_t, Task, run>;

  Napi::Env env_;
  std::shared_ptr<State> state_ = std::make_shared<State>();
  Function function_;
  int holds_ = 0;
};

}  // namespace pm::addon

// The one way from native threads to the JavaScript thread.
//
// Lifetime rules:
//  1. post() may be called from any thread until close(); afterwards, and once the environment is
//     going away, tasks are dropped (destroyed, not run).
//  2. The event loop stays alive while hold() calls outnumber release_hold() calls. Both belong to
//     the JavaScript thread.
//  3. Tasks posted before close() still run. close() belongs to the JavaScript thread; idempotent.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>

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

 private:
  static void run(Napi::Env env, Napi::Function, std::nullptr_t*, Task* task);
  using Function = Napi::TypedThreadSafeFunction<std::nullptr_t, Task, run>;

  Napi::Env env_;
  Function function_;
  int holds_ = 0;
  bool open_ = true;
};

}  // namespace pm::addon

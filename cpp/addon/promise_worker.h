// Base of every function that works on a pool thread and answers with a promise. A subclass writes
// execute() (no JavaScript) and result() (JavaScript thread), and keeps alive what both touch.
#pragma once

#include <napi.h>

#include "addon/convert.h"
#include "core/result.h"

namespace pm::addon {

class PromiseWorker : public Napi::AsyncWorker {
 public:
  explicit PromiseWorker(Napi::Env env)
      : Napi::AsyncWorker(env), deferred_(Napi::Promise::Deferred::New(env)) {}

  // Starts `worker`, which deletes itself, and returns its promise.
  static Napi::Promise start(PromiseWorker* worker) {
    const Napi::Promise promise = worker->deferred_.Promise();
    worker->Queue();
    return promise;
  }

 protected:
  virtual Status execute() = 0;
  virtual Napi::Value result(Napi::Env env) = 0;

 private:
  void Execute() final { status_ = execute(); }
  void OnOK() final {
    if (!status_) return deferred_.Reject(to_js_error(Env(), status_.error()));
    try {
      deferred_.Resolve(result(Env()));
    } catch (const Napi::Error& error) {
      deferred_.Reject(error.Value());
    }
  }
  void OnError(const Napi::Error& error) final { deferred_.Reject(error.Value()); }

  Napi::Promise::Deferred deferred_;
  Status status_;
};

}  // namespace pm::addon

#include "addon/js_thread.h"

namespace pm::addon {

JsThread::JsThread(Napi::Env env, const char* name)
    : env_(env), function_(Function::New(env, name, 0, 1)) {
  function_.Unref(env_);
}

void JsThread::run(Napi::Env env, Napi::Function, std::nullptr_t*, Task* task) {
  const std::unique_ptr<Task> owned(task);
  // A null env means the environment is being torn down: nothing may touch JavaScript any more.
  if (static_cast<napi_env>(env) != nullptr) (*owned)(env);
}

void JsThread::post(Task task) {
  auto owned = std::make_unique<Task>(std::move(task));
  if (function_.NonBlockingCall(owned.get()) == napi_ok) owned.release();
}

void JsThread::hold() {
  if (holds_++ == 0 && open_) function_.Ref(env_);
}

void JsThread::release_hold() {
  if (--holds_ == 0 && open_) function_.Unref(env_);
}

void JsThread::close() {
  if (!open_) return;
  open_ = false;
  function_.Release();
}

}  // namespace pm::addon

#include "addon/js_thread.h"

namespace pm::addon {

JsThread::JsThread(Napi::Env env, const char* name) : env_(env) {
  auto* kept = new std::shared_ptr<State>(state_);
  const auto on_finalize = [](Napi::Env, std::shared_ptr<State>* state, std::nullptr_t*) {
    {
      std::lock_guard lock((*state)->mutex);
      (*state)->open = false;
    }
    delete state;
  };
  function_ =
      Function::New(env, name, 0, 1, static_cast<std::nullptr_t*>(nullptr), on_finalize, kept);
  function_.Unref(env_);
}

void JsThread::run(Napi::Env env, Napi::Function, std::nullptr_t*, Task* task) {
  const std::unique_ptr<Task> owned(task);
  // A null env means the environment is being torn down: nothing may touch JavaScript any more.
  if (static_cast<napi_env>(env) == nullptr) return;
  try {
    (*owned)(env);
  } catch (const Napi::Error& error) {
    // A worker that is being terminated refuses every call into JavaScript: nothing is left to tell
    // anybody. Anything else is a fault of our own layer and must not pass unseen.
    const napi_value value = error.Value();
    if (value != nullptr && error.Value().IsObject()) napi_fatal_exception(env, value);
  }
}

void JsThread::post(Task task) {
  auto owned = std::make_unique<Task>(std::move(task));
  std::lock_guard lock(state_->mutex);
  if (state_->open && function_.NonBlockingCall(owned.get()) == napi_ok) owned.release();
}

void JsThread::hold() {
  std::lock_guard lock(state_->mutex);
  if (holds_++ == 0 && state_->open) function_.Ref(env_);
}

void JsThread::release_hold() {
  std::lock_guard lock(state_->mutex);
  if (--holds_ == 0 && state_->open) function_.Unref(env_);
}

bool JsThread::is_open() const {
  std::lock_guard lock(state_->mutex);
  return state_->open;
}

void JsThread::close() {
  std::lock_guard lock(state_->mutex);
  if (!state_->open) return;
  state_->open = false;
  function_.Release();
}

}  // namespace pm::addon

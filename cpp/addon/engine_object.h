// The JavaScript class NativeEngine (lib/native/binding.ts) over an EngineCore.
#pragma once

#include <napi.h>

#include "addon/engine_core.h"
#include "addon/js_thread.h"

namespace pm::addon {

class EngineObject : public Napi::ObjectWrap<EngineObject> {
 public:
  static Napi::Function define(Napi::Env env);
  // Called by native code only, with an External<std::shared_ptr<EngineCore>> and the callback.
  explicit EngineObject(const Napi::CallbackInfo& info);
  ~EngineObject() override;

  // loadEngine(options, cancel, onEvents, onProgress): Promise<NativeEngine>
  static Napi::Value load(const Napi::CallbackInfo& info);

 private:
  // info(): string
  Napi::Value info(const Napi::CallbackInfo& info);
  // stats(): string
  Napi::Value stats(const Napi::CallbackInfo& info);
  // submit(request): void
  Napi::Value submit(const Napi::CallbackInfo& info);
  // cancel(id): void
  Napi::Value cancel(const Napi::CallbackInfo& info);
  // finish(id): void
  Napi::Value finish(const Napi::CallbackInfo& info);
  // toolResult(id, callId, content): void
  Napi::Value tool_result(const Napi::CallbackInfo& info);
  // tokenize(text, addSpecial, parseSpecial): Promise<Int32Array>
  Napi::Value tokenize(const Napi::CallbackInfo& info);
  // detokenize(ids): Promise<string>
  Napi::Value detokenize(const Napi::CallbackInfo& info);
  // score(text, cancel): Promise<{ tokens, logprobs }>
  Napi::Value score(const Napi::CallbackInfo& info);
  Napi::Value save_prefix(const Napi::CallbackInfo& info);
  Napi::Value load_prefix(const Napi::CallbackInfo& info);
  Napi::Value kv_pages(const Napi::CallbackInfo& info);
  // embed(text, cancel): Promise<Float32Array>
  Napi::Value embed(const Napi::CallbackInfo& info);
  // dispose(): Promise<void>
  Napi::Value dispose(const Napi::CallbackInfo& info);

  std::shared_ptr<Engine> live_engine(Napi::Env env) const;
  template <typename T>
  struct Pending {
    Napi::Promise promise;
    std::function<void(Result<T>)> settle;
  };
  template <typename T, typename ToJs>
  Pending<T> pending(Napi::Env env, ToJs to_js);
  template <typename T, typename ToJs>
  Napi::Value run_job(Napi::Env env,
                      EngineJob (*make)(std::shared_ptr<llama::Model>, std::string, CancelTokenPtr,
                                        std::function<void(Result<T>)>),
                      std::string text, CancelTokenPtr cancel, ToJs to_js);
  static void on_environment_exit(void* self);

  std::shared_ptr<EngineCore> core_;
  std::shared_ptr<JsThread> js_;
  // References belong to the JavaScript thread: native threads only hold weak pointers to it.
  std::shared_ptr<Napi::FunctionReference> on_events_;
  // Node's own function, not node-addon-api's wrapper: that one frees itself when it has run and
  // again when it is removed later.
  bool exit_hook_set_ = false;
};

}  // namespace pm::addon

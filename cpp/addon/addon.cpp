// Exports of the addon. Each has its TypeScript signature beside it; lib/native/binding.ts declares
// the same names.
#include <napi.h>

#include "addon/build_info.h"
#include "addon/cancel_token.h"
#include "addon/engine_object.h"
#include "addon/inspect.h"
#include "addon/instance_data.h"

namespace pm::addon {
namespace {

// createCancelToken(): NativeCancelToken
Napi::Value create_cancel_token(const Napi::CallbackInfo& info) {
  return InstanceData::of(info.Env()).cancel_token_class.New({});
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto* data = new InstanceData();
  data->engine_class = Napi::Persistent(EngineObject::define(env));
  data->cancel_token_class = Napi::Persistent(CancelTokenObject::define(env));
  env.SetInstanceData(data);  // takes ownership

  // buildInfo(): NativeBuildInfo
  exports["buildInfo"] = Napi::Function::New<build_info>(env, "buildInfo");
  exports["createCancelToken"] = Napi::Function::New<create_cancel_token>(env, "createCancelToken");
  // inspectGguf(path): Promise<string>
  exports["inspectGguf"] = Napi::Function::New<inspect_gguf>(env, "inspectGguf");
  // loadEngine(options, cancel, onEvents, onProgress): Promise<NativeEngine>
  exports["loadEngine"] = Napi::Function::New<EngineObject::load>(env, "loadEngine");
  return exports;
}

}  // namespace
}  // namespace pm::addon

static Napi::Object init_addon(Napi::Env env, Napi::Object exports) {
  return pm::addon::init(env, exports);
}

NODE_API_MODULE(polymind_native, init_addon)

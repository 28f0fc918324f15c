// What belongs to one JavaScript environment (the main thread, or one worker): nothing is global.
#pragma once

#include <napi.h>

namespace pm::addon {

struct InstanceData {
  Napi::FunctionReference engine_class;
  Napi::FunctionReference cancel_token_class;

  static InstanceData& of(Napi::Env env) { return *env.GetInstanceData<InstanceData>(); }
};

}  // namespace pm::addon

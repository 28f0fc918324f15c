#pragma once

#include <napi.h>

namespace pm::addon {

// buildInfo(): NativeBuildInfo
Napi::Value build_info(const Napi::CallbackInfo& info);

}  // namespace pm::addon

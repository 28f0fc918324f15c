#pragma once

#include <napi.h>

namespace pm::addon {

// inspectGguf(path): Promise<string>
Napi::Value inspect_gguf(const Napi::CallbackInfo& info);

}  // namespace pm::addon

// JavaScript values ↔ native values. Arguments come validated from lib/; what is checked here is
// only what would corrupt memory.
#pragma once

#include <napi.h>

#include "core/error.h"
#include "engines/llama/model.h"
#include "scheduler/request.h"

namespace pm::addon {

// Error with `code` and `details` (JSON string).
Napi::Value to_js_error(Napi::Env env, const Error& error);
// Throws the same into JavaScript.
[[noreturn]] void throw_error(Napi::Env env, const Error& error);

RequestPtr to_request(const Napi::Object& object);
llama::LoadOptions to_load_options(const Napi::Object& object);
Napi::Array to_js_events(Napi::Env env, const EventBatch& events);
bool is_terminal(const Event& event);

}  // namespace pm::addon

// JavaScript's handle on a CancelToken.
#pragma once

#include <napi.h>

#include "core/cancel.h"

namespace pm::addon {

class CancelTokenObject : public Napi::ObjectWrap<CancelTokenObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit CancelTokenObject(const Napi::CallbackInfo& info);
  // The token behind an argument; throws MM_INVALID_REQUEST for anything else.
  static CancelTokenPtr unwrap_token(const Napi::Value& value);

 private:
  // cancel(): void
  Napi::Value cancel(const Napi::CallbackInfo& info);

  CancelTokenPtr token_ = std::make_shared<CancelToken>();
};

}  // namespace pm::addon

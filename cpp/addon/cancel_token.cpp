#include "addon/cancel_token.h"

#include "addon/convert.h"
#include "addon/type_tags.h"

namespace pm::addon {

Napi::Function CancelTokenObject::define(Napi::Env env) {
  return DefineClass(env, "NativeCancelToken",
                     {InstanceMethod<&CancelTokenObject::cancel>("cancel")});
}

CancelTokenObject::CancelTokenObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  info.This().As<Napi::Object>().TypeTag(&kCancelTokenTag);
}

CancelTokenPtr CancelTokenObject::unwrap_token(const Napi::Value& value) {
  if (value.IsObject()) {
    const auto object = value.As<Napi::Object>();
    if (object.CheckTypeTag(&kCancelTokenTag)) return Unwrap(object)->token_;
  }
  throw_error(value.Env(), {ErrorCode::kInvalidRequest,
                            "expected a NativeCancelToken, found another kind of value"});
}

Napi::Value CancelTokenObject::cancel(const Napi::CallbackInfo& info) {
  token_->cancel();
  return info.Env().Undefined();
}

}  // namespace pm::addon

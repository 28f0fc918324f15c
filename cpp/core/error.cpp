#include "core/error.h"

namespace pm {

const char* code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidRequest:
      return "MM_INVALID_REQUEST";
    case ErrorCode::kMediaInvalid:
      return "MM_MEDIA_INVALID";
    case ErrorCode::kContextOverflow:
      return "MM_CONTEXT_OVERFLOW";
    case ErrorCode::kToolFailed:
      return "MM_TOOL_FAILED";
    case ErrorCode::kModelInvalid:
      return "MM_MODEL_INVALID";
    case ErrorCode::kModelNotFound:
      return "MM_MODEL_NOT_FOUND";
    case ErrorCode::kAbiMismatch:
      return "MM_ABI_MISMATCH";
    case ErrorCode::kOutOfMemory:
      return "MM_OUT_OF_MEMORY";
    case ErrorCode::kEngineUnavailable:
      return "MM_ENGINE_UNAVAILABLE";
    case ErrorCode::kDeviceLost:
      return "MM_DEVICE_LOST";
    case ErrorCode::kCancelled:
      return "MM_CANCELLED";
    case ErrorCode::kTimeout:
      return "MM_TIMEOUT";
    case ErrorCode::kDisposed:
      return "MM_DISPOSED";
    case ErrorCode::kInternal:
      return "MM_INTERNAL";
  }
  return "MM_INTERNAL";
}

}  // namespace pm

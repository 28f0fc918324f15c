// Errors of the C++ core. No exception crosses a module line; a failure is a value that the addon
// turns, once, into an MMError with a stable code.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace pm {

// Grouped into families so that callers can react to a kind of failure; `code_name` gives the
// public MM_* string. Adding a code means adding it to lib/errors.ts as well.
enum class ErrorCode {
  // The request or its inputs are at fault.
  kInvalidRequest,
  kMediaInvalid,
  kContextOverflow,
  kToolFailed,
  // The model files are at fault.
  kModelInvalid,
  kModelNotFound,
  kAbiMismatch,
  // Resources.
  kOutOfMemory,
  kEngineUnavailable,
  kDeviceLost,
  // The run was ended from outside.
  kCancelled,
  kTimeout,
  kDisposed,
  // Ours.
  kInternal,
};

const char* code_name(ErrorCode code);

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  // Says expected, where, actual. Never holds addresses or paths the caller did not give.
  std::string message;
  // Machine-readable facts, e.g. {"expected", "..."}, shown as `error.details`.
  std::vector<std::pair<std::string, std::string>> details = {};
};

}  // namespace pm

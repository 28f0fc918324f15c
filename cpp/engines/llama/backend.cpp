#include "engines/llama/backend.h"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <stdexcept>

#include "ggml.h"
#include "llama.h"
#include "log.h"
#include "mtmd-helper.h"

namespace pm::llama {
namespace {

thread_local LogCapture* innermost_capture = nullptr;
thread_local int guard_depth = 0;

bool log_to_stderr() {
  static const bool enabled = [] {
    const char* value = std::getenv("POLYMIND_LOG");
    return value != nullptr && *value != '\0' && *value != '0';
  }();
  return enabled;
}

void on_log(ggml_log_level level, const char* text, void*) { log_line(level, text); }

// ggml calls this instead of printing when an assertion fails, then aborts unless we throw.
void on_abort(const char* message) {
  if (guard_depth > 0) throw std::runtime_error(message);
  std::fprintf(stderr, "polymind-native: assertion inside ggml: %s\n", message);
}

}  // namespace

void log_line(int level, const char* text) {
  if (log_to_stderr()) std::fputs(text, stderr);
  if (level != GGML_LOG_LEVEL_ERROR || innermost_capture == nullptr) return;
  std::string& errors = innermost_capture->errors_;
  if (errors.size() < 4096) errors += text;
}

void init_backend() {
  static std::once_flag once;
  std::call_once(once, [] {
    ggml_set_abort_callback(on_abort);
    llama_log_set(on_log, nullptr);
    mtmd_helper_log_set(on_log, nullptr);
    // llama.cpp's "common" logs on a thread of its own once anything passes the threshold.
    common_log_set_verbosity_thold(-1);
    llama_backend_init();
  });
}

LogCapture::LogCapture() : outer_(innermost_capture) { innermost_capture = this; }
LogCapture::~LogCapture() { innermost_capture = outer_; }

std::string LogCapture::reason(const std::string& fallback) const {
  // The first line names the cause, the later ones its consequences.
  std::string line = errors_.substr(0, errors_.find('\n'));
  if (line.empty()) return fallback;
  return line.size() > 500 ? line.substr(0, 500) + "…" : line;
}

namespace {

Status run_at_depth(int depth, ErrorCode code, const std::string& what,
                    const std::function<Status()>& body) {
  struct Restore {
    int before = guard_depth;
    ~Restore() { guard_depth = before; }
  } restore;
  guard_depth = depth;
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kOutOfMemory, what + ": out of memory"};
  } catch (const std::exception& e) {
    return Error{code, what + ": " + e.what()};
  }
}

}  // namespace

Status guarded(ErrorCode code, const std::string& what, const std::function<Status()>& body) {
  return run_at_depth(1, code, what, body);
}

Status caught(ErrorCode code, const std::string& what, const std::function<Status()>& body) {
  return run_at_depth(0, code, what, body);
}

}  // namespace pm::llama

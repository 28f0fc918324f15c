// Process-wide set-up of llama.cpp: initialisation, logging, and turning its assertions into
// errors.
#pragma once

#include <functional>
#include <string>

#include "core/result.h"

namespace pm::llama {

// Safe to call any number of times from any thread.
void init_backend();

// Takes one line of llama.cpp's log; POLYMIND_LOG=1 prints it.
void log_line(int level, const char* text);

// Collects what llama.cpp reports as errors on this thread while it lives, so that a failure can
// say why. Nest freely; the innermost collects.
class LogCapture {
 public:
  LogCapture();
  ~LogCapture();
  LogCapture(const LogCapture&) = delete;
  LogCapture& operator=(const LogCapture&) = delete;
  // The last error lines, or `fallback` where there were none.
  std::string reason(const std::string& fallback) const;

 private:
  friend void log_line(int level, const char* text);
  LogCapture* outer_;
  std::string errors_;
};

// Runs `body` with exceptions and failed GGML assertions turned into an Error with `code`.
// Only for work on the calling thread: an assertion inside a compute graph must not unwind.
Status guarded(ErrorCode code, const std::string& what, const std::function<Status()>& body);

// The same for work that evaluates a graph: exceptions become errors, a failed assertion still ends
// the process, because the other threads of the graph would be left waiting at a barrier.
Status caught(ErrorCode code, const std::string& what, const std::function<Status()>& body);

}  // namespace pm::llama

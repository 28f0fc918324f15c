// Everything behind one engine handle, and the order in which it comes up and goes down.
//
// Lifetime rules:
//  1. open() runs on a pool thread and touches no JavaScript; start() joins it to the JavaScript
//     thread; only then do events flow.
//  2. shutdown() stops and joins the engine thread. It is called by dispose(), by the finalizer,
//     and when the environment goes away (a worker is terminated in mid-run); once is enough.
//  3. The JsThread is closed after shutdown(), on the JavaScript thread, so the last events arrive.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "addon/js_thread.h"
#include "engines/llama/media_encoder.h"
#include "engines/llama/runner.h"
#include "scheduler/engine.h"

namespace pm::addon {

class EngineCore {
 public:
  static Result<std::shared_ptr<EngineCore>> open(const llama::LoadOptions& options);

  void start(std::shared_ptr<JsThread> js, EventSink sink);
  void shutdown();

  // Null after shutdown().
  std::shared_ptr<Engine> engine() const;
  const std::shared_ptr<llama::Model>& model() const { return model_; }
  std::string info_json() const { return info_json_; }
  std::string stats_json() const;

 private:
  EngineCore() = default;
  std::string describe() const;

  llama::LoadOptions options_;
  std::shared_ptr<llama::Model> model_;
  std::shared_ptr<llama::MediaEncoder> encoder_;
  std::unique_ptr<llama::Runner> runner_;  // until start()
  std::unique_ptr<llama::ChatPrompt> chat_;
  std::string info_json_;
  size_t kv_bytes_per_token_ = 0;

  mutable std::mutex mutex_;
  std::shared_ptr<Engine> engine_;
  EngineStats last_stats_;
};

}  // namespace pm::addon

// Everything behind one engine handle, and the order in which it comes up and goes down.
//
// Lifetime rules:
//  1. open() runs on a pool thread and touches no JavaScript. Events flow from start() on.
//  2. shutdown() stops and joins the engine thread. It is called by dispose(), by the finalizer,
//     and when the environment goes away (a worker is terminated in mid-run); once is enough.
//     Weights and caches are freed by it, not by the garbage collector.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "engines/llama/chat_prompt.h"
#include "engines/llama/media_encoder.h"
#include "engines/llama/runner.h"
#include "scheduler/engine.h"

namespace pm::addon {

class EngineCore {
 public:
  static Result<std::shared_ptr<EngineCore>> open(const llama::LoadOptions& options);

  void start(EventSink sink);
  void shutdown();

  // Null after shutdown().
  std::shared_ptr<Engine> engine() const;
  // Null after shutdown().
  std::shared_ptr<llama::Model> model() const;
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

  mutable std::mutex mutex_;
  std::shared_ptr<Engine> engine_;
  // What stats_json() shows after shutdown().
  EngineStats last_stats_;
  llama::EncoderCache::Counters last_media_;
};

}  // namespace pm::addon

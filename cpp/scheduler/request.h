// A generation request, complete: JavaScript has settled types, ranges and defaults.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "scheduler/events.h"
#include "scheduler/model_runner.h"

namespace pm {

using Clock = std::chrono::steady_clock;

struct MediaInput {
  bool is_audio = false;
  uint32_t width = 0;
  uint32_t height = 0;
  // Image: RGB, row-major. Audio: a whole file.
  std::vector<uint8_t> data;
  // Content hash, key of the encoder-output cache.
  std::string digest;
};

struct SamplingParams {
  float temperature = 0;
  float top_p = 1;
  int32_t top_k = 0;
  float min_p = 0;
  uint32_t seed = 0;
  std::string grammar;
  std::string json_schema;
};

struct Request {
  RequestId id = 0;
  std::string messages;  // JSON, see lib/native/binding.ts
  std::string tools;     // JSON or empty
  std::vector<MediaInput> media;
  bool cot = false;
  SamplingParams sampling;
  std::vector<std::string> stop;
  int64_t max_tokens = 0;  // 0 = until the context is full
  double budget_ms = 0;    // 0 = no limit

  CancelTokenPtr cancel = std::make_shared<CancelToken>();
  Clock::time_point submitted = Clock::now();
};

using RequestPtr = std::shared_ptr<Request>;

struct PreparedPrompt {
  Prompt prompt;
  bool starts_in_reasoning = false;
  double encode_ms = 0;
  std::unique_ptr<TokenSampler> sampler;
  // Digests of the prompt's pages; none if the memory keeps no prefixes.
  std::optional<DigestChain> chain;
};

struct ToolAnswer {
  std::vector<Token> tokens;
  bool starts_in_reasoning = false;
};

// Turns requests into prompts, off the engine thread.
class PromptPreparer {
 public:
  virtual ~PromptPreparer() = default;
  virtual Result<PreparedPrompt> prepare(const Request& request) = 0;
  // The tokens that answer an open tool call: the result and what the chat template puts around
  // it, up to where generation goes on. `call_body` is what the model wrote between the tags.
  virtual Result<ToolAnswer> tool_answer(const Request& request, const std::string& call_body,
                                         const std::string& content) = 0;
};

}  // namespace pm

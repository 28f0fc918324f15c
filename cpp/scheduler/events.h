// What a request tells the outside. One vector of these leaves the engine thread per step.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/error.h"

namespace pm {

using RequestId = int32_t;

struct Usage {
  int64_t input_tokens = 0;
  int64_t output_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t image_tokens = 0;
  int64_t audio_tokens = 0;
};

// Milliseconds, except the rate.
struct Timings {
  double queue_ms = 0;    // submitted → admitted, without encoding
  double encode_ms = 0;   // media encoder, including waiting for its thread
  double prefill_ms = 0;  // admitted → first logits
  double ttft_ms = 0;     // submitted → first output token
  double decode_ms = 0;   // first output token → end, without waiting for tools
  double tokens_per_second = 0;
};

enum class EventType { kStart, kText, kReasoning, kToolCall, kFinish, kError };
enum class FinishReason { kStop, kLength, kBudget };

struct Event {
  RequestId id = 0;
  EventType type = EventType::kText;
  std::string text;     // kText, kReasoning; kToolCall: body; kFinish: unfinished tool call
  std::string call_id;  // kToolCall
  FinishReason reason = FinishReason::kStop;
  Error error;
  Usage usage;
  Timings timings;
};

using EventBatch = std::vector<Event>;

}  // namespace pm

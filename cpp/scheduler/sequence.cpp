#include "scheduler/sequence.h"

#include <algorithm>

namespace pm {
namespace {

double ms_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

}  // namespace

Timings Sequence::timings(Clock::time_point now) const {
  Timings t;
  t.encode_ms = encode_ms;
  const bool was_admitted = admitted != Clock::time_point{};
  t.queue_ms =
      std::max(0.0, ms_between(request->submitted, was_admitted ? admitted : now) - encode_ms);
  if (!was_admitted) return t;
  t.prefill_ms = ms_between(admitted, has_first_token ? first_token : now);
  if (!has_first_token) return t;
  t.ttft_ms = ms_between(request->submitted, first_token);
  double waited = tool_wait_ms;
  if (phase == Phase::kToolWait || phase == Phase::kAnswerWait) {
    waited += ms_between(tool_wait_start, now);
  }
  t.decode_ms = std::max(0.0, ms_between(first_token, now) - waited);
  // The first token came out of prefill: the rate counts the others.
  if (t.decode_ms > 0 && usage.output_tokens > 1) {
    t.tokens_per_second = 1000.0 * static_cast<double>(usage.output_tokens - 1) / t.decode_ms;
  }
  return t;
}

}  // namespace pm

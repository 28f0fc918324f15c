// The state of one request while the engine thread owns it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "scheduler/request.h"
#include "scheduler/text_stream.h"

namespace pm {

// Preparing → Waiting → Prefill → Decode → done, with Decode → ToolWait → AnswerWait → Prefill for
// every tool call.
enum class Phase { kPreparing, kWaiting, kPrefill, kDecode, kToolWait, kAnswerWait };

struct Sequence {
  explicit Sequence(RequestPtr r) : request(std::move(r)), stream(request->stop, false) {}

  RequestPtr request;
  Phase phase = Phase::kPreparing;
  SeqId seq = -1;  // -1: holds no slot

  // What the KV cache holds of this sequence, whole chunks: computed again after a preemption.
  Prompt history;
  // Digests of `history` and `prompt`; none if the memory keeps no prefixes.
  std::optional<DigestChain> chain;
  Prompt prompt;          // what is still to be evaluated
  size_t chunk = 0;       // index of the chunk being evaluated
  size_t offset = 0;      // tokens of that chunk already evaluated
  Pos pos = 0;            // position of the next token
  size_t kv_tokens = 0;   // tokens of this sequence in the KV cache
  Token next_token = -1;  // sampled, not yet evaluated

  std::unique_ptr<TokenSampler> sampler;
  TextStream stream;

  int64_t calls = 0;
  std::string call_id;
  std::string call_body;
  std::vector<Token> answer;    // waiting for memory
  bool answer_reasons = false;  // the template opens <think> again after it

  Usage usage;
  double encode_ms = 0;
  Clock::time_point admitted{};
  Clock::time_point first_token{};
  Clock::time_point tool_wait_start{};
  double tool_wait_ms = 0;
  bool has_first_token = false;
  bool started = false;  // the start event has been sent

  RequestId id() const { return request->id; }
  bool in_prompt() const { return chunk < prompt.size(); }
  const PromptChunk& current() const { return prompt[chunk]; }
  size_t current_remaining() const { return current().size() - offset; }
  bool at_media() const { return in_prompt() && current().media != nullptr; }

  // Tokens the prompt still brings.
  size_t prompt_tokens() const {
    size_t total = 0;
    for (size_t i = chunk; i < prompt.size(); ++i) total += prompt[i].size();
    return in_prompt() ? total - offset : 0;
  }

  // The next `tokens` of the current chunk are in the KV cache.
  void consumed(size_t tokens);
  // The token that was sampled last is in the KV cache.
  void consumed_next_token();
  // Page digests to look for: all but the page of the last token, which must be evaluated.
  std::span<const Digest> lookup() const;
  // The most pages, at most `pages`, that the prompt can be continued after: no page boundary lies
  // inside a medium that cannot be divided.
  size_t usable_pages(size_t pages) const;
  // The first `tokens` of the prompt are in the KV cache already.
  void skip(size_t tokens);
  // Everything is to be evaluated again. A token that was sampled is part of it.
  void rewind();

  Timings timings(Clock::time_point now) const;
};

}  // namespace pm

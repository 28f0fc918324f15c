#include "scheduler/sequence.h"

#include <algorithm>

namespace pm {
namespace {

double ms_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

void append_tokens(Prompt& prompt, std::span<const Token> tokens) {
  if (tokens.empty()) return;
  if (prompt.empty() || prompt.back().media) prompt.emplace_back();
  auto& all = prompt.back().tokens;
  all.insert(all.end(), tokens.begin(), tokens.end());
}

}  // namespace

void Sequence::consumed(size_t tokens) {
  const PromptChunk& source = current();
  if (!source.media) append_tokens(history, std::span(source.tokens).subspan(offset, tokens));
  offset += tokens;
  kv_tokens += tokens;
  if (offset < source.size()) return;
  if (source.media) history.push_back(source);
  offset = 0;
  ++chunk;
}

void Sequence::consumed_next_token() {
  ++kv_tokens;
  append_tokens(history, {&next_token, 1});
  if (chain) chain->add_token(next_token);
}

std::span<const Digest> Sequence::lookup() const {
  if (!chain) return {};
  const auto pages = chain->lookup();
  return pages.first(usable_pages(pages.size()));
}

size_t Sequence::usable_pages(size_t pages) const {
  for (bool inside = true; inside;) {
    inside = false;
    size_t start = 0;
    const size_t cut = pages * kPageTokens;
    for (const PromptChunk& part : prompt) {
      const size_t end = start + part.size();
      if (part.media && !part.media->divisible && start < cut && cut < end) {
        pages = start / kPageTokens;
        inside = true;
        break;
      }
      start = end;
    }
  }
  return pages;
}

void Sequence::skip(size_t tokens) {
  while (tokens > 0) {
    const size_t size = std::min(tokens, current_remaining());
    const auto& media = current().media;
    const bool whole = media && offset == 0 && size == media->token_count;
    pos += whole ? media->positions : static_cast<Pos>(size);
    consumed(size);
    tokens -= size;
  }
}

void Sequence::rewind() {
  Prompt all = std::move(history);
  if (in_prompt()) {
    // Of a medium that was evaluated in part, history has nothing.
    if (at_media()) {
      all.push_back(current());
    } else {
      append_tokens(all, std::span(current().tokens).subspan(offset));
    }
    for (size_t i = chunk + 1; i < prompt.size(); ++i) {
      if (prompt[i].media) {
        all.push_back(std::move(prompt[i]));
      } else {
        append_tokens(all, prompt[i].tokens);
      }
    }
  } else if (phase == Phase::kDecode) {
    append_tokens(all, {&next_token, 1});
    if (chain) chain->add_token(next_token);
    next_token = -1;
  }
  prompt = std::move(all);
  history.clear();
  chunk = 0;
  offset = 0;
  pos = 0;
  kv_tokens = 0;
}

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

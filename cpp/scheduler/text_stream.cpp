#include "scheduler/text_stream.h"

#include <algorithm>

#include "core/utf8.h"

namespace pm {
namespace {

constexpr std::string_view kToolOpen = "<tool_call>";
constexpr std::string_view kToolClose = "</tool_call>";
constexpr std::string_view kThinkOpen = "<think>";
constexpr std::string_view kThinkClose = "</think>";

// Length of the longest suffix of `text` that is a proper prefix of `target`.
size_t held_back(std::string_view text, std::string_view target) {
  for (size_t length = std::min(text.size(), target.size() - 1); length > 0; --length) {
    if (text.substr(text.size() - length) == target.substr(0, length)) return length;
  }
  return 0;
}

}  // namespace

TextStream::TextStream(std::vector<std::string> stops, bool starts_in_reasoning)
    : stops_(std::move(stops)), mode_(starts_in_reasoning ? Mode::kReasoning : Mode::kText) {}

void TextStream::feed(std::string_view bytes, std::vector<Segment>& out) {
  if (stopped_) return;
  pending_ += bytes;
  if (!waits_for_tool_) advance(out);
}

void TextStream::resume(bool in_reasoning, std::vector<Segment>& out) {
  waits_for_tool_ = false;
  if (in_reasoning) mode_ = Mode::kReasoning;
  advance(out);
}

void TextStream::flush(std::vector<Segment>& out) {
  if (!stopped_ && mode_ != Mode::kToolCall) {
    const auto kind = mode_ == Mode::kReasoning ? Segment::Kind::kReasoning : Segment::Kind::kText;
    emit(kind, pending_.size(), out);
  }
}

void TextStream::advance(std::vector<Segment>& out) {
  bool changed_mode = true;
  while (changed_mode && !stopped_ && !waits_for_tool_ && !pending_.empty()) {
    switch (mode_) {
      case Mode::kText:
        changed_mode = advance_text(out);
        break;
      case Mode::kReasoning:
        changed_mode = advance_until(kThinkClose, Segment::Kind::kReasoning, out);
        break;
      case Mode::kToolCall:
        changed_mode = advance_until(kToolClose, Segment::Kind::kToolCall, out);
        break;
    }
  }
}

// Reports text up to the first tag or stop string. True if the mode changed.
bool TextStream::advance_text(std::vector<Segment>& out) {
  size_t first = std::string::npos;
  std::string_view match;
  size_t hold = 0;
  const auto consider = [&](std::string_view target) {
    const size_t at = pending_.find(target);
    if (at < first) {
      first = at;
      match = target;
    }
    hold = std::max(hold, held_back(pending_, target));
  };
  // Stop strings first: at the same place they win over a tag.
  for (const auto& stop : stops_) consider(stop);
  consider(kToolOpen);
  consider(kThinkOpen);

  if (first == std::string::npos) {
    const size_t certain =
        complete_utf8_prefix(std::string_view(pending_).substr(0, pending_.size() - hold));
    emit(Segment::Kind::kText, certain, out);
    return false;
  }
  // By address: a stop string may spell a tag, and stops.
  const bool is_tool = match.data() == kToolOpen.data();
  const bool is_think = match.data() == kThinkOpen.data();
  const size_t length = match.size();
  emit(Segment::Kind::kText, first, out);
  pending_.erase(0, length);
  if (is_tool) {
    mode_ = Mode::kToolCall;
  } else if (is_think) {
    mode_ = Mode::kReasoning;
  } else {
    stopped_ = true;
    pending_.clear();
  }
  return true;
}

// Inside reasoning or a tool call: only the closing tag counts. True if the mode changed.
bool TextStream::advance_until(std::string_view tag, Segment::Kind kind,
                               std::vector<Segment>& out) {
  const size_t at = pending_.find(tag);
  if (at == std::string::npos) {
    if (kind == Segment::Kind::kReasoning) {
      const size_t hold = held_back(pending_, tag);
      emit(kind, complete_utf8_prefix(std::string_view(pending_).substr(0, pending_.size() - hold)),
           out);
    }
    return false;
  }
  emit(kind, at, out);
  pending_.erase(0, tag.size());
  waits_for_tool_ = kind == Segment::Kind::kToolCall;
  mode_ = Mode::kText;
  return true;
}

void TextStream::emit(Segment::Kind kind, size_t bytes, std::vector<Segment>& out) {
  if (bytes == 0 && kind != Segment::Kind::kToolCall) return;
  std::string text = sanitize_utf8(std::string_view(pending_).substr(0, bytes));
  pending_.erase(0, bytes);
  if (kind != Segment::Kind::kToolCall && !out.empty() && out.back().kind == kind) {
    out.back().text += text;
  } else {
    out.push_back({kind, std::move(text)});
  }
}

}  // namespace pm

// Turns the bytes of generated tokens into text, reasoning and tool-call segments: completes UTF-8
// characters, stops at stop strings, and never lets part of a tag or stop string out early.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pm {

struct Segment {
  enum class Kind { kText, kReasoning, kToolCall };
  Kind kind;
  std::string text;
};

class TextStream {
 public:
  // `stops`: non-empty strings. `starts_in_reasoning`: the prompt has already opened <think>.
  TextStream(std::vector<std::string> stops, bool starts_in_reasoning);

  // Appends what has become certain to `out`. After a complete tool call the rest is kept until
  // resume(), because the answer to the call comes first.
  void feed(std::string_view bytes, std::vector<Segment>& out);
  // Continues after a tool call was answered; `in_reasoning`: the answer's prompt has opened
  // <think>.
  void resume(bool in_reasoning, std::vector<Segment>& out);
  // End of generation: lets go of everything that was held back.
  void flush(std::vector<Segment>& out);

  // A stop string was met; nothing after it is reported.
  bool stopped() const { return stopped_; }
  bool waits_for_tool() const { return waits_for_tool_; }
  // Body of a tool call that is still open, else empty.
  std::string unfinished_tool_call() const { return mode_ == Mode::kToolCall ? pending_ : ""; }

 private:
  enum class Mode { kText, kReasoning, kToolCall };

  void advance(std::vector<Segment>& out);
  bool advance_text(std::vector<Segment>& out);
  bool advance_until(std::string_view tag, Segment::Kind kind, std::vector<Segment>& out);
  void emit(Segment::Kind kind, size_t bytes, std::vector<Segment>& out);

  std::vector<std::string> stops_;
  Mode mode_;
  std::string pending_;
  bool stopped_ = false;
  bool waits_for_tool_ = false;
};

}  // namespace pm

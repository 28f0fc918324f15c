#include "scheduler/text_stream.h"

#include <gtest/gtest.h>

#include <random>

namespace pm {
namespace {

using Kind = Segment::Kind;

// Feeds `text` in pieces of `size` bytes and joins neighbours of one kind.
struct Outcome {
  std::string text;
  std::string reasoning;
  std::vector<std::string> calls;
};

void add(Outcome& outcome, const std::vector<Segment>& segments) {
  for (const auto& segment : segments) {
    if (segment.kind == Kind::kText) outcome.text += segment.text;
    if (segment.kind == Kind::kReasoning) outcome.reasoning += segment.text;
    if (segment.kind == Kind::kToolCall) outcome.calls.push_back(segment.text);
  }
}

Outcome run(TextStream& stream, const std::string& text, size_t size) {
  Outcome outcome;
  for (size_t at = 0; at < text.size(); at += size) {
    std::vector<Segment> out;
    stream.feed(text.substr(at, size), out);
    add(outcome, out);
    if (stream.waits_for_tool()) {
      out.clear();
      stream.resume(false, out);
      add(outcome, out);
    }
  }
  std::vector<Segment> out;
  stream.flush(out);
  add(outcome, out);
  return outcome;
}

TEST(TextStream, ResultDoesNotDependOnHowBytesArrive) {
  const std::string text =
      "Hi <b>x</b> \xE2\x82\xAC<think>why < because</think>so "
      "<tool_call>{\"tool\":\"a\",\"args\":{}}</tool_call>then <tool_call>2</tool_call> <tool_ca";
  for (size_t size = 1; size <= text.size(); ++size) {
    TextStream stream({"STOP", "\n\n"}, false);
    const Outcome outcome = run(stream, text, size);
    EXPECT_EQ(outcome.text, "Hi <b>x</b> \xE2\x82\xACso then  <tool_ca") << size;
    EXPECT_EQ(outcome.reasoning, "why < because") << size;
    ASSERT_EQ(outcome.calls.size(), 2u) << size;
    EXPECT_EQ(outcome.calls[0], "{\"tool\":\"a\",\"args\":{}}");
    EXPECT_EQ(outcome.calls[1], "2");
  }
}

TEST(TextStream, StopsAtTheEarliestStopString) {
  for (size_t size = 1; size <= 16; ++size) {
    TextStream stream({"lo w", "wor"}, false);
    const Outcome outcome = run(stream, "hello world", size);
    EXPECT_EQ(outcome.text, "hel") << size;
    EXPECT_TRUE(stream.stopped());
  }
}

TEST(TextStream, HoldsBackOnlyWhatCouldBecomeAStopString) {
  TextStream stream({"END"}, false);
  std::vector<Segment> out;
  stream.feed("abcE", out);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].text, "abc");
  out.clear();
  stream.feed("x", out);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].text, "Ex");
}

TEST(TextStream, AStopStringThatSpellsATagStops) {
  TextStream stream({"<tool_call>"}, false);
  const Outcome outcome = run(stream, "a<tool_call>{}</tool_call>", 1);
  EXPECT_EQ(outcome.text, "a");
  EXPECT_TRUE(outcome.calls.empty());
  EXPECT_TRUE(stream.stopped());
}

TEST(TextStream, StopStringsDoNotCutToolCallsOrReasoning) {
  TextStream stream({"stop"}, true);
  const Outcome outcome = run(stream, "no stop yet</think><tool_call>stop</tool_call>end stop", 3);
  EXPECT_EQ(outcome.reasoning, "no stop yet");
  ASSERT_EQ(outcome.calls.size(), 1u);
  EXPECT_EQ(outcome.text, "end ");
}

TEST(TextStream, KeepsTextAfterACallUntilItIsAnswered) {
  TextStream stream({}, false);
  std::vector<Segment> out;
  stream.feed("<tool_call>1</tool_call>after", out);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].kind, Kind::kToolCall);
  EXPECT_TRUE(stream.waits_for_tool());
  out.clear();
  stream.resume(false, out);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].text, "after");
}

TEST(TextStream, ReportsAnUnfinishedCall) {
  TextStream stream({}, false);
  const Outcome outcome = run(stream, "x<tool_call>{\"to", 2);
  EXPECT_EQ(outcome.text, "x");
  EXPECT_EQ(stream.unfinished_tool_call(), "{\"to");
}

TEST(TextStream, RandomBytesNeverGetLostOrBreakUtf8) {
  std::mt19937 random(7);
  for (int round = 0; round < 500; ++round) {
    std::string text;
    for (size_t i = 0; i < 60; ++i) text += static_cast<char>(random() % 96 + 0x90);
    TextStream stream({}, false);
    Outcome outcome;
    for (size_t at = 0; at < text.size();) {
      const size_t size = 1 + random() % 4;
      std::vector<Segment> out;
      stream.feed(text.substr(at, size), out);
      add(outcome, out);
      at += size;
    }
    std::vector<Segment> out;
    stream.flush(out);
    add(outcome, out);
    TextStream whole({}, false);
    EXPECT_EQ(outcome.text, run(whole, text, text.size()).text);
  }
}

}  // namespace
}  // namespace pm

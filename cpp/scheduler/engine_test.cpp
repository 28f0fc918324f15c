// The engine against a model that is a table: deterministic, instant, and able to fail on demand.
#include "scheduler/engine.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <future>
#include <map>
#include <random>

namespace pm {
namespace {

constexpr Token kEnd = 0;
constexpr size_t kVocabulary = 300;

// Tokens are bytes. The model answers a prompt that ends with "xyz" by "xyz" spelled out, then
// ends: the reply is whatever the prompt holds after its last '>'.
class FakeRunner final : public ModelRunner {
 public:
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<size_t> step_sizes;
    std::vector<size_t> prefill_sizes;
    bool hold_decode = false;
    int fail_at_step = -1;
    std::atomic<size_t> released{0};
    // > 0: a pool of so many tokens that grows with its sequences and keeps prefixes.
    size_t pool_tokens = 0;
    std::map<SeqId, std::string> texts;
    std::map<SeqId, size_t> promised;
    std::map<Digest, std::string> prefixes;
    std::atomic<size_t> computed{0};  // tokens
  };

  FakeRunner(std::shared_ptr<Shared> shared, size_t slots, size_t context)
      : shared_(std::move(shared)),
        ledger_memory_(slots, context, *shared_),
        context_(context),
        slots_(slots) {}

  SequenceMemory& memory() override { return ledger_memory_; }
  size_t sequence_count() const override { return slots_; }
  size_t context_tokens() const override { return context_; }

  Status decode(std::span<const TokenSpan> spans) override {
    std::unique_lock lock(shared_->mutex);
    shared_->changed.wait(lock, [this] { return !shared_->hold_decode || interrupted_; });
    if (interrupted_) return Error{ErrorCode::kDisposed, "stopping"};
    size_t total = 0;
    for (const auto& span : spans) {
      total += span.count;
      shared_->computed += span.count;
      auto& text = shared_->texts[span.seq];
      if (span.pos == 0) text.clear();
      EXPECT_EQ(static_cast<size_t>(span.pos), text.size()) << "positions have no gaps";
      for (size_t i = 0; i < span.count; ++i) text.push_back(static_cast<char>(span.tokens[i]));
      if (span.count > 1) shared_->prefill_sizes.push_back(span.count);
    }
    shared_->step_sizes.push_back(total);
    if (static_cast<int>(shared_->step_sizes.size()) - 1 == shared_->fail_at_step) {
      return Error{ErrorCode::kInternal, "decode failed"};
    }
    logits_.assign(spans.size() * kVocabulary, 0.0f);
    for (size_t s = 0; s < spans.size(); ++s) {
      logits_[s * kVocabulary + static_cast<size_t>(next(shared_->texts[spans[s].seq]))] = 1.0f;
    }
    return {};
  }

  std::span<float> logits(size_t index) override {
    return {logits_.data() + index * kVocabulary, kVocabulary};
  }

  Result<MediaStep> decode_media(SeqId seq, const MediaEmbedding& media, size_t offset, Pos pos,
                                 size_t budget) override {
    const size_t count =
        media.divisible ? std::min(budget, media.token_count - offset) : media.token_count;
    EXPECT_TRUE(media.divisible || offset == 0);
    if (pos == 0) shared_->texts[seq].clear();
    shared_->texts[seq].append(count, '#');
    return MediaStep{count, pos + static_cast<Pos>(count)};
  }

  bool is_end(Token token) const override { return token == kEnd; }
  std::string piece(Token token) const override { return std::string(1, static_cast<char>(token)); }
  void interrupt() override {
    std::lock_guard lock(shared_->mutex);
    interrupted_ = true;
    shared_->changed.notify_all();
  }

 private:
  class Memory final : public SequenceMemory {
   public:
    Memory(size_t slots, size_t context, Shared& shared)
        : ledger_(slots * context, slots), shared_(shared) {}
    size_t capacity() const override { return grows() ? shared_.pool_tokens : ledger_.capacity(); }
    size_t reserved() const override { return grows() ? promised() : ledger_.reserved(); }
    bool grows() const override { return shared_.pool_tokens > 0; }
    bool reserve(SeqId seq, size_t tokens) override {
      if (!grows()) return ledger_.reserve(seq, tokens);
      if (promised() - shared_.promised[seq] + tokens > shared_.pool_tokens) return false;
      shared_.promised[seq] = tokens;
      return true;
    }
    void truncate(SeqId, Pos) override {}
    void release(SeqId seq) override {
      ledger_.release(seq);
      shared_.promised.erase(seq);
      shared_.texts.erase(seq);
      ++shared_.released;
    }
    bool caches_prefixes() const override { return grows(); }
    size_t find_prefix(std::span<const Digest> chain) const override {
      size_t pages = 0;
      while (pages < chain.size() && shared_.prefixes.contains(chain[pages])) ++pages;
      return pages;
    }
    size_t adopt_prefix(SeqId seq, std::span<const Digest> chain) override {
      const size_t pages = find_prefix(chain);
      if (pages > 0) shared_.texts[seq] = shared_.prefixes[chain[pages - 1]];
      return pages;
    }
    void publish_prefix(SeqId seq, std::span<const Digest> chain) override {
      const std::string& text = shared_.texts[seq];
      for (size_t i = 0; i < std::min(chain.size(), text.size() / kPageTokens); ++i) {
        shared_.prefixes[chain[i]] = text.substr(0, (i + 1) * kPageTokens);
      }
    }
    MemoryStats stats() const override { return {}; }

   private:
    size_t promised() const {
      size_t total = 0;
      for (const auto& [seq, tokens] : shared_.promised) total += tokens;
      return total;
    }
    ReservationLedger ledger_;
    Shared& shared_;
  };

  // Everything after the first '>' is the reply; what has been said already follows the first '|'.
  static Token next(const std::string& text) {
    const size_t start = text.find('>');
    const size_t bar = text.find('|');
    if (start == std::string::npos || bar == std::string::npos) return kEnd;
    const std::string reply = text.substr(start + 1, bar - start - 1);
    std::string said = text.substr(bar + 1);
    // A tool answer is written in brackets and is not part of what was said.
    for (size_t open; (open = said.find('[')) != std::string::npos;) {
      said.erase(open, said.find(']', open) - open + 1);
    }
    return said.size() < reply.size() ? static_cast<Token>(reply[said.size()]) : kEnd;
  }

  std::shared_ptr<Shared> shared_;
  Memory ledger_memory_;
  size_t context_;
  size_t slots_;
  std::vector<float> logits_;
  bool interrupted_ = false;
};

class ArgmaxSampler final : public TokenSampler {
 public:
  Result<Token> sample(std::span<float> logits) override {
    return static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
};

class FakePreparer final : public PromptPreparer {
 public:
  size_t media_tokens = 10;

  Result<PreparedPrompt> prepare(const Request& request) override {
    if (request.messages == "throw") throw std::runtime_error("a preparer that throws");
    if (request.messages == "bad") return Error{ErrorCode::kInvalidRequest, "bad prompt"};
    PreparedPrompt prepared;
    if (!request.media.empty()) {
      auto media = std::make_shared<MediaEmbedding>();
      media->token_count = media_tokens;
      media->positions = static_cast<Pos>(media_tokens);
      media->divisible = media_tokens <= 10;
      media->digest = digest_of(request.media[0].data);
      prepared.prompt.push_back({{}, std::move(media)});
    }
    const std::string text = request.messages + "|";
    prepared.prompt.push_back({std::vector<Token>(text.begin(), text.end()), nullptr});
    prepared.sampler = std::make_unique<ArgmaxSampler>();
    return prepared;
  }
  Result<ToolAnswer> tool_answer(const Request&, const std::string&,
                                 const std::string& content) override {
    if (content == "throw") throw std::runtime_error("a preparer that throws");
    const std::string text = "[" + content + "]";
    return ToolAnswer{std::vector<Token>(text.begin(), text.end()), false};
  }
};

class EngineTest : public ::testing::Test {
 protected:
  void start(size_t slots = 4, size_t context = 256, StepLimits limits = {64, 16}) {
    EngineConfig config;
    config.max_requests = slots;
    config.limits = limits;
    engine_ = std::make_unique<Engine>(std::make_unique<FakeRunner>(shared_, slots, context),
                                       preparer_, config,
                                       [this](EventBatch&& events) { collect(std::move(events)); });
  }

  void collect(EventBatch&& events) {
    std::lock_guard lock(mutex_);
    for (auto& event : events) events_.push_back(std::move(event));
    arrived_.notify_all();
  }

  RequestPtr request(RequestId id, std::string prompt) {
    auto r = std::make_shared<Request>();
    r->id = id;
    r->messages = std::move(prompt);
    return r;
  }

  template <typename Predicate>
  void wait_for(Predicate predicate) {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(
        arrived_.wait_for(lock, std::chrono::seconds(20), [&] { return predicate(events_); }));
  }

  static bool terminal(const Event& e) {
    return e.type == EventType::kFinish || e.type == EventType::kError;
  }

  void wait_terminal(size_t count) {
    wait_for([count](const auto& events) {
      return static_cast<size_t>(std::count_if(events.begin(), events.end(), terminal)) >= count;
    });
  }

  std::string text_of(RequestId id) {
    std::lock_guard lock(mutex_);
    std::string text;
    for (const auto& e : events_) {
      if (e.id == id && e.type == EventType::kText) text += e.text;
    }
    return text;
  }

  Event terminal_of(RequestId id) {
    std::lock_guard lock(mutex_);
    std::vector<Event> found;
    for (const auto& e : events_) {
      if (e.id == id && terminal(e)) found.push_back(e);
    }
    EXPECT_EQ(found.size(), 1u) << "exactly one terminal event for " << id;
    return found.empty() ? Event{} : found[0];
  }

  void hold(bool on) {
    std::lock_guard lock(shared_->mutex);
    shared_->hold_decode = on;
    shared_->changed.notify_all();
  }

  std::shared_ptr<FakePreparer> preparer_ = std::make_shared<FakePreparer>();
  std::shared_ptr<FakeRunner::Shared> shared_ = std::make_shared<FakeRunner::Shared>();
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<Event> events_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(EngineTest, StreamsAnAnswerAndAccountsForIt) {
  start();
  engine_->submit(request(1, "q>hello"));
  wait_terminal(1);
  EXPECT_EQ(text_of(1), "hello");
  const Event end = terminal_of(1);
  EXPECT_EQ(end.type, EventType::kFinish);
  EXPECT_EQ(end.reason, FinishReason::kStop);
  EXPECT_EQ(end.usage.input_tokens, 8);
  EXPECT_EQ(end.usage.output_tokens, 5);
  EXPECT_GT(end.timings.ttft_ms, 0);
  EXPECT_EQ(engine_->stats().finished, 1);
}

TEST_F(EngineTest, ManyRequestsGetTheAnswersTheyWouldGetAlone) {
  start(3);
  for (RequestId id = 1; id <= 40; ++id) {
    auto r =
        request(id, std::string(static_cast<size_t>(id * 3), 'p') + ">reply " + std::to_string(id));
    if (id % 5 == 0) r->media.emplace_back();
    engine_->submit(r);
  }
  wait_terminal(40);
  for (RequestId id = 1; id <= 40; ++id) {
    EXPECT_EQ(text_of(id), "reply " + std::to_string(id));
    terminal_of(id);
  }
  const auto stats = engine_->stats();
  EXPECT_EQ(stats.finished, 40);
  EXPECT_EQ(shared_->released.load(), 40u);
}

TEST_F(EngineTest, LongPromptsAreChunkedAndStepsStayWithinTheirLimit) {
  start(4, 4096, {64, 16});
  hold(true);
  engine_->submit(request(1, std::string(500, 'a') + ">aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
  engine_->submit(request(2, std::string(700, 'b') + ">bb"));
  hold(false);
  wait_terminal(2);
  std::lock_guard lock(shared_->mutex);
  for (const size_t size : shared_->step_sizes) EXPECT_LE(size, 64u);
  for (const size_t size : shared_->prefill_sizes) EXPECT_LE(size, 64u);
}

TEST_F(EngineTest, MaxTokensStopStringsAndContextEndTheRun) {
  start(4, 32);
  auto limited = request(1, "q>abcdef");
  limited->max_tokens = 3;
  engine_->submit(limited);
  auto stopped = request(2, "q>abcdef");
  stopped->stop = {"cd"};
  engine_->submit(stopped);
  engine_->submit(request(3, "q>" + std::string(25, 'z')));
  wait_terminal(3);
  EXPECT_EQ(text_of(1), "abc");
  EXPECT_EQ(terminal_of(1).reason, FinishReason::kLength);
  EXPECT_EQ(text_of(2), "ab");
  EXPECT_EQ(terminal_of(2).reason, FinishReason::kStop);
  // 28 prompt tokens + 4 generated fill the context of 32.
  EXPECT_EQ(terminal_of(3).reason, FinishReason::kLength);
  EXPECT_EQ(text_of(3).size(), 4u);
}

TEST_F(EngineTest, APromptThatDoesNotFitIsAnErrorThatSaysBothNumbers) {
  start(2, 32);
  engine_->submit(request(1, std::string(40, 'a')));
  wait_terminal(1);
  const Event end = terminal_of(1);
  EXPECT_EQ(end.error.code, ErrorCode::kContextOverflow);
  EXPECT_NE(end.error.message.find("32"), std::string::npos);
  EXPECT_NE(end.error.message.find("41"), std::string::npos);
}

TEST_F(EngineTest, CancelFreesTheSlotAndLeavesOthersAlone) {
  start(2, 256);
  hold(true);
  for (RequestId id = 1; id <= 4; ++id)
    engine_->submit(request(id, "q>answer" + std::to_string(id)));
  engine_->cancel(2);
  engine_->cancel(4);
  engine_->cancel(99);
  hold(false);
  wait_terminal(4);
  EXPECT_EQ(terminal_of(2).error.code, ErrorCode::kCancelled);
  EXPECT_EQ(terminal_of(4).error.code, ErrorCode::kCancelled);
  EXPECT_EQ(text_of(1), "answer1");
  EXPECT_EQ(text_of(3), "answer3");
  EXPECT_EQ(engine_->stats().cancelled, 2);
}

TEST_F(EngineTest, AnswersToolCallsInTheSameSequence) {
  start();
  engine_->submit(request(1, "q><tool_call>{1}</tool_call>done"));
  wait_for([](const auto& events) {
    return std::any_of(events.begin(), events.end(),
                       [](const Event& e) { return e.type == EventType::kToolCall; });
  });
  std::string call_id;
  {
    std::lock_guard lock(mutex_);
    for (const auto& e : events_) {
      if (e.type != EventType::kToolCall) continue;
      EXPECT_EQ(e.text, "{1}");
      call_id = e.call_id;
    }
  }
  engine_->tool_result(1, "call_of_somebody_else", "no");
  engine_->tool_result(1, call_id, "42");
  wait_terminal(1);
  EXPECT_EQ(text_of(1), "done");
  EXPECT_EQ(terminal_of(1).reason, FinishReason::kStop);
}

TEST_F(EngineTest, AToolCallNobodyAnswersEndsByFinishOrBudget) {
  start();
  engine_->submit(request(1, "q><tool_call>{}</tool_call>"));
  auto limited = request(2, "q><tool_call>{}</tool_call>");
  limited->budget_ms = 50;
  engine_->submit(limited);
  wait_for([](const auto& events) {
    return std::count_if(events.begin(), events.end(),
                         [](const Event& e) { return e.type == EventType::kToolCall; }) == 2;
  });
  engine_->finish(1);
  wait_terminal(2);
  EXPECT_EQ(terminal_of(1).reason, FinishReason::kStop);
  EXPECT_EQ(terminal_of(2).reason, FinishReason::kBudget);
}

TEST_F(EngineTest, APreparationThatFailsConcernsOneRequest) {
  start();
  engine_->submit(request(1, "bad"));
  engine_->submit(request(2, "q>fine"));
  engine_->submit(request(3, "throw"));
  wait_terminal(3);
  EXPECT_EQ(terminal_of(1).error.code, ErrorCode::kInvalidRequest);
  EXPECT_EQ(terminal_of(3).error.code, ErrorCode::kInternal);
  EXPECT_EQ(text_of(2), "fine");
}

TEST_F(EngineTest, AFailedStepEndsItsMembersAndTheEngineGoesOn) {
  shared_->fail_at_step = 0;
  start();
  engine_->submit(request(1, "q>one"));
  wait_terminal(1);
  EXPECT_EQ(terminal_of(1).error.code, ErrorCode::kInternal);
  engine_->submit(request(2, "q>two"));
  wait_terminal(2);
  EXPECT_EQ(text_of(2), "two");
}

TEST_F(EngineTest, StopEndsEveryRequestOnceAndRefusesNewOnes) {
  start(2);
  hold(true);
  for (RequestId id = 1; id <= 6; ++id) engine_->submit(request(id, "q>x"));
  engine_->stop({ErrorCode::kDisposed, "gone"});
  for (RequestId id = 1; id <= 6; ++id) {
    EXPECT_EQ(terminal_of(id).error.code, ErrorCode::kDisposed) << id;
  }
  EXPECT_FALSE(engine_->submit(request(7, "q>x")));
  engine_->stop({ErrorCode::kDisposed, "again"});
}

TEST_F(EngineTest, JobsRunBetweenStepsAndAnswerWhenTheEngineStops) {
  start(1);
  std::atomic<int> calls{0};
  engine_->run_job(
      [&](ModelRunner&, SeqId seq) {
        EXPECT_EQ(seq, 0);
        return ++calls == 3;
      },
      std::make_shared<CancelToken>());
  engine_->submit(request(1, "q>hey"));
  wait_terminal(1);
  EXPECT_EQ(calls.load(), 3);

  hold(true);
  engine_->submit(request(2, "q>hey"));
  auto watched = std::make_shared<int>(0);
  const std::weak_ptr<int> watch = watched;
  engine_->run_job([watched = std::move(watched)](ModelRunner&, SeqId) { return false; },
                   std::make_shared<CancelToken>());
  engine_->stop({ErrorCode::kDisposed, "gone"});
  EXPECT_TRUE(watch.expired()) << "a job that never ran is destroyed";
}

TEST_F(EngineTest, AJobThatWaitsForASlotCanBeCancelled) {
  start(1);
  engine_->submit(request(1, "q><tool_call>{}</tool_call>"));  // holds the only slot
  wait_for([](const auto& events) {
    return std::any_of(events.begin(), events.end(),
                       [](const Event& e) { return e.type == EventType::kToolCall; });
  });
  auto cancel = std::make_shared<CancelToken>();
  std::promise<void> destroyed;
  auto watched = std::shared_ptr<int>(new int(0), [&](int* p) {
    delete p;
    destroyed.set_value();
  });
  engine_->run_job([watched = std::move(watched)](ModelRunner&, SeqId) { return true; }, cancel);
  cancel->cancel();
  engine_->wake();
  EXPECT_EQ(destroyed.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
}

TEST_F(EngineTest, ToolAnswersDoNotExceedMaxTokens) {
  start();
  auto r = request(1, "q><tool_call>{}</tool_call>more");
  r->max_tokens = 25;  // the length of the call
  engine_->submit(r);
  wait_for([](const auto& events) {
    return std::any_of(events.begin(), events.end(),
                       [](const Event& e) { return e.type == EventType::kToolCall; });
  });
  engine_->tool_result(1, "call_1_0", "5");
  wait_terminal(1);
  EXPECT_EQ(terminal_of(1).reason, FinishReason::kLength);
  EXPECT_LE(terminal_of(1).usage.output_tokens, 25);
}

// A pool for a quarter of the requests: they take turns, start anew after a preemption and say the
// same as alone.
TEST_F(EngineTest, PreemptedRequestsFinishWithTheSameText) {
  shared_->pool_tokens = 200;
  start(16, 180);
  for (RequestId id = 0; id < 32; ++id) {
    const std::string reply(60, static_cast<char>('a' + id % 26));
    engine_->submit(request(id, std::string(static_cast<size_t>(id % 7), 'p') + ">" + reply));
  }
  wait_terminal(32);
  for (RequestId id = 0; id < 32; ++id) {
    EXPECT_EQ(text_of(id), std::string(60, static_cast<char>('a' + id % 26)));
    EXPECT_EQ(terminal_of(id).type, EventType::kFinish);
    EXPECT_EQ(terminal_of(id).usage.output_tokens, 60);
  }
  EXPECT_GT(engine_->stats().preemptions, 0);
  engine_->stop({ErrorCode::kDisposed, "done"});
  EXPECT_EQ(shared_->promised.size(), 0u);
}

TEST_F(EngineTest, ARunThatAloneOutgrowsThePoolIsAnErrorThatSaysWhatToDo) {
  shared_->pool_tokens = 60;
  start(4, 180);
  engine_->submit(request(1, "p>" + std::string(40, 'x')));
  wait_terminal(1);
  const Event event = terminal_of(1);
  EXPECT_EQ(event.type, EventType::kError);
  EXPECT_EQ(event.error.code, ErrorCode::kOutOfMemory);
  EXPECT_NE(event.error.message.find("kv.budget_bytes"), std::string::npos);
}

TEST_F(EngineTest, AToolWaitSurvivesAPreemption) {
  shared_->pool_tokens = 200;
  start(4, 180);
  engine_->submit(request(1, "first>" + std::string(80, 'z')));
  engine_->submit(request(2, ">a<tool_call>{}</tool_call>b"));
  wait_for([](const auto& events) {
    return std::any_of(events.begin(), events.end(),
                       [](const Event& e) { return e.type == EventType::kToolCall; });
  });
  // Request 1 needs the pages of request 2, which waits for its tool.
  for (RequestId id = 3; id < 6; ++id) engine_->submit(request(id, ">" + std::string(60, 'y')));
  wait_for([](const auto& events) {
    return std::any_of(events.begin(), events.end(),
                       [](const Event& e) { return e.id == 1 && terminal(e); });
  });
  engine_->tool_result(2, "call_2_0", "result");
  wait_terminal(5);
  EXPECT_EQ(text_of(1), std::string(80, 'z'));
  EXPECT_EQ(text_of(2), "ab");
  for (RequestId id = 3; id < 6; ++id) EXPECT_EQ(text_of(id), std::string(60, 'y'));
}

TEST_F(EngineTest, ContinuesFromTheLongestKnownPrefix) {
  shared_->pool_tokens = 4096;
  start(4, 1024);
  const std::string shared_prompt(200, 's');
  engine_->submit(request(1, shared_prompt + ">one"));
  wait_terminal(1);
  const size_t first = shared_->computed;
  engine_->submit(request(2, shared_prompt + ">two"));
  wait_terminal(2);
  EXPECT_EQ(text_of(1), "one");
  EXPECT_EQ(text_of(2), "two");
  // 200 shared tokens: 6 full pages of 32.
  EXPECT_EQ(terminal_of(1).usage.cached_tokens, 0);
  EXPECT_EQ(terminal_of(2).usage.cached_tokens, 192);
  EXPECT_EQ(shared_->computed - first, first - 192);
  EXPECT_EQ(engine_->stats().prefix_hit_tokens, 192);
}

TEST_F(EngineTest, RequestsThatArriveTogetherComputeACommonPrefixOnce) {
  shared_->pool_tokens = 4096;
  start(8, 1024);
  hold(true);
  const std::string shared_prompt(320, 's');
  for (RequestId id = 0; id < 8; ++id) {
    engine_->submit(request(id, shared_prompt + ">" + std::string(1, static_cast<char>('a' + id))));
  }
  hold(false);
  wait_terminal(8);
  for (RequestId id = 0; id < 8; ++id) {
    EXPECT_EQ(text_of(id), std::string(1, static_cast<char>('a' + id)));
  }
  EXPECT_EQ(engine_->stats().prefix_hit_tokens, 7 * 320);
}

// A prefix may be known up to the middle of a medium that must be evaluated at once: the hit ends
// before it.
TEST_F(EngineTest, AnIndivisibleMediumIsNeverEnteredInTheMiddle) {
  shared_->pool_tokens = 4096;
  preparer_->media_tokens = 100;
  start(2, 1024);
  for (RequestId id = 1; id <= 2; ++id) {
    // The page behind the medium differs, the pages inside it are the same.
    auto r = request(id, id == 1 ? "first>one" : "other>two");
    r->media.push_back({});
    engine_->submit(r);
    wait_terminal(static_cast<size_t>(id));
  }
  EXPECT_EQ(text_of(1), "one");
  EXPECT_EQ(text_of(2), "two");
  EXPECT_EQ(terminal_of(2).usage.cached_tokens, 0);
}

// A tool that takes long, or that asks the same engine itself, must not hold the only slot.
TEST_F(EngineTest, ASlowToolGivesWayToThoseWhoWait) {
  shared_->pool_tokens = 4096;
  start(1, 180);
  engine_->submit(request(1, ">a<tool_call>{}</tool_call>b"));
  wait_for([](const auto& events) {
    return std::any_of(events.begin(), events.end(),
                       [](const Event& e) { return e.type == EventType::kToolCall; });
  });
  engine_->submit(request(2, ">inner"));
  wait_terminal(1);
  EXPECT_EQ(text_of(2), "inner");
  engine_->tool_result(1, "call_1_0", "result");
  wait_terminal(2);
  EXPECT_EQ(text_of(1), "ab");
}

TEST_F(EngineTest, AToolAnswerToAPreemptedRunMustFitTheContext) {
  shared_->pool_tokens = 4096;
  start(1, 60);
  engine_->submit(request(1, ">a<tool_call>{}</tool_call>b"));
  wait_for([](const auto& events) {
    return std::any_of(events.begin(), events.end(),
                       [](const Event& e) { return e.type == EventType::kToolCall; });
  });
  engine_->submit(request(2, ">x"));
  wait_terminal(1);
  engine_->tool_result(1, "call_1_0", std::string(100, 'r'));
  wait_terminal(2);
  EXPECT_EQ(terminal_of(1).error.code, ErrorCode::kContextOverflow);
}

// The same for what a prompt looks up.
TEST(SequenceTest, LookupStopsBeforeAnIndivisibleMedium) {
  auto sequence = Sequence(std::make_shared<Request>());
  auto media = std::make_shared<MediaEmbedding>();
  media->token_count = 100;
  media->positions = 10;
  media->divisible = false;
  sequence.prompt = {{std::vector<Token>(40, 1), nullptr}, {{}, media}, {{7, 8, 9}, nullptr}};
  sequence.chain.emplace(Digest{});
  for (int i = 0; i < 40; ++i) sequence.chain->add_token(1);
  for (uint32_t i = 0; i < 100; ++i) sequence.chain->add_media(media->digest, i);
  for (const Token t : {7, 8, 9}) sequence.chain->add_token(t);
  EXPECT_EQ(sequence.lookup().size(), 1u);  // 143 tokens are 4 pages; 128 lies in the medium
  media->divisible = true;
  EXPECT_EQ(sequence.lookup().size(), 4u);
  sequence.skip(40);
  EXPECT_EQ(sequence.pos, 40);
  sequence.skip(100);
  EXPECT_EQ(sequence.pos, 50) << "M-RoPE: a whole medium advances by its own number of positions";
  sequence.rewind();
  EXPECT_EQ(sequence.prompt_tokens(), 143u);
  EXPECT_EQ(sequence.pos, 0);
}

TEST_F(EngineTest, RandomCancelsNeverDisturbOthers) {
  start(4, 256, {32, 8});
  std::mt19937 random(11);
  constexpr int kRequests = 300;
  for (RequestId id = 1; id <= kRequests; ++id) {
    engine_->submit(
        request(id, std::string(random() % 60, 'p') + ">text of " + std::to_string(id)));
    if (random() % 3 == 0)
      engine_->cancel(1 + static_cast<RequestId>(random() % static_cast<unsigned>(id)));
  }
  wait_terminal(kRequests);
  for (RequestId id = 1; id <= kRequests; ++id) {
    if (terminal_of(id).type == EventType::kFinish) {
      EXPECT_EQ(text_of(id), "text of " + std::to_string(id));
    }
  }
  const auto stats = engine_->stats();
  EXPECT_EQ(stats.finished + stats.cancelled, kRequests);
}

}  // namespace
}  // namespace pm

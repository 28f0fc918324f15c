// The paged KV cache computes what llama.cpp's own memory computes.
//
// Yardsticks, all against stock f16 memory without flash attention: how far stock's other attention
// path is (flash attention), and how far stock memory is with the element type of the pages (bf16).
// A wrong mask, position or page is off by orders of magnitude more.
#include <gtest/gtest.h>

#include <map>

#include "engines/llama/paged/testing_session.h"

namespace pm::llama::testing {
namespace {

constexpr MemoryKind kStockBf16{.stock_type = GGML_TYPE_BF16};
// Rounding to bf16 happens in another order than in stock memory, and scenarios are short.
constexpr double kBf16Slack = 1.25;
// Logits are f32 of unit size: differences of 1e-7 of a standard deviation mean 1e-14.
constexpr double kFloor = 1e-13;

llama_model* model_of(const RandomModelSpec& spec) {
  static std::map<std::string, ModelPtr> models;
  ModelPtr& model = models[spec.name + std::to_string(spec.deviation)];
  if (!model) model = make_random_model(spec);
  return model.get();
}

void expect_parity(const RandomModelSpec& spec, const SessionOptions& options,
                   const Scenario& scenario) {
  llama_model* model = model_of(spec);
  ASSERT_NE(model, nullptr);
  const auto reference = logits_of(model, kStock, options, scenario);
  ASSERT_FALSE(reference.empty());
  const auto to = [&](const MemoryKind& kind) {
    return divergence(reference, logits_of(model, kind, options, scenario));
  };
  const Divergence flash = to(kStockFlash);
  const Divergence bf16 = to(kStockBf16);
  const Divergence paged = to(kPaged);
  const auto within = [&](double Divergence::*part) {
    return paged.*part <= std::max(2 * flash.*part, kBf16Slack * bf16.*part) + kFloor;
  };
  EXPECT_TRUE(within(&Divergence::mean) && within(&Divergence::max))
      << spec.name << "\npaged             " << describe(paged) << "\nflash attention   "
      << describe(flash) << "\nstock bf16 memory " << describe(bf16);
  ::testing::Test::RecordProperty("paged_over_flash", std::to_string(paged.mean / flash.mean));
  ::testing::Test::RecordProperty("paged_over_bf16", std::to_string(paged.mean / bf16.mean));
}

constexpr int kPrompts[] = {1, 19, 31, 32, 33, 64, 200};

Scenario prompts_then_decode(const std::vector<llama_seq_id>& decoding, int steps) {
  return [=](Session& session) {
    Batch batch;
    llama_seq_id seq = 0;
    for (const int length : kPrompts) session.append(batch, seq++, length);
    session.decode(batch);
    session.generate(decoding, steps);
  };
}

// Everything that changes sequences between two steps, one after the other. `cut`: a sequence of 73
// tokens is shortened to so many; what slid out of a window cannot be uncovered again.
Scenario edits(int cut) {
  return [=](Session& session) {
    session.feed(0, 70);
    session.fork(0, 1);
    session.fork(0, 2);
    session.generate({0, 1, 2}, 3);  // different continuations of a shared tail page
    session.truncate(1, cut);
    session.feed(1, 9);
    session.remove(2, 10, 45);  // leaves a hole
    session.generate({2, 0}, 4);
    Batch shared;
    session.append_shared(shared, {4, 5}, 37);
    session.append(shared, 6, 3);
    session.decode(shared);
    session.generate({4, 5, 6}, 3);
    session.remove(-1, 30, 36);
    session.generate({4, 5}, 2);
    session.keep(5);
    session.generate({5, 1}, 3);
    session.clear();
    session.feed(3, 20);
  };
}

// ---- every architecture ----

class EveryModel : public ::testing::TestWithParam<RandomModelSpec> {
 protected:
  // Ubatches of several sizes, spread over the models.
  SessionOptions options() const {
    static constexpr int kUbatches[] = {512, 7, 32};
    SessionOptions options;
    options.ubatch = kUbatches[GetParam().name.size() % 3];
    return options;
  }
};

TEST_P(EveryModel, PromptsAndDecode) {
  expect_parity(GetParam(), options(), prompts_then_decode({0, 3, 6}, 40));
}

TEST_P(EveryModel, EditedSequences) {
  expect_parity(GetParam(), options(), edits(GetParam().slides() ? 72 : 40));
}

// With the weights that training starts from, the paged cache is held to twice the distance between
// stock's own two attention paths.
TEST_P(EveryModel, WithinTwiceTheDistanceOfStockPaths) {
  RandomModelSpec spec = GetParam();
  spec.deviation = 0.02f;
  llama_model* model = model_of(spec);
  ASSERT_NE(model, nullptr);
  const Scenario scenario = prompts_then_decode({0, 1, 2, 3, 4, 5, 6}, 40);
  const auto reference = logits_of(model, kStock, {}, scenario);
  const auto to = [&](const MemoryKind& kind) {
    return divergence(reference, logits_of(model, kind, {}, scenario));
  };
  const Divergence paged = to(kPaged);
  const Divergence flash = to(kStockFlash);
  double allowed = 2 * flash.mean + kFloor;
  // Its values are not normalised and have much in common, which bf16 rounds the same way in every
  // token: stock memory of bf16 is as far.
  if (spec.architecture == "olmo2") allowed = kBf16Slack * to(kStockBf16).mean;
  EXPECT_LE(paged.mean, allowed) << describe(paged) << "; flash attention " << describe(flash);
  RecordProperty("paged_over_flash", std::to_string(paged.mean / flash.mean));
}

INSTANTIATE_TEST_SUITE_P(Paged, EveryModel, ::testing::ValuesIn(random_models()),
                         [](const auto& info) { return info.param.name; });

// ---- batches and ubatches; threads: attention_test.cpp ----

// Without a window, with one, with one and sinks.
const char* const kShapes[] = {"llama", "gemma3", "openai_moe"};

TEST(Parity, BatchesOfOneToSixteenSequences) {
  for (const int sequences : {1, 2, 5, 16}) {
    SCOPED_TRACE(sequences);
    expect_parity(random_model("llama_80"), {}, [&](Session& session) {
      Batch batch;
      std::vector<llama_seq_id> seqs;
      for (int seq = 0; seq < sequences; ++seq) {
        session.append(batch, seq, kPrompts[seq % 6]);
        seqs.push_back(seq);
      }
      session.decode(batch);
      session.generate(seqs, 10);
    });
  }
}

TEST(Parity, UbatchesOfOneToFiveHundred) {
  for (const char* name : kShapes) {
    for (const int ubatch : {1, 7, 32, 512}) {
      SCOPED_TRACE(ubatch);
      expect_parity(random_model(name), {.ubatch = ubatch}, [](Session& session) {
        Batch batch;
        session.append(batch, 0, 33);
        session.append(batch, 1, 50);
        session.decode(batch);
        Batch mixed;  // prefill and decode in one step
        session.append(mixed, 0, 1);
        session.append(mixed, 2, 30);
        session.append(mixed, 1, 1);
        session.decode(mixed);
        session.generate({0, 1, 2}, 3);
      });
    }
  }
}

// Shared pages are read once for all of their holders.
TEST(Parity, SharedPrefix) {
  for (const char* name : {"llama", "gemma2"}) {
    expect_parity(random_model(name), {}, [](Session& session) {
      session.feed(0, 200);
      std::vector<llama_seq_id> seqs = {0};
      for (llama_seq_id seq = 1; seq < 9; ++seq) {
        session.fork(0, seq);
        seqs.push_back(seq);
      }
      session.generate(seqs, 12);
    });
  }
}

// ---- one kind of edit each ----

TEST(Parity, ForkOfAPart) {
  for (const char* name : kShapes) {
    expect_parity(random_model(name), {}, [](Session& session) {
      session.feed(0, 45);
      session.fork(0, 1, 0, 40);
      session.fork(0, 2, 0, 32);
      session.generate({0, 1, 2}, 8);
    });
  }
}

TEST(Parity, TruncateAtEveryPlaceOfAPage) {
  for (const int length : {1, 31, 32, 33, 63, 64}) {
    SCOPED_TRACE(length);
    expect_parity(random_model("llama_80"), {}, [&](Session& session) {
      session.feed(0, 70);
      session.fork(0, 1);
      session.truncate(0, length);
      session.generate({0, 1}, 3);
      session.feed(0, 35);
    });
  }
}

TEST(Parity, RemovalInTheMiddle) {
  for (const char* name : kShapes) {
    expect_parity(random_model(name), {}, [](Session& session) {
      session.feed(0, 80);
      session.fork(0, 1);
      session.remove(0, 20, 50);
      session.remove(1, 63, 66);
      session.generate({0, 1}, 6);
      session.feed(0, 40);
    });
  }
}

TEST(Parity, TokensOfSeveralSequences) {
  for (const char* name : kShapes) {
    expect_parity(random_model(name), {.ubatch = 32}, [](Session& session) {
      Batch batch;
      session.append_shared(batch, {0, 1, 2}, 45);
      session.append(batch, 3, 10);
      session.decode(batch);
      session.generate({0, 1, 2, 3}, 4);
      session.truncate(1, 45);
      session.truncate(2, 45);
      Batch again;  // the two go on together, on a page of which others hold a part
      session.append_shared(again, {1, 2}, 20);
      session.decode(again);
      session.generate({2, 0, 1}, 3);
    });
  }
}

// ---- windows, spans without order, two-dimensional positions ----

TEST(Parity, SequencesThreeTimesTheWindow) {
  for (const RandomModelSpec& spec : random_models()) {
    if (!spec.slides()) continue;
    for (const int ubatch : {32, 512}) {
      SCOPED_TRACE(ubatch);
      expect_parity(spec, {.ubatch = ubatch}, [&](Session& session) {
        session.feed(0, spec.window);
        session.feed(1, 3 * spec.window);
        session.generate({0, 1}, 10);
        session.feed(0, 2 * spec.window);
        session.generate({1, 0}, 5);
      });
    }
  }
}

TEST(PagedMemory, ReleasesWhatSlidOut) {
  const RandomModelSpec& spec = random_model("gemma3");
  Session session(model_of(spec), kPaged, {});
  session.feed(0, 4 * spec.window);
  session.generate({0}, 1);
  const llama_pos oldest_seen = 4 * spec.window + 1 - spec.window;
  const llama_pos kept = llama_memory_seq_pos_min(session.memory(), 0);
  EXPECT_LE(kept, oldest_seen);
  EXPECT_GT(kept, oldest_seen - 2 * kPageTokens);
}

TEST(Parity, SpanWithoutOrder) {
  for (const char* name : {"llama", "gemma3", "gemma2", "qwen3"}) {
    expect_parity(random_model(name), {}, [](Session& session) {
      session.feed(0, 20);
      session.feed(1, 7);
      session.set_causal(false);
      Batch span;
      session.append(span, 0, 36);
      session.append(span, 1, 5);
      session.decode(span);
      session.set_causal(true);
      session.feed(0, 5);
      session.generate({0, 1}, 5);
    });
  }
}

TEST(Parity, ImagesInTwoDimensions) {
  for (const char* name : {"qwen2vl", "qwen3vl"}) {
    for (const int ubatch : {7, 512}) {
      SCOPED_TRACE(ubatch);
      expect_parity(random_model(name), {.ubatch = ubatch}, [](Session& session) {
        session.feed(0, 12);
        session.feed(1, 40);
        Batch images;
        session.append_image(images, 0, 5, 7);
        session.append_image(images, 1, 6, 3);
        session.decode(images);
        Batch text;
        session.append_at(text, session.next(0) + 6, {0}, 9);
        session.append_at(text, session.next(1) + 5, {1}, 3);
        session.decode(text);
        session.fork(0, 2);
        session.generate({0, 1, 2}, 4);
      });
    }
  }
}

}  // namespace
}  // namespace pm::llama::testing

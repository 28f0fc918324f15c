// Store and attend as ggml runs them, with any number of threads, against attention written out.
// Graphs of these two operations alone: a whole model would wait at hundreds of barriers wherever
// threads outnumber cores.
#include "engines/llama/paged/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engines/llama/backend.h"
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml.h"

namespace pm::llama {
namespace {

constexpr int kHead = 64;
constexpr int kQueryHeads = 6;
constexpr int kKvHeads = 2;
constexpr float kScale = 0.125f;
// bf16 queries, keys, values and weights.
constexpr double kTolerance = 8e-3;

PagedShape shape() {
  PagedShape shape;
  shape.groups = {{.window = 0, .chunked = false, .layers = {0}}};
  shape.layers = {{0, 0, kQueryHeads, kKvHeads}};
  shape.head_k = shape.head_v = kHead;
  return shape;
}

class Random {
 public:
  float next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<float>(state_ >> 40) * 0x1p-23f - 1.0f;
  }

 private:
  uint64_t state_ = 5;
};

// A cache, its attention and, beside it, all keys and values in the order of their positions.
class Bench {
 public:
  explicit Bench(size_t threads) : threads_(threads) {
    init_backend();
    PagedConfig config;
    config.k_type = config.v_type = KvType::kBf16;
    config.budget_bytes = size_t{64} << 20;
    config.sequences = kSequences;
    config.context_tokens = config.step_tokens = 2048;
    cache_ = std::move(PagedCache::create(shape(), config)).value();
    attention_ = std::make_unique<PagedAttention>(cache_, threads);
  }

  void fork(SeqId from, SeqId to) {
    cache_->fork(from, to, 0, std::numeric_limits<Pos>::max());
    keys_[to] = keys_[from];
    values_[to] = values_[from];
  }

  // `counts[s]` more tokens for each sequence; the largest error over all of them.
  double step(const std::vector<int>& counts) {
    std::vector<StepToken> tokens;
    std::vector<std::vector<SlotId>> slots(1);
    for (size_t s = 0; s < counts.size(); ++s) append(static_cast<SeqId>(s), counts[s], tokens);
    cache_->begin_step();
    for (const StepToken& token : tokens) {
      SlotId slot;
      EXPECT_TRUE(cache_->append({&token.seq, 1}, token.place, {&slot, 1}));
      slots[0].push_back(slot);
    }
    attention_->plan(tokens, slots, true);
    const auto count = static_cast<int64_t>(tokens.size());
    const std::vector<float> q = random(kQueryHeads, count);
    const std::vector<float> k = random(kKvHeads, count);
    const std::vector<float> v = random(kKvHeads, count);
    const std::vector<float> out = compute(q, k, v, count);
    for (size_t t = 0; t < tokens.size(); ++t) {
      const auto row = [&](const std::vector<float>& all) {
        const auto* begin = all.data() + t * kKvHeads * kHead;
        return std::vector<float>(begin, begin + kKvHeads * kHead);
      };
      keys_[tokens[t].seq].push_back(row(k));
      values_[tokens[t].seq].push_back(row(v));
    }
    double worst = 0;
    // Every token of a small step, some of a large one.
    for (size_t t = 0; t < tokens.size(); t += 1 + tokens.size() / 40) {
      for (int head = 0; head < kQueryHeads; ++head) {
        const size_t at = (t * kQueryHeads + static_cast<size_t>(head)) * kHead;
        worst = std::max(worst, error(tokens[t], head, &q[at], &out[at]));
      }
    }
    return worst;
  }

 private:
  static constexpr size_t kSequences = 4;

  void append(SeqId seq, int count, std::vector<StepToken>& tokens) {
    if (count == 0) return;
    const TokenGroup group{{&seq, 1}, static_cast<size_t>(count)};
    EXPECT_TRUE(cache_->prepare({&group, 1}));
    const Pos first = static_cast<Pos>(keys_[seq].size());
    for (Pos i = 0; i < count; ++i) tokens.push_back({seq, {.pos = first + i}});
  }

  std::vector<float> random(int heads, int64_t tokens) {
    std::vector<float> values(static_cast<size_t>(heads * kHead * tokens));
    for (float& value : values) value = 2 * random_.next();
    return values;
  }

  std::vector<float> compute(const std::vector<float>& q, const std::vector<float>& k,
                             const std::vector<float>& v, int64_t tokens) {
    ggml_context* context = ggml_init({1 << 20, nullptr, true});
    const auto tensor = [&](int heads) {
      return ggml_new_tensor_3d(context, GGML_TYPE_F32, kHead, heads, tokens);
    };
    ggml_tensor* inputs[] = {tensor(kQueryHeads), tensor(kKvHeads), tensor(kKvHeads)};
    ggml_cgraph* graph = ggml_new_graph(context);
    ggml_tensor* out =
        attention_->build(context, graph, inputs[0], inputs[1], inputs[2], nullptr, kScale, 0);
    ggml_backend_t cpu = ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr);
    auto* registry = ggml_backend_dev_backend_reg(ggml_backend_get_device(cpu));
    const auto set_threads = reinterpret_cast<ggml_backend_set_n_threads_t>(
        ggml_backend_reg_get_proc_address(registry, "ggml_backend_set_n_threads"));
    set_threads(cpu, static_cast<int>(threads_));
    ggml_backend_buffer_t buffer = ggml_backend_alloc_ctx_tensors(context, cpu);
    const std::vector<float>* data[] = {&q, &k, &v};
    for (int i = 0; i < 3; ++i) {
      ggml_backend_tensor_set(inputs[i], data[i]->data(), 0, ggml_nbytes(inputs[i]));
    }
    EXPECT_EQ(ggml_backend_graph_compute(cpu, graph), GGML_STATUS_SUCCESS);
    std::vector<float> result(q.size());
    ggml_backend_tensor_get(out, result.data(), 0, ggml_nbytes(out));
    ggml_backend_buffer_free(buffer);
    ggml_backend_free(cpu);
    ggml_free(context);
    return result;
  }

  double error(const StepToken& token, int head, const float* q, const float* out) const {
    const auto& keys = keys_[token.seq];
    const auto& values = values_[token.seq];
    const auto seen = static_cast<size_t>(token.place.pos) + 1;
    const size_t at = static_cast<size_t>(head / (kQueryHeads / kKvHeads)) * kHead;
    std::vector<double> weights(seen);
    for (size_t t = 0; t < seen; ++t) {
      const double score = std::inner_product(q, q + kHead, keys[t].begin() + at, 0.0);
      weights[t] = std::exp(kScale * score);
    }
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    double worst = 0;
    for (size_t d = 0; d < kHead; ++d) {
      double expected = 0;
      for (size_t t = 0; t < seen; ++t) expected += weights[t] / sum * values[t][at + d];
      const double difference = std::abs(expected - out[d]);
      worst = std::isnan(difference) ? 1e9 : std::max(worst, difference / (1 + std::abs(expected)));
    }
    return worst;
  }

  size_t threads_;
  std::shared_ptr<PagedCache> cache_;
  std::unique_ptr<PagedAttention> attention_;
  Random random_;
  std::vector<std::vector<float>> keys_[kSequences];
  std::vector<std::vector<float>> values_[kSequences];
};

class PagedAttentionThreads : public ::testing::TestWithParam<int> {};

TEST_P(PagedAttentionThreads, PrefillThenDecodeOfALongSequence) {
  Bench bench(static_cast<size_t>(GetParam()));
  EXPECT_LE(bench.step({1300}), kTolerance);
  // One query against 41 pages: cut into parts where there are more threads than KV heads.
  for (int i = 0; i < 4; ++i) EXPECT_LE(bench.step({1}), kTolerance);
  EXPECT_LE(bench.step({40, 0, 7}), kTolerance);
}

TEST_P(PagedAttentionThreads, ForksReadTheirPrefixTogether) {
  Bench bench(static_cast<size_t>(GetParam()));
  EXPECT_LE(bench.step({700, 20}), kTolerance);
  bench.fork(0, 2);
  bench.fork(0, 3);
  EXPECT_LE(bench.step({1, 1, 1, 1}), kTolerance);
  EXPECT_LE(bench.step({5, 1, 1, 40}), kTolerance);
  EXPECT_LE(bench.step({1, 1, 1, 1}), kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Threads, PagedAttentionThreads, ::testing::Values(1, 2, 5));

}  // namespace
}  // namespace pm::llama

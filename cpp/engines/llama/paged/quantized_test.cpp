// Pages of 8-bit elements, measured against stock q8_0 memory: both against stock f16.
#include <gtest/gtest.h>

#include "engines/llama/paged/testing_session.h"

namespace pm::llama::testing {
namespace {

constexpr MemoryKind kStockQ8{.flash_attention = true, .stock_type = GGML_TYPE_Q8_0};
constexpr MemoryKind paged(KvType k, KvType v) { return {.paged = true, .k_type = k, .v_type = v}; }

// One scale for a whole key instead of one for 32 elements, at 3 % fewer bytes.
constexpr double kInt8Factor = 2.0;
// E4M3 keeps 3 bits of mantissa where int8 keeps 7 bits of the largest element.
constexpr double kFp8Factor = 40.0;

// Copies of partly filled pages, too, must carry their scales.
void scenario(Session& session) {
  session.feed(0, 110);
  session.fork(0, 1);
  session.generate({0, 1}, 12);
  session.truncate(1, 119);
  session.feed(1, 30);
  session.generate({1, 0}, 6);
}

class EightBits : public ::testing::TestWithParam<const char*> {};

TEST_P(EightBits, DistanceIsThatOfStockQ8) {
  const ModelPtr model = make_random_model(random_model(GetParam()));
  ASSERT_NE(model, nullptr);
  const auto reference = logits_of(model.get(), kStock, {}, scenario);
  const auto distance = [&](const MemoryKind& kind) {
    return divergence(reference, logits_of(model.get(), kind, {}, scenario));
  };
  const Divergence q8 = distance(kStockQ8);
  const struct {
    const char* name;
    MemoryKind kind;
    double factor;
  } cases[] = {
      {"int8", paged(KvType::kInt8, KvType::kInt8), kInt8Factor},
      {"int8 keys, bf16 values", paged(KvType::kInt8, KvType::kBf16), kInt8Factor},
      {"bf16 keys, int8 values", paged(KvType::kBf16, KvType::kInt8), kInt8Factor},
      {"fp8", paged(KvType::kFp8, KvType::kFp8), kFp8Factor},
      {"fp8 keys, int8 values", paged(KvType::kFp8, KvType::kInt8), kFp8Factor},
  };
  for (const auto& test : cases) {
    const Divergence found = distance(test.kind);
    EXPECT_LE(found.mean, test.factor * q8.mean)
        << test.name << ": " << describe(found) << "; q8_0: " << describe(q8);
  }
}

// q8_0 needs head sizes that are a multiple of 32.
INSTANTIATE_TEST_SUITE_P(Paged, EightBits,
                         ::testing::Values("llama", "qwen2", "qwen2vl", "qwen3", "gemma2", "gemma3",
                                           "openai_moe"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace pm::llama::testing

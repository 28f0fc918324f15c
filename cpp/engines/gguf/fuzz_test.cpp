// Random damage: whatever the bytes, the reader and the checks answer with a value. Run under the
// address and undefined-behaviour sanitizers as well.
#include <gtest/gtest.h>

#include <random>

#include "engines/gguf/check.h"
#include "engines/gguf/testing_models.h"

namespace pm::gguf {
namespace {

using testing::parse;
using testing::tiny_llama;
using testing::tiny_projector;

struct Outcome {
  int unreadable = 0;
  int rejected = 0;
  int accepted = 0;
};

void judge(const std::string& bytes, ModelKind kind, Outcome& outcome) {
  const auto file = parse(bytes);
  if (!file) {
    ASSERT_EQ(file.error().code, ErrorCode::kModelInvalid);
    ASSERT_EQ(file.error().message.rfind("expected ", 0), 0u) << file.error().message;
    ++outcome.unreadable;
    return;
  }
  EXPECT_FALSE(to_json(file.value()).empty());
  check_model(file.value(), kind) ? ++outcome.accepted : ++outcome.rejected;
}

// Damage goes into the header: tensor data has no rules.
uint64_t header_bytes(const std::string& bytes) { return parse(bytes).value().data_offset; }

TEST(GgufFuzz, TwentyThousandFlippedBytes) {
  std::mt19937_64 random(20240229);
  for (const ModelKind kind : {ModelKind::kText, ModelKind::kProjector}) {
    const std::string whole = (kind == ModelKind::kText ? tiny_llama() : tiny_projector()).write();
    const uint64_t end = header_bytes(whole);
    Outcome outcome;
    for (int round = 0; round < 10000; ++round) {
      std::string bytes = whole;
      for (uint64_t flips = 1 + random() % 3; flips > 0; --flips) {
        bytes[random() % end] ^= static_cast<char>(1 + random() % 255);
      }
      judge(bytes, kind, outcome);
    }
    EXPECT_GT(outcome.unreadable, 1000);
    EXPECT_GT(outcome.rejected, 300);
    EXPECT_GT(outcome.accepted, 10);
  }
}

TEST(GgufFuzz, HostileNumbers) {
  // Values on the edges of integer types, written over every aligned and unaligned place.
  constexpr uint64_t kNumbers[] = {0,          1,          0x7fffffff, 0x80000000, 0xffffffff,
                                   1ull << 32, 1ull << 61, ~0ull >> 1, 1ull << 63, ~0ull};
  const std::string whole = tiny_projector().write();
  const uint64_t end = header_bytes(whole);
  Outcome outcome;
  for (uint64_t at = 0; at + 8 <= end; ++at) {
    for (const uint64_t number : kNumbers) {
      std::string bytes = whole;
      std::memcpy(bytes.data() + at, &number, sizeof(number));
      judge(bytes, ModelKind::kProjector, outcome);
    }
  }
  EXPECT_GT(outcome.unreadable, outcome.accepted);
}

TEST(GgufFuzz, RandomBytes) {
  std::mt19937_64 random(7);
  Outcome outcome;
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = "GGUF" + testing::raw<uint32_t>(3) + testing::raw<uint64_t>(random() % 4) +
                        testing::raw<uint64_t>(random() % 4);
    bytes.resize(bytes.size() + random() % 512);
    for (size_t i = 24; i < bytes.size(); ++i) bytes[i] = static_cast<char>(random() % 8);
    judge(bytes, ModelKind::kText, outcome);
  }
  EXPECT_EQ(outcome.accepted, 0);
}

}  // namespace
}  // namespace pm::gguf

#include "engines/gguf/tensor_types.h"

#include <array>

namespace pm::gguf {
namespace {

// Index = type number. Sizes follow from the block layouts in ggml-common.h; an engine test
// compares them with ggml itself.
constexpr std::array<TensorTraits, 43> kTensorTraits = {{
    {"f32", 1, 4},        {"f16", 1, 2},       {"q4_0", 32, 18},     {"q4_1", 32, 20},
    {"", 0, 0},           {"", 0, 0},          {"q5_0", 32, 22},     {"q5_1", 32, 24},
    {"q8_0", 32, 34},     {"q8_1", 32, 36},    {"q2_K", 256, 84},    {"q3_K", 256, 110},
    {"q4_K", 256, 144},   {"q5_K", 256, 176},  {"q6_K", 256, 210},   {"q8_K", 256, 292},
    {"iq2_xxs", 256, 66}, {"iq2_xs", 256, 74}, {"iq3_xxs", 256, 98}, {"iq1_s", 256, 50},
    {"iq4_nl", 32, 18},   {"iq3_s", 256, 110}, {"iq2_s", 256, 82},   {"iq4_xs", 256, 136},
    {"i8", 1, 1},         {"i16", 1, 2},       {"i32", 1, 4},        {"i64", 1, 8},
    {"f64", 1, 8},        {"iq1_m", 256, 56},  {"bf16", 1, 2},       {"", 0, 0},
    {"", 0, 0},           {"", 0, 0},          {"tq1_0", 256, 54},   {"tq2_0", 256, 66},
    {"", 0, 0},           {"", 0, 0},          {"", 0, 0},           {"mxfp4", 32, 17},
    {"nvfp4", 64, 36},    {"q1_0", 128, 18},   {"q2_0", 64, 18},
}};

struct ValueTraits {
  std::string_view name;
  uint64_t bytes;
};

constexpr std::array<ValueTraits, 13> kValueTraits = {{
    {"u8", 1},
    {"i8", 1},
    {"u16", 2},
    {"i16", 2},
    {"u32", 4},
    {"i32", 4},
    {"f32", 4},
    {"bool", 1},
    {"str", 0},
    {"arr", 0},
    {"u64", 8},
    {"i64", 8},
    {"f64", 8},
}};

}  // namespace

std::string_view value_type_name(ValueType type) {
  const auto index = static_cast<uint32_t>(type);
  return index < kValueTraits.size() ? kValueTraits[index].name : "unknown";
}

uint64_t value_type_size(ValueType type) {
  const auto index = static_cast<uint32_t>(type);
  return index < kValueTraits.size() ? kValueTraits[index].bytes : 0;
}

const TensorTraits* tensor_traits(uint32_t type) {
  if (type >= kTensorTraits.size() || kTensorTraits[type].block_elements == 0) return nullptr;
  return &kTensorTraits[type];
}

uint32_t tensor_type_count() { return static_cast<uint32_t>(kTensorTraits.size()); }

}  // namespace pm::gguf

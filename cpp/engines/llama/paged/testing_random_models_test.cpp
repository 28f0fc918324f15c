// Named *_test.cpp so that the build puts it into the tests and not into the product.
#include "engines/llama/paged/testing_random_models.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <set>
#include <string_view>

#include "engines/llama/backend.h"
#include "engines/llama/paged/support.h"
#include "ggml-backend.h"
#include "ggml.h"
#include "gguf.h"

namespace pm::llama::testing {
namespace {

constexpr double kTwoPi = 6.283185307179586;

// splitmix64: the same numbers with every standard library.
class Random {
 public:
  explicit Random(std::string_view seed) {
    for (const char c : seed) state_ = (state_ ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  }
  double uniform() { return (static_cast<double>(next() >> 11) + 0.5) * 0x1p-53; }
  double normal() { return std::sqrt(-2.0 * std::log(uniform())) * std::cos(kTwoPi * uniform()); }

 private:
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  uint64_t state_ = 0xcbf29ce484222325u;
};

bool contains(std::string_view name, std::string_view part) {
  return name.find(part) != std::string_view::npos;
}

void fill(ggml_tensor* tensor, void* spec) {
  const std::string_view name = ggml_get_name(tensor);
  Random random(name);
  double mean = 0;
  double deviation = static_cast<const RandomModelSpec*>(spec)->deviation;
  if (deviation == 0) deviation = 1.0 / std::sqrt(static_cast<double>(tensor->ne[0]));
  if (contains(name, "rope_")) {
    mean = 1.5;  // divides frequencies
    deviation = 0.1;
  } else if (contains(name, "bias")) {
    deviation = 0.1;
  } else if (contains(name, "norm")) {
    mean = 1;
    deviation = 0.1;
  } else if (contains(name, "sinks")) {
    mean = 1;
    deviation = 1;
  }
  std::vector<float> values(static_cast<size_t>(ggml_nelements(tensor)));
  for (float& value : values) value = static_cast<float>(mean + deviation * random.normal());
  ggml_backend_tensor_set(tensor, values.data(), 0, ggml_nbytes(tensor));
}

struct FreeGguf {
  void operator()(gguf_context* gguf) const { gguf_free(gguf); }
};

class Metadata {
 public:
  explicit Metadata(std::string architecture)
      : architecture_(std::move(architecture)), gguf_(gguf_init_empty()) {
    gguf_set_val_str(gguf_.get(), "general.architecture", architecture_.c_str());
    gguf_set_val_str(gguf_.get(), "tokenizer.ggml.model", "no_vocab");
  }
  void set(const char* key, int value) {
    gguf_set_val_u32(gguf_.get(), full(key).c_str(), static_cast<uint32_t>(value));
  }
  void set(const char* key, float value) {
    gguf_set_val_f32(gguf_.get(), full(key).c_str(), value);
  }
  void set(const char* key, const std::vector<int32_t>& values) {
    gguf_set_arr_data(gguf_.get(), full(key).c_str(), GGUF_TYPE_INT32, values.data(),
                      values.size());
  }
  gguf_context* get() const { return gguf_.get(); }

 private:
  std::string full(const char* key) const { return architecture_ + "." + key; }

  std::string architecture_;
  std::unique_ptr<gguf_context, FreeGguf> gguf_;
};

Metadata metadata_of(const RandomModelSpec& spec) {
  const int width = spec.embedding_width();
  Metadata data(spec.architecture);
  data.set("vocab_size", kRandomVocabulary);
  data.set("context_length", 4096);
  data.set("embedding_length", width);
  data.set("block_count", spec.layers);
  data.set("feed_forward_length", width);
  data.set("attention.head_count", spec.query_heads);
  data.set("attention.head_count_kv", spec.kv_heads);
  data.set("attention.key_length", spec.head_size);
  data.set("attention.value_length", spec.head_size);
  data.set("attention.layer_norm_epsilon", 1e-5f);
  data.set("attention.layer_norm_rms_epsilon", 1e-5f);
  data.set("logit_scale", 1.0f);
  if (spec.window > 0) {
    data.set("attention.sliding_window", spec.window);
    data.set("attention.sliding_window_pattern", spec.window_pattern);
  }
  if (spec.softcap > 0) data.set("attn_logit_softcapping", spec.softcap);
  if (spec.experts) {
    // All experts are used: with a choice, the least difference could swap one for another.
    data.set("expert_count", 2);
    data.set("expert_used_count", 2);
    data.set("expert_feed_forward_length", width / 2);
    data.set("expert_shared_feed_forward_length", width / 2);
  }
  if (spec.two_dimensional) {
    const int pairs = spec.head_size / 2;
    data.set("rope.dimension_sections", {pairs / 4, pairs - pairs / 4 - pairs / 4, pairs / 4, 0});
  }
  return data;
}

}  // namespace

ModelPtr make_random_model(const RandomModelSpec& spec) {
  init_backend();
  llama_model_params params = llama_model_default_params();
  params.progress_callback = [](float, void*) { return true; };
  const Metadata data = metadata_of(spec);
  RandomModelSpec copy = spec;
  return ModelPtr(llama_model_init_from_user(data.get(), fill, &copy, params));
}

const std::vector<RandomModelSpec>& random_models() {
  static const std::vector<RandomModelSpec> models = {
      {.name = "llama", .architecture = "llama", .query_heads = 4, .kv_heads = 2},
      {.name = "llama_80",
       .architecture = "llama",
       .query_heads = 3,
       .kv_heads = 1,
       .head_size = 80,
       .width = 96},
      {.name = "mistral3",
       .architecture = "mistral3",
       .kv_heads = 2,
       .head_size = 128,
       .width = 96},
      {.name = "qwen2", .architecture = "qwen2", .query_heads = 7},
      {.name = "qwen2vl",
       .architecture = "qwen2vl",
       .query_heads = 2,
       .head_size = 64,
       .two_dimensional = true},
      {.name = "qwen3",
       .architecture = "qwen3",
       .query_heads = 4,
       .kv_heads = 2,
       .head_size = 128,
       .width = 96},
      {.name = "qwen3vl",
       .architecture = "qwen3vl",
       .query_heads = 3,
       .head_size = 96,
       .width = 128,
       .two_dimensional = true},
      {.name = "gemma", .architecture = "gemma", .query_heads = 2, .head_size = 256, .width = 96},
      {.name = "gemma2",
       .architecture = "gemma2",
       .query_heads = 4,
       .kv_heads = 2,
       .head_size = 128,
       .width = 128,
       .window = 40,
       .softcap = 2.0f},
      {.name = "gemma3",
       .architecture = "gemma3",
       .layers = 3,
       .head_size = 256,
       .width = 128,
       .window = 48,
       .window_pattern = 3},
      {.name = "gemma3_global",
       .architecture = "gemma3",
       .query_heads = 1,
       .head_size = 192,
       .width = 128},
      {.name = "phi3", .architecture = "phi3", .query_heads = 2, .kv_heads = 2, .head_size = 96},
      {.name = "phi3_window",
       .architecture = "phi3",
       .query_heads = 2,
       .head_size = 80,
       .window = 32},
      {.name = "smollm3",
       .architecture = "smollm3",
       .layers = 4,
       .query_heads = 4,
       .kv_heads = 2,
       .width = 96},
      {.name = "granite", .architecture = "granite", .query_heads = 3, .width = 96},
      {.name = "internlm2",
       .architecture = "internlm2",
       .query_heads = 4,
       .kv_heads = 2,
       .head_size = 32},
      {.name = "olmo2", .architecture = "olmo2", .query_heads = 2, .kv_heads = 2},
      {.name = "olmo2_window",
       .architecture = "olmo2",
       .query_heads = 2,
       .kv_heads = 2,
       .window = 33},
      {.name = "starcoder2", .architecture = "starcoder2", .query_heads = 2, .head_size = 80},
      {.name = "qwen2moe", .architecture = "qwen2moe", .query_heads = 2, .experts = true},
      {.name = "qwen3moe",
       .architecture = "qwen3moe",
       .query_heads = 6,
       .kv_heads = 2,
       .head_size = 64,
       .width = 96,
       .experts = true},
      {.name = "openai_moe",
       .architecture = "gpt-oss",
       .query_heads = 4,
       .kv_heads = 2,
       .head_size = 64,
       .width = 128,
       .window = 40,
       .experts = true},
  };
  return models;
}

const RandomModelSpec& random_model(const std::string& name) {
  for (const RandomModelSpec& spec : random_models()) {
    if (spec.name == name) return spec;
  }
  std::fprintf(stderr, "no random model of the name %s\n", name.c_str());
  std::abort();
}

}  // namespace pm::llama::testing

// Named *_test.cpp so that the build puts it into the tests and not into the product.
#include "engines/gguf/testing_models.h"

#include <cstdio>

namespace pm::gguf::testing {
namespace {

constexpr uint32_t kWidth = 64;
constexpr uint32_t kHidden = 96;

std::vector<std::string> vocabulary() {
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof(name), "<0x%02X>", byte);
    tokens.emplace_back(name);
  }
  for (const char* word : {"\xE2\x96\x81", "a", "b", "ab",
                           "\xE2\x96\x81"
                           "a"}) {
    tokens.emplace_back(word);
  }
  return tokens;
}

std::vector<int32_t> token_types(size_t count) {
  std::vector<int32_t> types(count, 1);
  types[0] = 2;
  types[1] = types[2] = 3;
  for (size_t i = 3; i < 259; ++i) types[i] = 6;
  return types;
}

void add_encoder_layer(TestModel& model, const std::string& layer, bool biases) {
  for (const char* norm : {"ln1", "ln2"}) {
    model.tensor(layer + norm + ".weight").shape = {kWidth};
    if (biases) model.tensor(layer + norm + ".bias").shape = {kWidth};
  }
  for (const char* part : {"attn_q", "attn_k", "attn_v", "attn_out"}) {
    model.tensor(layer + part + ".weight").shape = {kWidth, kWidth};
    if (biases) model.tensor(layer + part + ".bias").shape = {kWidth};
  }
  model.tensor(layer + "ffn_up.weight").shape = {kWidth, kHidden};
  model.tensor(layer + "ffn_down.weight").shape = {kHidden, kWidth};
  if (biases) {
    model.tensor(layer + "ffn_up.bias").shape = {kHidden};
    model.tensor(layer + "ffn_down.bias").shape = {kWidth};
  }
}

TestModel encoder(std::string_view type, bool biases) {
  TestModel model;
  model.set("general.architecture", str("clip"));
  model.set("clip.has_vision_encoder", boolean(true));
  model.set("clip.projector_type", str(type));
  model.set("clip.use_gelu", boolean(true));
  const std::string prefix = "clip.vision.";
  model.set(prefix + "image_size", u32(32));
  model.set(prefix + "patch_size", u32(8));
  model.set(prefix + "embedding_length", u32(kWidth));
  model.set(prefix + "feed_forward_length", u32(kHidden));
  model.set(prefix + "block_count", u32(2));
  model.set(prefix + "projection_dim", u32(kWidth));
  model.set(prefix + "attention.head_count", u32(4));
  model.set(prefix + "attention.layer_norm_epsilon", f32(1e-6f));
  model.set(prefix + "image_mean", floats({0.5f, 0.5f, 0.5f}));
  model.set(prefix + "image_std", floats({0.5f, 0.5f, 0.5f}));
  model.tensor("v.patch_embd.weight").shape = {8, 8, 3, kWidth};
  for (const char* layer : {"v.blk.0.", "v.blk.1."}) add_encoder_layer(model, layer, biases);
  return model;
}

}  // namespace

TestModel tiny_llama() {
  TestModel model;
  model.set("general.architecture", str("llama"));
  model.set("general.name", str("tiny"));
  model.set("general.file_type", u32(0));
  model.set("llama.context_length", u32(128));
  model.set("llama.embedding_length", u32(kWidth));
  model.set("llama.block_count", u32(2));
  model.set("llama.feed_forward_length", u32(kHidden));
  model.set("llama.attention.head_count", u32(4));
  model.set("llama.attention.head_count_kv", u32(2));
  model.set("llama.attention.layer_norm_rms_epsilon", f32(1e-5f));
  model.set("llama.rope.dimension_count", u32(16));
  model.set("llama.rope.freq_base", f32(10000));
  const auto tokens = vocabulary();
  const auto count = static_cast<uint32_t>(tokens.size());
  model.set("llama.vocab_size", u32(count));
  model.set("tokenizer.ggml.model", str("llama"));
  model.set("tokenizer.ggml.tokens", strings(tokens));
  model.set("tokenizer.ggml.scores", floats(std::vector<float>(count, -1.0f)));
  model.set("tokenizer.ggml.token_type", ints(token_types(count)));
  model.set("tokenizer.ggml.bos_token_id", u32(1));
  model.set("tokenizer.ggml.eos_token_id", u32(2));
  model.tensor("token_embd.weight").shape = {kWidth, count};
  model.tensor("output_norm.weight").shape = {kWidth};
  for (const char* layer : {"blk.0.", "blk.1."}) {
    const std::string name = layer;
    for (const char* norm : {"attn_norm", "ffn_norm"}) {
      model.tensor(name + norm + ".weight").shape = {kWidth};
    }
    model.tensor(name + "attn_q.weight").shape = {kWidth, kWidth};
    model.tensor(name + "attn_k.weight").shape = {kWidth, 32};
    model.tensor(name + "attn_v.weight").shape = {kWidth, 32};
    model.tensor(name + "attn_output.weight").shape = {kWidth, kWidth};
    model.tensor(name + "ffn_gate.weight").shape = {kWidth, kHidden};
    model.tensor(name + "ffn_up.weight").shape = {kWidth, kHidden};
    model.tensor(name + "ffn_down.weight").shape = {kHidden, kWidth};
  }
  return model;
}

TestModel tiny_projector() { return tiny_projector("lightonocr"); }

TestModel tiny_projector(std::string_view type) {
  TestModel model = encoder(type, type != "lightonocr");
  const std::string scale = "clip.vision.projector.scale_factor";
  if (type == "lightonocr") {
    model.set("clip.vision.spatial_merge_size", u32(2));
    model.tensor("mm.input_norm.weight").shape = {kWidth};
    model.tensor("mm.patch_merger.weight").shape = {4 * kWidth, 48};
    model.tensor("mm.1.weight").shape = {48, kHidden};
    model.tensor("mm.2.weight").shape = {kHidden, kWidth};
    return model;
  }
  if (type == "internvl" || type == "nemotron_v2_vl") {
    model.set(scale, u32(2));
    const uint64_t rows = type == "internvl" ? 17 : 16;
    model.tensor("v.class_embd").shape = {kWidth};
    model.tensor("v.position_embd.weight").shape = {kWidth, rows};
    model.tensor("mm.model.mlp.0.weight").shape = {4 * kWidth};
    model.tensor("mm.model.mlp.0.bias").shape = {4 * kWidth};
    model.tensor("mm.model.mlp.1.weight").shape = {4 * kWidth, kHidden};
    model.tensor("mm.model.mlp.1.bias").shape = {kHidden};
    model.tensor("mm.model.mlp.3.weight").shape = {kHidden, kWidth};
    model.tensor("mm.model.mlp.3.bias").shape = {kWidth};
    return model;
  }
  model.tensor("v.position_embd.weight").shape = {kWidth, 16};
  if (type == "gemma3") {
    model.set(scale, u32(2));
    model.tensor("mm.soft_emb_norm.weight").shape = {kWidth};
    model.tensor("mm.input_projection.weight").shape = {kHidden, kWidth};
  } else if (type == "idefics3") {
    model.set(scale, u32(2));
    model.tensor("mm.model.fc.weight").shape = {4 * kWidth, kHidden};
  } else {
    const std::string second = type == "janus_pro" ? "mm.1" : "mm.2";
    model.tensor("mm.0.weight").shape = {kWidth, kHidden};
    model.tensor("mm.0.bias").shape = {kHidden};
    model.tensor(second + ".weight").shape = {kHidden, kWidth};
    model.tensor(second + ".bias").shape = {kWidth};
  }
  return model;
}

}  // namespace pm::gguf::testing

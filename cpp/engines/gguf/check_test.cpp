#include "engines/gguf/check.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "engines/gguf/testing_models.h"

namespace pm::gguf {
namespace {

using testing::array;
using testing::boolean;
using testing::f32;
using testing::floats;
using testing::i32;
using testing::ints;
using testing::parse;
using testing::str;
using testing::strings;
using testing::TestModel;
using testing::tiny_llama;
using testing::tiny_projector;
using testing::u32;

using Change = std::function<void(TestModel&)>;

Status check(const TestModel& model, ModelKind kind) {
  const auto file = parse(model.write());
  if (!file) return file.error();
  return check_model(file.value(), kind);
}

// Each change breaks one rule and has to be named in the message.
void expect_rejected(TestModel model, ModelKind kind, const Change& change,
                     const std::string& message) {
  change(model);
  const Status status = check(model, kind);
  ASSERT_FALSE(status.ok()) << "accepted; wanted: " << message;
  EXPECT_EQ(status.error().code, ErrorCode::kModelInvalid);
  EXPECT_NE(status.error().message.find(message), std::string::npos)
      << "wanted: " << message << "\ngot: " << status.error().message;
}

void expect_text_error(const Change& change, const std::string& message) {
  expect_rejected(tiny_llama(), ModelKind::kText, change, message);
}

void expect_projector_error(const Change& change, const std::string& message,
                            std::string_view type = "lightonocr") {
  expect_rejected(tiny_projector(type), ModelKind::kProjector, change, message);
}

TEST(GgufCheckText, AcceptsAValidModel) {
  const Status status = check(tiny_llama(), ModelKind::kText);
  EXPECT_TRUE(status.ok()) << status.error().message;
}

TEST(GgufCheckText, AcceptsNumbersForEachLayer) {
  TestModel model = tiny_llama();
  model.set("llama.attention.head_count", ints({4, 4}));
  model.set("llama.attention.head_count_kv", array<uint32_t>(4, {2, 2}));
  model.set("llama.feed_forward_length", ints({96, 96}));
  model.set("tokenizer.ggml.padding_token_id", u32(0xffffffffu));  // "none"
  const Status status = check(model, ModelKind::kText);
  EXPECT_TRUE(status.ok()) << status.error().message;
}

TEST(GgufCheckText, Architecture) {
  expect_text_error([](auto& m) { m.remove("general.architecture"); }, "no such key");
  expect_text_error([](auto& m) { m.set("general.architecture", u32(1)); }, "type str");
  expect_text_error([](auto& m) { m.set("general.architecture", str("LLA MA")); },
                    "the name of an architecture");
  expect_text_error([](auto& m) { m.set("general.architecture", str("clip")); },
                    "pass it as mmproj");
  expect_text_error([](auto& m) { m.set("general.architecture", str("qwen2")); },
                    "qwen2.context_length");
}

TEST(GgufCheckText, Sizes) {
  const auto set = [](const char* key, testing::TestValue value) {
    return [=](TestModel& m) { m.set(std::string("llama.") + key, value); };
  };
  expect_text_error(set("context_length", u32(0)), "llama.context_length");
  expect_text_error(set("context_length", u32((1u << 24) + 1)), "from 1 to 16777216");
  expect_text_error(set("block_count", u32(0)), "llama.block_count");
  expect_text_error(set("block_count", u32(513)), "from 1 to 512");
  expect_text_error(set("block_count", i32(2)), "type u32");
  expect_text_error(set("embedding_length", u32(128)), "the shape [128, vocabulary size]");
  expect_text_error(set("attention.head_count", u32(6)), "a divisor of the embedding length 64");
  expect_text_error(set("attention.head_count_kv", u32(3)), "a divisor of the 4 attention heads");
  expect_text_error(set("attention.head_count", ints({4})), "one number for each of 2 layers");
  expect_text_error(set("attention.head_count", ints({4, -4})), "layer 1");
  expect_text_error(set("feed_forward_length", floats({1, 2})), "an array of u32 or i32");
  expect_text_error(set("attention.layer_norm_rms_epsilon", f32(1)), "from 0 to 0.999");
  expect_text_error(
      set("attention.layer_norm_rms_epsilon", f32(std::numeric_limits<float>::quiet_NaN())),
      "found nan");
  expect_text_error(set("attention.causal", boolean(false)), "bidirectional attention");
  expect_text_error(set("pooling_type", u32(5)), "from 0 to 4");
  expect_text_error(set("nextn_predict_layers", u32(2)), "nextn_predict_layers");
  expect_text_error(set("rope.dimension_count", u32(15)), "an even number");
  expect_text_error(set("rope.dimension_count", u32(32)), "at most the head size 16");
  expect_text_error(set("rope.scaling.type", str("yarm")), "none, linear, yarn or longrope");
  expect_text_error(set("rope.freq_base", f32(0)), "rope.freq_base");
  expect_text_error(set("logit_scale", f32(std::numeric_limits<float>::infinity())),
                    "llama.logit_scale");
  expect_text_error(set("some_count", u32(0x80000000u)), "llama.some_count");
}

TEST(GgufCheckText, Experts) {
  const auto experts = [](uint32_t count, uint32_t used, uint32_t groups, uint32_t groups_used) {
    return [=](TestModel& m) {
      m.set("llama.expert_count", u32(count));
      m.set("llama.expert_used_count", u32(used));
      m.set("llama.expert_group_count", u32(groups));
      m.set("llama.expert_group_used_count", u32(groups_used));
    };
  };
  TestModel valid = tiny_llama();
  experts(8, 2, 4, 2)(valid);
  EXPECT_TRUE(check(valid, ModelKind::kText).ok());
  expect_text_error(experts(8, 9, 0, 0), "at most the expert count 8");
  expect_text_error(experts(8, 0, 0, 0), "at least 1 with 8 experts");
  expect_text_error(experts(0, 0, 2, 1), "fewer groups than the 0 experts");
  expect_text_error(experts(8, 2, 3, 1), "a divisor of the 8 experts");
  expect_text_error(experts(8, 2, 4, 4), "1 to 3");
  expect_text_error(experts(1025, 2, 0, 0), "from 0 to 1024");
}

TEST(GgufCheckText, TensorTypes) {
  expect_text_error([](auto& m) { m.tensors.clear(); }, "at least one tensor");
  for (const uint32_t type : {kTensorI8, kTensorI32, kTensorF64}) {
    expect_text_error([=](auto& m) { m.tensor("token_embd.weight").type = type; },
                      "a type that weights can have");
  }
  expect_text_error([](auto& m) { m.tensor("output_norm.weight").type = kTensorF16; },
                    "type f32 for a norm, bias or vector");
  expect_text_error([](auto& m) { m.remove_tensor("token_embd.weight"); }, "token embeddings");
  expect_text_error([](auto& m) { m.tensor("token_embd.weight").shape = {64, 263}; },
                    "one row for each of the 264 tokens");
}

TEST(GgufCheckVocabulary, Tokens) {
  const auto set = [](const char* key, testing::TestValue value) {
    return [=](TestModel& m) { m.set(std::string("tokenizer.ggml.") + key, value); };
  };
  expect_text_error(set("model", str("lama")), "a tokenizer that text can be generated with");
  expect_text_error(set("model", u32(1)), "type str");
  expect_text_error([](auto& m) { m.remove("tokenizer.ggml.tokens"); }, "no such key");
  expect_text_error(
      [](auto& m) {
        m.set("tokenizer.ggml.tokens", ints({1}));
        m.tensor("token_embd.weight").shape = {64, 1};
      },
      "an array of strings");
  expect_text_error(set("scores", floats({1, 2})), "one element for each of 264 tokens");
  expect_text_error(set("scores", strings({"a"})), "an array of f32");
  expect_text_error(set("token_type", floats({1})), "an array of i32");
  expect_text_error(set("bos_token_id", u32(264)), "a token id below 264");
  expect_text_error(set("eot_token_id", i32(1)), "type u32");
  expect_text_error(set("add_bos_token", u32(1)), "type bool");
  expect_text_error([](auto& m) { m.set("tokenizer.chat_template", u32(1)); }, "a string");
  expect_text_error(
      [](auto& m) { m.set("tokenizer.chat_template", str(std::string((1 << 20) + 1, 'x'))); },
      "at most 1 MiB");
}

// Replaces one token of the tiny llama, keeping everything else.
Change replace_token(uint64_t id, const std::string& replacement) {
  return [=](TestModel& model) {
    const auto file = parse(tiny_llama().write());
    const Array* old = file.value().find("tokenizer.ggml.tokens")->value.array();
    std::vector<std::string> tokens;
    for (uint64_t i = 0; i < old->length; ++i) {
      tokens.push_back(i == id ? replacement : std::string(old->string_at(i)));
    }
    model.set("tokenizer.ggml.tokens", strings(tokens));
  };
}

Change replace_type(uint64_t id, int32_t type) {
  return [=](TestModel& model) {
    std::vector<int32_t> types(264, 1);
    for (size_t i = 3; i < 259; ++i) types[i] = 6;
    types[id] = type;
    model.set("tokenizer.ggml.token_type", ints(types));
  };
}

TEST(GgufCheckVocabulary, TokenTexts) {
  expect_text_error(replace_token(260, "b"), "\"b\" a second time");
  expect_text_error(replace_token(260, std::string("b\0x", 3)), "a second time");
  expect_text_error(replace_token(260, "\xff\xfe"), "UTF-8 text");
  expect_text_error(replace_token(68, "<0xZZ>"), "a byte token spelled like <0x41>");
  expect_text_error(
      [](auto& m) {
        replace_token(68, "<0xZZ>")(m);
        m.remove("tokenizer.ggml.token_type");
      },
      "all of the byte tokens");
  expect_text_error(replace_type(260, 6), "a byte token spelled like <0x41>");
  expect_text_error(replace_type(68, 1), "256 byte tokens or none");
  expect_text_error(replace_type(260, 7), "a token type from 0 to 6");
  expect_text_error(
      [](auto& m) {
        m.set("tokenizer.ggml.scores",
              floats(std::vector<float>(264, std::numeric_limits<float>::quiet_NaN())));
      },
      "found NaN");
}

TestModel byte_pair_model() {
  TestModel model = tiny_llama();
  model.set("tokenizer.ggml.model", str("gpt2"));
  model.set("tokenizer.ggml.merges", strings({"a b"}));
  return model;
}

TEST(GgufCheckVocabulary, Merges) {
  EXPECT_TRUE(check(byte_pair_model(), ModelKind::kText).ok());
  for (const char* merge : {"ab", "a ", " a", "a b c", ""}) {
    expect_rejected(
        byte_pair_model(), ModelKind::kText,
        [=](auto& m) { m.set("tokenizer.ggml.merges", strings({merge})); },
        "two pieces of UTF-8 text with one space between");
  }
  expect_rejected(
      byte_pair_model(), ModelKind::kText, [](auto& m) { m.remove("tokenizer.ggml.merges"); },
      "tokenizer.ggml.merges");
}

TEST(GgufCheckVocabulary, AddedTokensExist) {
  TestModel model = tiny_llama();
  model.set("tokenizer.ggml.tokens", strings({"x"}));
  model.remove("tokenizer.ggml.scores");
  model.remove("tokenizer.ggml.token_type");
  model.remove("tokenizer.ggml.bos_token_id");
  model.remove("tokenizer.ggml.eos_token_id");
  model.tensor("token_embd.weight").shape = {64, 1};
  expect_rejected(model, ModelKind::kText, [](auto&) {}, "the token that add_bos_token asks for");
  model.set("tokenizer.ggml.add_bos_token", boolean(false));
  EXPECT_TRUE(check(model, ModelKind::kText).ok());
  expect_rejected(
      model, ModelKind::kText,
      [](auto& m) { m.set("tokenizer.ggml.add_eos_token", boolean(true)); },
      "the token that add_eos_token asks for");
}

TEST(GgufCheckProjector, AcceptsEveryPlainVit) {
  for (const char* type :
       {"lightonocr", "mlp", "gemma3", "internvl", "nemotron_v2_vl", "idefics3", "janus_pro"}) {
    const Status status = check(tiny_projector(type), ModelKind::kProjector);
    EXPECT_TRUE(status.ok()) << type << ": " << status.error().message;
  }
}

TEST(GgufCheckProjector, Keys) {
  const auto set = [](const char* key, testing::TestValue value) {
    return [=](TestModel& m) { m.set(std::string("clip.") + key, value); };
  };
  expect_projector_error([](auto& m) { m.set("general.architecture", str("llama")); },
                         "a multimodal projector");
  expect_projector_error(set("has_vision_encoder", boolean(false)), "a vision or audio encoder");
  expect_projector_error(set("has_vision_encoder", u32(1)), "type bool");
  expect_projector_error(set("projector_type", str("")), "a projector type");
  expect_projector_error(set("use_silu", boolean(true)), "both use_gelu and use_silu");
  expect_projector_error(set("vision.image_size", f32(32)), "type u32");
  expect_projector_error(set("vision.image_size", u32(8193)), "from 0 to 8192");
  expect_projector_error(set("vision.image_size", u32(7)), "at least one patch of 8");
  expect_projector_error(set("vision.patch_size", u32(0)), "from 1 to 1024");
  expect_projector_error(set("vision.attention.head_count", u32(0)), "at least 1");
  expect_projector_error(set("vision.attention.head_count", u32(3)), "a divisor of the embedding");
  expect_projector_error(set("vision.attention.head_count", u32(32)), "a multiple of 4");
  expect_projector_error(set("vision.attention.head_count_kv", u32(3)), "a divisor of the 4 heads");
  expect_projector_error(set("vision.block_count", u32(3)), "v.blk.2.ln1.weight");
  expect_projector_error(set("vision.block_count", u32(0)), "at least 1");
  expect_projector_error(set("vision.attention.layer_norm_epsilon", f32(-1)), "from 0 to 0.999");
  expect_projector_error(set("vision.image_std", floats({0.5f, 0, 0.5f})), "positive numbers");
  expect_projector_error(set("vision.image_mean", floats({0.5f, 0.5f})), "3 numbers of type f32");
  expect_projector_error(set("vision.spatial_merge_size", u32(17)), "from 1 to 16");
  expect_projector_error(set("vision.projector.scale_factor", u32(3)), "a grid of patches that 3",
                         "gemma3");
}

TEST(GgufCheckProjector, PixelBounds) {
  expect_projector_error(
      [](auto& m) {
        m.set("clip.vision.image_min_pixels", u32(9));
        m.set("clip.vision.image_max_pixels", u32(8));
      },
      "at least image_min_pixels 9");
  expect_projector_error(
      [](auto& m) {
        m.set("clip.vision.preproc_min_tiles", u32(3));
        m.set("clip.vision.preproc_max_tiles", u32(2));
      },
      "at least preproc_min_tiles 3");
}

TEST(GgufCheckProjector, Shapes) {
  const auto shape = [](const char* name, std::vector<uint64_t> dims) {
    return [=](TestModel& m) { m.tensor(name).shape = dims; };
  };
  const auto without = [](const char* name) {
    return [=](TestModel& m) { m.remove_tensor(name); };
  };
  expect_projector_error(without("v.patch_embd.weight"), "v.patch_embd.weight");
  expect_projector_error(shape("v.patch_embd.weight", {8, 8, 1, 64}), "the shape [8, 8, 3, 64]");
  expect_projector_error(without("v.blk.1.attn_k.weight"), "v.blk.1.attn_k.weight");
  expect_projector_error(shape("v.blk.0.attn_out.weight", {64, 63}), "the shape [64, 64]");
  expect_projector_error(shape("v.blk.0.ffn_up.weight", {63, 96}), "the shape [64, any]");
  expect_projector_error(shape("v.blk.0.ffn_down.weight", {95, 64}), "the shape [96, 64]");
  expect_projector_error(shape("v.blk.1.ln1.bias", {64}), "the same tensors in every layer");
  expect_projector_error(shape("v.blk.0.ln1.bias", {64}), "9 as in layer 0");
}

TEST(GgufCheckProjector, Projections) {
  const auto shape = [](const char* name, std::vector<uint64_t> dims) {
    return [=](TestModel& m) { m.tensor(name).shape = dims; };
  };
  const auto without = [](const char* name) {
    return [=](TestModel& m) { m.remove_tensor(name); };
  };
  expect_projector_error(without("mm.input_norm.weight"), "mm.input_norm.weight");
  expect_projector_error(without("mm.patch_merger.weight"), "a merger of 2 by 2");
  expect_projector_error(shape("mm.1.weight", {47, 96}), "the shape [48, any]");
  expect_projector_error(shape("mm.2.weight", {95, 64}), "the shape [96, any]");
  expect_projector_error(shape("v.position_embd.weight", {64, 17}), "the shape [64, 16]", "gemma3");
  expect_projector_error(without("v.position_embd.weight"), "v.position_embd.weight", "mlp");
  expect_projector_error(without("v.class_embd"), "a class token", "internvl");
  expect_projector_error(shape("mm.soft_emb_norm.weight", {63}), "mm.soft_emb_norm", "gemma3");
  expect_projector_error(shape("mm.input_projection.weight", {96, 63}), "mm.input_proj", "gemma3");
  expect_projector_error(without("mm.0.bias"), "mm.0.bias", "mlp");
  expect_projector_error(without("mm.2.weight"), "the second matrix", "mlp");
  expect_projector_error(shape("mm.model.fc.weight", {255, 96}), "[256, any]", "idefics3");
  expect_projector_error(shape("mm.model.mlp.0.weight", {255}), "[256]", "nemotron_v2_vl");
  expect_projector_error(without("mm.model.mlp.3.bias"), "mm.model.mlp.3.bias", "internvl");
}

}  // namespace
}  // namespace pm::gguf

// Rules for the hyperparameters of a text model: src/llama-model.cpp (load_hparams) and the graph
// code that uses them.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "engines/gguf/check_util.h"

namespace pm::gguf {
namespace {

constexpr double kMaxContext = 1 << 24;
constexpr double kMaxWidth = 1 << 18;
constexpr double kMaxHeads = 4096;
constexpr double kMaxLayers = 512;
constexpr double kMaxExperts = 1024;
constexpr double kMaxHeadSize = 8192;
constexpr double kMaxInt = std::numeric_limits<int32_t>::max();
constexpr double kMaxFloat = std::numeric_limits<float>::max();

constexpr KeyRule kRules[] = {
    {"context_length", ValueType::kUint32, 1, kMaxContext, true},
    {"embedding_length", ValueType::kUint32, 1, kMaxWidth, true},
    {"block_count", ValueType::kUint32, 1, kMaxLayers, true},
    {"vocab_size", ValueType::kUint32, 1, 1 << 22},
    {"attention.key_length", ValueType::kUint32, 1, kMaxHeadSize},
    {"attention.value_length", ValueType::kUint32, 1, kMaxHeadSize},
    {"attention.key_length_swa", ValueType::kUint32, 1, kMaxHeadSize},
    {"attention.value_length_swa", ValueType::kUint32, 1, kMaxHeadSize},
    {"attention.layer_norm_epsilon", ValueType::kFloat32, 0, 0.999},
    {"attention.layer_norm_rms_epsilon", ValueType::kFloat32, 0, 0.999},
    {"attention.group_norm_epsilon", ValueType::kFloat32, 0, 0.999},
    {"attention.causal", ValueType::kBool},
    {"attention.sliding_window", ValueType::kUint32, 0, kMaxInt},
    {"pooling_type", ValueType::kUint32, 0, 4},
    {"rope.dimension_count", ValueType::kUint32, 0, kMaxHeadSize},
    {"rope.dimension_count_swa", ValueType::kUint32, 0, kMaxHeadSize},
    {"rope.freq_base", ValueType::kFloat32, 1e-6, 1e15},
    {"rope.freq_base_swa", ValueType::kFloat32, 1e-6, 1e15},
    {"rope.scaling.type", ValueType::kString},
    {"rope.scaling.factor", ValueType::kFloat32, 0, 1e9},
    {"rope.scaling.attn_factor", ValueType::kFloat32, -1e9, 1e9},
    {"rope.scaling.original_context_length", ValueType::kUint32, 1, kMaxContext},
    {"rope.scaling.finetuned", ValueType::kBool},
    {"expert_count", ValueType::kUint32, 0, kMaxExperts},
    {"expert_group_count", ValueType::kUint32, 0, kMaxExperts},
    {"expert_group_used_count", ValueType::kUint32, 0, kMaxExperts},
    {"expert_shared_count", ValueType::kUint32, 0, kMaxExperts},
    {"nextn_predict_layers", ValueType::kUint32, 0, kMaxLayers},
    {"leading_dense_block_count", ValueType::kUint32, 0, kMaxLayers},
};

// A key that is one number for all layers, or one number for each.
struct LayerRule {
  std::string_view key;
  double min;
  double max;
};

constexpr LayerRule kLayerRules[] = {
    {"attention.head_count", 0, kMaxHeads},     {"attention.head_count_kv", 0, kMaxHeads},
    {"feed_forward_length", 0, 1 << 22},        {"expert_used_count", 0, kMaxExperts},
    {"expert_feed_forward_length", 0, 1 << 22},
};

// Architectures whose attention really slides: a window of 0 is an assertion there.
constexpr std::string_view kSlidingArchitectures[] = {"gemma2", "gemma3",  "gemma3n",
                                                      "gemma4", "cohere2", "gpt-oss"};

std::string architecture(const GgufFile& file) {
  return std::string(file.text("general.architecture"));
}

bool is_architecture_name(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
  });
}

// The value of each layer, or nothing when the key is absent. Precondition: check_layer_key passed.
std::vector<uint64_t> per_layer(const GgufFile& file, const std::string& key, uint64_t layers) {
  const KeyValue* entry = file.find(key);
  if (entry == nullptr) return {};
  std::vector<uint64_t> values(layers, 0);
  for (uint64_t i = 0; i < layers; ++i) {
    const Array* array = entry->value.array();
    values[i] = array == nullptr ? std::get<uint64_t>(entry->value.data)
                                 : static_cast<uint64_t>(array->integer_at(i));
  }
  return values;
}

Status check_layer_key(const GgufFile& file, const LayerRule& rule, const std::string& prefix,
                       uint64_t layers) {
  const std::string key = prefix + std::string(rule.key);
  const KeyValue* entry = file.find(key);
  if (entry == nullptr) return {};
  const Array* array = entry->value.array();
  if (array == nullptr) {
    return check_key(file, {rule.key, ValueType::kUint32, rule.min, rule.max, false}, prefix);
  }
  const std::string where = "key " + key + " at offset " + std::to_string(entry->offset);
  PM_TRY(require(array->type == ValueType::kUint32 || array->type == ValueType::kInt32, where,
                 "an array of u32 or i32", describe(entry->value)));
  PM_TRY(require(array->length == layers, where,
                 "one number for each of " + std::to_string(layers) + " layers",
                 describe(entry->value)));
  for (uint64_t i = 0; i < layers; ++i) {
    const int64_t number = array->integer_at(i);
    PM_TRY(require(
        number >= static_cast<int64_t>(rule.min) && number <= static_cast<int64_t>(rule.max),
        where + ", layer " + std::to_string(i),
        "at most " + std::to_string(static_cast<int64_t>(rule.max)), std::to_string(number)));
  }
  return {};
}

Status check_heads(const GgufFile& file, const std::string& prefix, uint64_t layers) {
  const auto heads = per_layer(file, prefix + "attention.head_count", layers);
  auto kv_heads = per_layer(file, prefix + "attention.head_count_kv", layers);
  if (heads.empty()) return {};
  const std::string where = "key " + prefix + "attention.head_count";
  const uint64_t width = find_u32(file, prefix + "embedding_length").value_or(0);
  if (kv_heads.empty()) kv_heads = heads;
  for (uint64_t i = 0; i < layers; ++i) {
    if (heads[i] == 0) continue;
    if (kv_heads[i] > 0) {
      PM_TRY(require(heads[i] % kv_heads[i] == 0, where + "_kv",
                     "a divisor of the " + std::to_string(heads[i]) + " attention heads",
                     std::to_string(kv_heads[i])));
    }
  }
  // Layer 0 decides the size of a head when it is not given.
  if (heads[0] > 0 && !find_u32(file, prefix + "attention.key_length")) {
    PM_TRY(require(width % heads[0] == 0, where,
                   "a divisor of the embedding length " + std::to_string(width),
                   std::to_string(heads[0])));
  }
  return {};
}

Status check_rope(const GgufFile& file, const std::string& prefix) {
  const KeyValue* heads = file.find(prefix + "attention.head_count");
  const KeyValue* entry = file.find(prefix + "rope.scaling.type");
  if (entry != nullptr) {
    const std::string& type = *entry->value.string();
    PM_TRY(require(type == "none" || type == "linear" || type == "yarn" || type == "longrope",
                   "key " + prefix + "rope.scaling.type", "none, linear, yarn or longrope",
                   describe(entry->value)));
  }
  const auto rotated = find_u32(file, prefix + "rope.dimension_count");
  if (!rotated) return {};
  const std::string where = "key " + prefix + "rope.dimension_count";
  PM_TRY(require(*rotated % 2 == 0, where, "an even number", std::to_string(*rotated)));
  auto size = find_u32(file, prefix + "attention.key_length");
  if (!size && heads != nullptr && heads->value.type == ValueType::kUint32) {
    const uint64_t count = std::get<uint64_t>(heads->value.data);
    if (count > 0) size = find_u32(file, prefix + "embedding_length").value_or(0) / count;
  }
  if (!size) return {};
  return require(*rotated <= *size, where, "at most the head size " + std::to_string(*size),
                 std::to_string(*rotated));
}

Status check_experts(const GgufFile& file, const std::string& prefix, uint64_t layers) {
  const uint64_t experts = find_u32(file, prefix + "expert_count").value_or(0);
  const uint64_t groups = find_u32(file, prefix + "expert_group_count").value_or(0);
  const auto used = per_layer(file, prefix + "expert_used_count", layers);
  const uint64_t most = used.empty() ? 0 : *std::max_element(used.begin(), used.end());
  const std::string where = "key " + prefix + "expert_used_count";
  PM_TRY(require(most <= experts, where, "at most the expert count " + std::to_string(experts),
                 std::to_string(most)));
  PM_TRY(require(experts == 0 || most > 0, where,
                 "at least 1 with " + std::to_string(experts) + " experts", "0"));
  const std::string group_key = "key " + prefix + "expert_group_count";
  PM_TRY(require(groups == 0 || groups < experts, group_key,
                 "fewer groups than the " + std::to_string(experts) + " experts",
                 std::to_string(groups)));
  if (groups <= 1) return {};
  const uint64_t groups_used = find_u32(file, prefix + "expert_group_used_count").value_or(0);
  PM_TRY(require(experts % groups == 0, group_key,
                 "a divisor of the " + std::to_string(experts) + " experts",
                 std::to_string(groups)));
  return require(groups_used > 0 && groups_used < groups,
                 "key " + prefix + "expert_group_used_count", "1 to " + std::to_string(groups - 1),
                 std::to_string(groups_used));
}

// Values that no rule above names: finite floats, and integers that llama.cpp can hold in an int.
Status check_other_scalars(const GgufFile& file, const std::string& prefix) {
  for (const KeyValue& entry : file.metadata) {
    if (!std::string_view(entry.key).starts_with(prefix)) continue;
    if (entry.value.type != ValueType::kFloat32 && entry.value.type != ValueType::kUint32) continue;
    const double max = entry.value.type == ValueType::kFloat32 ? kMaxFloat : kMaxInt;
    PM_TRY(check_key(file, {entry.key, entry.value.type, -max, max, true}));
  }
  return {};
}

Status check_generation(const GgufFile& file, const std::string& prefix, const std::string& arch) {
  PM_TRY(require(find_bool(file, prefix + "attention.causal").value_or(true),
                 "key " + prefix + "attention.causal", "a causal model that can generate text",
                 "one with bidirectional attention"));
  const auto window = find_u32(file, prefix + "attention.sliding_window");
  const bool slides = std::find(std::begin(kSlidingArchitectures), std::end(kSlidingArchitectures),
                                arch) != std::end(kSlidingArchitectures);
  return require(!slides || !window || *window > 0, "key " + prefix + "attention.sliding_window",
                 "at least 1", "0");
}

Status check_embedding(const GgufFile& file, const std::string& prefix) {
  const Tensor* tensor = file.find_tensor("token_embd.weight");
  PM_TRY(require(tensor != nullptr, "tensor token_embd.weight", "token embeddings", "none"));
  const uint64_t width = find_u32(file, prefix + "embedding_length").value_or(0);
  PM_TRY(require(tensor->dims == 2 && tensor->shape[0] == width, "tensor token_embd.weight",
                 "the shape [" + std::to_string(width) + ", vocabulary size]",
                 describe_shape(*tensor)));
  const KeyValue* tokens = file.find("tokenizer.ggml.tokens");
  const Array* array = tokens == nullptr ? nullptr : tokens->value.array();
  if (array == nullptr) return {};
  return require(tensor->shape[1] == array->length, "tensor token_embd.weight",
                 "one row for each of the " + std::to_string(array->length) + " tokens",
                 describe_shape(*tensor));
}

}  // namespace

Status check_text_parameters(const GgufFile& file) {
  PM_TRY(check_key(file, {"general.architecture", ValueType::kString, 0, 0, true}));
  const std::string arch = architecture(file);
  PM_TRY(require(is_architecture_name(arch), "key general.architecture",
                 "the name of an architecture, e.g. llama",
                 describe(file.find("general.architecture")->value)));
  PM_TRY(require(arch != "clip", "key general.architecture", "a text model",
                 "a multimodal projector (pass it as mmproj)"));
  const std::string prefix = arch + ".";
  for (const KeyRule& rule : kRules) PM_TRY(check_key(file, rule, prefix));
  const uint64_t layers = find_u32(file, prefix + "block_count").value_or(0);
  for (const LayerRule& rule : kLayerRules) PM_TRY(check_layer_key(file, rule, prefix, layers));
  PM_TRY(require(find_u32(file, prefix + "nextn_predict_layers").value_or(0) < layers,
                 "key " + prefix + "nextn_predict_layers",
                 "fewer than the " + std::to_string(layers) + " layers", "more"));
  PM_TRY(check_heads(file, prefix, layers));
  PM_TRY(check_rope(file, prefix));
  PM_TRY(check_experts(file, prefix, layers));
  PM_TRY(check_other_scalars(file, prefix));
  PM_TRY(check_generation(file, prefix, arch));
  return check_embedding(file, prefix);
}

// Types that ggml can multiply with or look rows up in. 1-D tensors (norms, biases) meet element-
// wise operators that only take F32.
Status check_tensor_types(const GgufFile& file) {
  for (const Tensor& tensor : file.tensors) {
    const std::string where = "tensor " + tensor.name;
    const std::string found(tensor_traits(tensor.type)->name);
    const bool integer = tensor.type >= kTensorI8 && tensor.type <= kTensorF64;
    // The one integer tensor there is: a table from tokens to experts.
    const bool table = tensor.type == kTensorI32 && tensor.name.find("tid2eid") != tensor.name.npos;
    PM_TRY(require(table || !(integer || tensor.type == kTensorQ8_1 || tensor.type == kTensorQ8K),
                   where, "a type that weights can have", found));
    const std::string_view name = tensor.name;
    const bool small = tensor.dims <= 1 || name.ends_with("norm.weight") || name.ends_with(".bias");
    PM_TRY(require(!small || table || tensor.type == kTensorF32, where,
                   "type f32 for a norm, bias or vector", found));
  }
  return require(!file.tensors.empty(), "tensors", "at least one tensor", "none");
}

Status check_model(const GgufFile& file, ModelKind kind) {
  PM_TRY(check_tensor_types(file));
  if (kind == ModelKind::kProjector) return check_projector(file);
  PM_TRY(check_text_parameters(file));
  return check_vocabulary(file);
}

}  // namespace pm::gguf

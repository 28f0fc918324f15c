#include "engines/gguf/check_encoder.h"

#include <algorithm>
#include <initializer_list>
#include <string>
#include <vector>

#include "engines/gguf/check_util.h"

namespace pm::gguf {
namespace {

using Shape = std::vector<uint64_t>;

// How a plain ViT of one projector type is put together.
struct PlainVit {
  std::string_view type;
  // Learned positions: rows beyond one for each patch; -1 without such a table.
  int extra_positions;
  bool class_token;
  bool rotary_2d;
  // Old exporters swapped the names of the two feed-forward matrices; llama.cpp swaps them back.
  bool may_swap_ffn;
  // The number that divides a side of the patch grid: which key holds it, and its default.
  std::string_view merge_key;
  uint64_t merge_default;
};

constexpr PlainVit kPlainVits[] = {
    {"lightonocr", -1, false, true, false, "spatial_merge_size", 1},
    {"pixtral", -1, false, true, false, "spatial_merge_size", 1},
    {"mlp", 0, false, false, true, "", 1},
    {"gemma3", 0, false, false, true, "projector.scale_factor", 4},
    {"internvl", 1, true, false, false, "projector.scale_factor", 1},
    {"nemotron_v2_vl", 0, true, false, false, "projector.scale_factor", 1},
    {"idefics3", 0, false, false, true, "projector.scale_factor", 1},
    {"janus_pro", 0, false, false, false, "", 1},
};

struct Sizes {
  uint64_t width = 0;
  uint64_t head = 0;
  uint64_t heads = 0;
  uint64_t kv_heads = 0;
  uint64_t layers = 0;
  uint64_t patch = 0;
  uint64_t side = 0;  // patches along one side of the image
  uint64_t merge = 1;
};

std::string describe_shape(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

bool has_shape(const Tensor& tensor, const Shape& shape) {
  for (size_t i = 0; i < kMaxDims; ++i) {
    if (tensor.shape[i] != (i < shape.size() ? shape[i] : 1)) return false;
  }
  return true;
}

class EncoderCheck {
 public:
  EncoderCheck(const GgufFile& file, const PlainVit& vit) : file_(file), vit_(vit) {}

  Status run() {
    PM_TRY(read_sizes());
    PM_TRY(check_input());
    for (uint64_t i = 0; i < sizes_.layers; ++i) PM_TRY(check_layer(i));
    PM_TRY(check_same_parts());
    return check_projection();
  }

 private:
  uint64_t number(std::string_view key, uint64_t fallback = 0) const {
    return find_u32(file_, "clip.vision." + std::string(key)).value_or(fallback);
  }

  Status optional(const std::string& name, const Shape& shape) const {
    const Tensor* tensor = file_.find_tensor(name);
    if (tensor == nullptr) return {};
    return require(has_shape(*tensor, shape), "tensor " + name,
                   "the shape " + describe_shape(shape), pm::gguf::describe_shape(*tensor));
  }

  Status required(const std::string& name, const Shape& shape) const {
    PM_TRY(require(file_.find_tensor(name) != nullptr, "tensor " + name,
                   "the shape " + describe_shape(shape), "no such tensor"));
    return optional(name, shape);
  }

  // The shape of a required matrix whose output length is free: [input, returned].
  Result<uint64_t> matrix(const std::string& name, uint64_t input) const {
    const Tensor* tensor = file_.find_tensor(name);
    PM_TRY(require(tensor != nullptr, "tensor " + name, "a matrix", "no such tensor"));
    PM_TRY(require(has_shape(*tensor, {input, tensor->shape[1]}), "tensor " + name,
                   "the shape [" + std::to_string(input) + ", any]",
                   pm::gguf::describe_shape(*tensor)));
    return tensor->shape[1];
  }

  Status read_sizes() {
    sizes_.width = number("embedding_length");
    sizes_.heads = number("attention.head_count");
    sizes_.kv_heads = number("attention.head_count_kv", sizes_.heads);
    sizes_.layers = number("block_count");
    sizes_.patch = number("patch_size");
    if (!vit_.merge_key.empty()) sizes_.merge = number(vit_.merge_key, vit_.merge_default);
    PM_TRY(require(sizes_.layers > 0, "key clip.vision.block_count", "at least 1", "0"));
    sizes_.head = number("attention.head_dim");
    if (sizes_.head == 0) sizes_.head = sizes_.width / sizes_.heads;
    PM_TRY(require(!vit_.rotary_2d || sizes_.head % 4 == 0, "key clip.vision.attention.head_count",
                   "a head size that is a multiple of 4", std::to_string(sizes_.head)));
    // Some published encoders leave a rest at the border (384 pixels in patches of 14).
    const uint64_t image = number("image_size");
    PM_TRY(require(image >= sizes_.patch, "key clip.vision.image_size",
                   "at least one patch of " + std::to_string(sizes_.patch), std::to_string(image)));
    sizes_.side = image / sizes_.patch;
    // Encoders with rotated positions fit the grid to each image instead.
    return require(vit_.rotary_2d || sizes_.side % sizes_.merge == 0, "key clip.vision.patch_size",
                   "a grid of patches that " + std::to_string(sizes_.merge) + " divides",
                   std::to_string(sizes_.side) + " patches a side");
  }

  Status check_input() const {
    PM_TRY(required("v.patch_embd.weight", {sizes_.patch, sizes_.patch, 3, sizes_.width}));
    PM_TRY(optional("v.patch_embd.bias", {sizes_.width}));
    for (const char* part : {"pre_ln", "post_ln"}) {
      for (const char* kind : {".weight", ".bias"}) {
        PM_TRY(optional(std::string("v.") + part + kind, {sizes_.width}));
      }
    }
    // The two-dimensional rotation replaces a table, and a class token would shift its positions.
    if (vit_.extra_positions < 0) return {};
    const Tensor* token = file_.find_tensor("v.class_embd");
    PM_TRY(require(!vit_.class_token || token != nullptr, "tensor v.class_embd", "a class token",
                   "no such tensor"));
    PM_TRY(require(token == nullptr || token->shape[0] == sizes_.width, "tensor v.class_embd",
                   "rows of " + std::to_string(sizes_.width),
                   token == nullptr ? "" : pm::gguf::describe_shape(*token)));
    const uint64_t free_rows = vit_.type == "mlp" && token != nullptr ? 1 : 0;
    const uint64_t rows = sizes_.side * sizes_.side + vit_.extra_positions + free_rows;
    return required("v.position_embd.weight", {sizes_.width, rows});
  }

  Status check_attention(const std::string& layer) const {
    const uint64_t q = sizes_.head * sizes_.heads;
    const uint64_t kv = sizes_.head * sizes_.kv_heads;
    // The llava graph knows no fused matrix.
    if (file_.find_tensor(layer + "attn_qkv.weight") != nullptr && vit_.type != "mlp") {
      PM_TRY(require(q == kv, "tensor " + layer + "attn_qkv.weight", "as many key heads as heads",
                     std::to_string(sizes_.kv_heads)));
      PM_TRY(required(layer + "attn_qkv.weight", {sizes_.width, 3 * q}));
      PM_TRY(optional(layer + "attn_qkv.bias", {3 * q}));
    } else {
      PM_TRY(required(layer + "attn_q.weight", {sizes_.width, q}));
      PM_TRY(required(layer + "attn_k.weight", {sizes_.width, kv}));
      PM_TRY(required(layer + "attn_v.weight", {sizes_.width, kv}));
      PM_TRY(optional(layer + "attn_q.bias", {q}));
      PM_TRY(optional(layer + "attn_k.bias", {kv}));
      PM_TRY(optional(layer + "attn_v.bias", {kv}));
    }
    for (const char* name : {"attn_q_norm.weight", "attn_k_norm.weight"}) {
      const Tensor* norm = file_.find_tensor(layer + name);
      if (norm == nullptr) continue;
      const uint64_t whole = std::string_view(name).starts_with("attn_q") ? q : kv;
      const bool per_head = norm->shape[0] == sizes_.head;
      PM_TRY(optional(layer + name, {per_head ? sizes_.head : whole}));
    }
    PM_TRY(required(layer + "attn_out.weight", {q, sizes_.width}));
    return optional(layer + "attn_out.bias", {sizes_.width});
  }

  Status check_feed_forward(const std::string& layer) const {
    const Tensor* down = file_.find_tensor(layer + "ffn_down.weight");
    const bool swapped = vit_.may_swap_ffn && down != nullptr && down->shape[0] == sizes_.width;
    const std::string first = layer + (swapped ? "ffn_down" : "ffn_up");
    const std::string second = layer + (swapped ? "ffn_up" : "ffn_down");
    auto inner = matrix(first + ".weight", sizes_.width);
    if (!inner) return inner.error();
    PM_TRY(optional(first + ".bias", {inner.value()}));
    PM_TRY(required(second + ".weight", {inner.value(), sizes_.width}));
    PM_TRY(optional(second + ".bias", {sizes_.width}));
    PM_TRY(optional(layer + "ffn_gate.weight", {sizes_.width, inner.value()}));
    return optional(layer + "ffn_gate.bias", {inner.value()});
  }

  Status check_layer(uint64_t index) const {
    const std::string layer = "v.blk." + std::to_string(index) + ".";
    for (const char* part : {"ln1.weight", "ln2.weight"}) {
      PM_TRY(required(layer + part, {sizes_.width}));
    }
    for (const char* part : {"ln1.bias", "ln2.bias", "ls1.weight", "ls2.weight"}) {
      PM_TRY(optional(layer + part, {sizes_.width}));
    }
    PM_TRY(check_attention(layer));
    return check_feed_forward(layer);
  }

  // Every layer has the parts of the first: a lost bias would go unnoticed otherwise.
  Status check_same_parts() const {
    std::vector<uint64_t> parts(sizes_.layers, 0);
    for (const Tensor& tensor : file_.tensors) {
      const std::string_view name = tensor.name;
      if (!name.starts_with("v.blk.")) continue;
      const std::string index(name.substr(6, name.find('.', 6) - 6));
      for (uint64_t i = 0; i < sizes_.layers; ++i) {
        if (index != std::to_string(i)) continue;
        ++parts[i];
        const std::string first = "v.blk.0" + std::string(name.substr(6 + index.size()));
        PM_TRY(require(file_.find_tensor(first) != nullptr, "tensor " + tensor.name,
                       "the same tensors in every layer", "none called " + first));
      }
    }
    for (uint64_t i = 0; i < sizes_.layers; ++i) {
      PM_TRY(require(parts[i] == parts[0], "tensors of v.blk." + std::to_string(i),
                     std::to_string(parts[0]) + " as in layer 0", std::to_string(parts[i])));
    }
    return {};
  }

  // weight [input, out], bias [out] where `biased` (else optional); returns out.
  Result<uint64_t> linear(const std::string& name, uint64_t input, bool biased) const {
    auto output = matrix(name + ".weight", input);
    if (!output) return output.error();
    if (biased) {
      PM_TRY(required(name + ".bias", {output.value()}));
    } else {
      PM_TRY(optional(name + ".bias", {output.value()}));
    }
    return output.value();
  }

  // Two linear layers, the second on top of the first.
  Status chain(const std::string& first, const std::string& second, uint64_t input,
               bool biased) const {
    auto inner = linear(first, input, biased);
    if (!inner) return inner.error();
    auto output = linear(second, inner.value(), biased);
    return output ? Status{} : Status{output.error()};
  }

  Status check_merger() const {
    const uint64_t merged = sizes_.width * sizes_.merge * sizes_.merge;
    const bool merges = file_.find_tensor("mm.patch_merger.weight") != nullptr;
    PM_TRY(require(merges || sizes_.merge == 1, "tensor mm.patch_merger.weight",
                   "a merger of " + std::to_string(sizes_.merge) + " by " +
                       std::to_string(sizes_.merge) + " patches",
                   "no such tensor"));
    if (!merges) return chain("mm.1", "mm.2", sizes_.width, false);
    PM_TRY(required("mm.input_norm.weight", {sizes_.width}));
    auto output = matrix("mm.patch_merger.weight", merged);
    if (!output) return output.error();
    return chain("mm.1", "mm.2", output.value(), false);
  }

  Status check_llava() const {
    // The deepest layers are stacked when feature_layer lists several.
    const KeyValue* entry = file_.find("clip.vision.feature_layer");
    const Array* layers = entry == nullptr ? nullptr : entry->value.array();
    PM_TRY(require(entry == nullptr || (layers != nullptr && layers->type == ValueType::kInt32 &&
                                        layers->length >= 1 && layers->length <= sizes_.layers),
                   "key clip.vision.feature_layer", "an array of layer numbers",
                   entry == nullptr ? "" : describe(entry->value)));
    for (uint64_t i = 0; layers != nullptr && i < layers->length; ++i) {
      PM_TRY(require(layers->integer_at(i) >= 0 &&
                         layers->integer_at(i) <= static_cast<int64_t>(sizes_.layers),
                     "key clip.vision.feature_layer",
                     "layers from 0 to " + std::to_string(sizes_.layers),
                     std::to_string(layers->integer_at(i))));
    }
    const uint64_t stacked = layers == nullptr ? 1 : layers->length;
    if (file_.find_tensor("mm.3.weight") != nullptr) return {};  // the Yi variant has its own
    auto inner = linear("mm.0", sizes_.width * stacked, true);
    if (!inner) return inner.error();
    if (file_.find_tensor("mm.2.weight") == nullptr) {
      return model_error("tensor mm.2.weight", "the second matrix of the projector",
                         "no such tensor");
    }
    auto output = linear("mm.2", inner.value(), true);
    return output ? Status{} : Status{output.error()};
  }

  Status check_projection() const {
    const uint64_t merged = sizes_.width * sizes_.merge * sizes_.merge;
    if (vit_.rotary_2d) return check_merger();
    if (vit_.type == "mlp") return check_llava();
    if (vit_.type == "gemma3") {
      PM_TRY(required("mm.soft_emb_norm.weight", {sizes_.width}));
      const Tensor* matrix = file_.find_tensor("mm.input_projection.weight");
      const std::string where = "tensor mm.input_projection.weight";
      PM_TRY(require(matrix != nullptr, where, "a matrix", "no such tensor"));
      return required("mm.input_projection.weight", {matrix->shape[0], sizes_.width});
    }
    if (vit_.type == "idefics3") {
      PM_TRY(require(sizes_.merge > 1, "key clip.vision.projector.scale_factor", "at least 2",
                     std::to_string(sizes_.merge)));
      auto output = matrix("mm.model.fc.weight", merged);
      return output ? Status{} : Status{output.error()};
    }
    if (vit_.type == "janus_pro") return chain("mm.0", "mm.1", sizes_.width, false);
    const bool biased = vit_.type == "internvl";
    PM_TRY(require(biased || sizes_.merge > 1, "key clip.vision.projector.scale_factor",
                   "at least 2", std::to_string(sizes_.merge)));
    PM_TRY(required("mm.model.mlp.0.weight", {merged}));
    if (biased) PM_TRY(required("mm.model.mlp.0.bias", {merged}));
    return chain("mm.model.mlp.1", "mm.model.mlp.3", merged, biased);
  }

  const GgufFile& file_;
  const PlainVit& vit_;
  Sizes sizes_;
};

}  // namespace

Status check_vision_encoder(const GgufFile& file, std::string_view type) {
  const auto* vit = std::find_if(std::begin(kPlainVits), std::end(kPlainVits),
                                 [&](const PlainVit& plain) { return plain.type == type; });
  if (vit == std::end(kPlainVits)) return {};
  return EncoderCheck(file, *vit).run();
}

}  // namespace pm::gguf

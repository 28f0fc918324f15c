// Rules for a multimodal projector: tools/mtmd/clip.cpp. Its getters assert on the type of a key
// and its graphs assert on shapes, so both are settled here.
#include <algorithm>
#include <array>
#include <limits>

#include "engines/gguf/check_encoder.h"
#include "engines/gguf/check_util.h"

namespace pm::gguf {
namespace {

constexpr double kMaxInt = std::numeric_limits<int32_t>::max();
constexpr double kMaxPixels = 1 << 26;

constexpr KeyRule kSharedRules[] = {
    {"clip.projector_type", ValueType::kString},
    {"clip.vision.projector_type", ValueType::kString},
    {"clip.audio.projector_type", ValueType::kString},
    {"clip.gen.audio.projector_type", ValueType::kString},
    {"clip.gen.audio.model_variant", ValueType::kString},
    {"clip.has_vision_encoder", ValueType::kBool},
    {"clip.has_audio_encoder", ValueType::kBool},
    {"clip.has_gen_audio_encoder", ValueType::kBool},
    {"clip.use_gelu", ValueType::kBool},
    {"clip.use_silu", ValueType::kBool},
    {"general.name", ValueType::kString},
    {"general.description", ValueType::kString},
    {"clip.minicpmv_version", ValueType::kInt32, 0, kMaxInt},
    {"clip.minicpmv_query_num", ValueType::kUint32, 0, 4096},
};

// For each of clip.vision. and clip.audio.
constexpr KeyRule kEncoderRules[] = {
    {"embedding_length", ValueType::kUint32, 1, 1 << 16, true},
    {"feed_forward_length", ValueType::kUint32, 0, 1 << 20, true},
    {"block_count", ValueType::kUint32, 0, 512, true},
    {"projection_dim", ValueType::kUint32, 0, 1 << 18, true},
    {"attention.head_count", ValueType::kUint32, 0, 1024, true},
    {"attention.head_count_kv", ValueType::kUint32, 0, 1024},
    {"attention.head_dim", ValueType::kUint32, 0, 4096},
    {"attention.layer_norm_epsilon", ValueType::kFloat32, 0, 0.999, true},
    {"window_size", ValueType::kUint32, 0, 4096},
};

constexpr KeyRule kVisionRules[] = {
    {"image_size", ValueType::kUint32, 0, 8192, true},
    {"patch_size", ValueType::kUint32, 1, 1024, true},
    {"image_min_pixels", ValueType::kUint32, 0, kMaxPixels},
    {"image_max_pixels", ValueType::kUint32, 0, kMaxPixels},
    {"preproc_min_tiles", ValueType::kUint32, 0, 256},
    {"preproc_max_tiles", ValueType::kUint32, 0, 256},
    {"preproc_image_size", ValueType::kUint32, 0, 8192},
    {"projector.scale_factor", ValueType::kUint32, 1, 16},
    {"projector.query_side", ValueType::kUint32, 1, 1024},
    {"projector.window_side", ValueType::kUint32, 1, 1024},
    {"spatial_merge_size", ValueType::kUint32, 1, 16},
    {"mm_patch_merge_type", ValueType::kString},
    {"n_wa_pattern", ValueType::kUint32, 0, 512},
    {"sam.head_count", ValueType::kUint32, 1, 1024},
    {"sam.block_count", ValueType::kUint32, 0, 512},
    {"sam.embedding_length", ValueType::kUint32, 1, 1 << 16},
    {"expert_used_count", ValueType::kUint32, 0, 1024},
};

constexpr KeyRule kAudioRules[] = {
    {"num_mel_bins", ValueType::kUint32, 1, 4096, true},
    {"projector.stack_factor", ValueType::kUint32, 1, 256},
    {"chunk_size", ValueType::kUint32, 1, 8192},
    {"conv_kernel_size", ValueType::kUint32, 1, 1023},
    {"max_pos_emb", ValueType::kUint32, 1, 1 << 20},
    {"projector.window_size", ValueType::kUint32, 1, 1 << 16},
    {"projector.downsample_rate", ValueType::kUint32, 1, 1 << 16},
    {"projector.head_count", ValueType::kUint32, 1, 1024},
    {"rvq.num_quantizers", ValueType::kUint32, 1, 1024},
    {"local_block_count", ValueType::kUint32, 0, 512},
    {"local_group_size", ValueType::kUint32, 1, 1 << 16},
    {"subsampling_factor", ValueType::kUint32, 8, 8},
};

// Three finite numbers; a standard deviation also has to be positive, it divides.
Status check_channels(const GgufFile& file, const std::string& key, bool positive) {
  const KeyValue* entry = file.find(key);
  if (entry == nullptr) return model_error("key " + key, "3 numbers", "no such key");
  const Array* array = entry->value.array();
  PM_TRY(require(array != nullptr && array->type == ValueType::kFloat32 && array->length == 3,
                 "key " + key, "3 numbers of type f32", describe(entry->value)));
  for (uint64_t i = 0; i < 3; ++i) {
    const double number = array->number_at(i);
    PM_TRY(require(
        std::isfinite(number) && std::abs(number) <= 1e6 && (!positive || number >= 1e-6),
        "key " + key, positive ? "positive numbers" : "finite numbers", std::to_string(number)));
  }
  return {};
}

Status check_heads(const GgufFile& file, const std::string& prefix) {
  const uint64_t layers = find_u32(file, prefix + "block_count").value_or(0);
  if (layers == 0) return {};
  const uint64_t width = find_u32(file, prefix + "embedding_length").value_or(0);
  const uint64_t heads = find_u32(file, prefix + "attention.head_count").value_or(0);
  const uint64_t kv_heads = find_u32(file, prefix + "attention.head_count_kv").value_or(heads);
  const std::string where = "key " + prefix + "attention.head_count";
  PM_TRY(require(heads > 0, where, "at least 1", "0"));
  if (find_u32(file, prefix + "attention.head_dim").value_or(0) == 0) {
    PM_TRY(require(width % heads == 0, where,
                   "a divisor of the embedding length " + std::to_string(width),
                   std::to_string(heads)));
  }
  return require(kv_heads > 0 && heads % kv_heads == 0, where + "_kv",
                 "a divisor of the " + std::to_string(heads) + " heads", std::to_string(kv_heads));
}

Status check_vision(const GgufFile& file) {
  const std::string prefix = "clip.vision.";
  for (const KeyRule& rule : kEncoderRules) PM_TRY(check_key(file, rule, prefix));
  for (const KeyRule& rule : kVisionRules) PM_TRY(check_key(file, rule, prefix));
  PM_TRY(check_channels(file, prefix + "image_mean", false));
  PM_TRY(check_channels(file, prefix + "image_std", true));
  const uint64_t least = find_u32(file, prefix + "image_min_pixels").value_or(0);
  const uint64_t most = find_u32(file, prefix + "image_max_pixels").value_or(UINT32_MAX);
  PM_TRY(require(least <= most, "key " + prefix + "image_max_pixels",
                 "at least image_min_pixels " + std::to_string(least), std::to_string(most)));
  const uint64_t few = find_u32(file, prefix + "preproc_min_tiles").value_or(0);
  const uint64_t many = find_u32(file, prefix + "preproc_max_tiles").value_or(UINT32_MAX);
  PM_TRY(require(few <= many, "key " + prefix + "preproc_max_tiles",
                 "at least preproc_min_tiles " + std::to_string(few), std::to_string(many)));
  return check_heads(file, prefix);
}

Status check_audio(const GgufFile& file) {
  const std::string prefix = "clip.audio.";
  for (const KeyRule& rule : kEncoderRules) PM_TRY(check_key(file, rule, prefix));
  for (const KeyRule& rule : kAudioRules) PM_TRY(check_key(file, rule, prefix));
  const uint64_t kernel = find_u32(file, prefix + "conv_kernel_size").value_or(1);
  PM_TRY(require(kernel % 2 == 1, "key " + prefix + "conv_kernel_size", "an odd number",
                 std::to_string(kernel)));
  return check_heads(file, prefix);
}

}  // namespace

Status check_projector(const GgufFile& file) {
  PM_TRY(require(file.text("general.architecture") == "clip", "key general.architecture",
                 "a multimodal projector (clip)",
                 "\"" + std::string(file.text("general.architecture")) + "\""));
  for (const KeyRule& rule : kSharedRules) PM_TRY(check_key(file, rule));
  PM_TRY(require(!(find_bool(file, "clip.use_gelu").value_or(false) &&
                   find_bool(file, "clip.use_silu").value_or(false)),
                 "key clip.use_silu", "one activation", "both use_gelu and use_silu"));
  const bool vision = find_bool(file, "clip.has_vision_encoder").value_or(false);
  const bool audio = find_bool(file, "clip.has_audio_encoder").value_or(false);
  PM_TRY(require(vision || audio, "key clip.has_vision_encoder", "a vision or audio encoder",
                 "neither"));
  const std::string_view shared = file.text("clip.projector_type");
  if (vision) {
    const std::string_view type = shared.empty() ? file.text("clip.vision.projector_type") : shared;
    PM_TRY(require(!type.empty(), "key clip.projector_type", "a projector type", "none"));
    PM_TRY(check_vision(file));
    PM_TRY(check_vision_encoder(file, type));
  }
  if (audio) {
    PM_TRY(require(!shared.empty() || !file.text("clip.audio.projector_type").empty(),
                   "key clip.audio.projector_type", "a projector type", "none"));
    PM_TRY(check_audio(file));
  }
  return {};
}

}  // namespace pm::gguf

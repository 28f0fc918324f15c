#include "engines/llama/paged/support.h"

#include <algorithm>

#include "llama-model.h"

namespace pm::llama {
namespace {

// Architectures whose graphs attend through build_attn() on a plain K and V cache and nothing else.
// Everyone on this list is compared with stock memory by parity_test.cpp.
constexpr llm_arch kSupported[] = {
    LLM_ARCH_LLAMA,     LLM_ARCH_MISTRAL3,   LLM_ARCH_QWEN2,      LLM_ARCH_QWEN2VL,
    LLM_ARCH_QWEN3,     LLM_ARCH_QWEN3VL,    LLM_ARCH_GEMMA,      LLM_ARCH_GEMMA2,
    LLM_ARCH_GEMMA3,    LLM_ARCH_PHI3,       LLM_ARCH_SMOLLM3,    LLM_ARCH_GRANITE,
    LLM_ARCH_INTERNLM2, LLM_ARCH_OLMO2,      LLM_ARCH_STARCODER2, LLM_ARCH_QWEN3MOE,
    LLM_ARCH_QWEN2MOE,  LLM_ARCH_OPENAI_MOE,
};

constexpr int32_t kMaxHeadSize = 256;

Error refuse(const std::string& reason) {
  return Error{ErrorCode::kEngineUnavailable, "the paged KV cache cannot be used: " + reason};
}

Status check(const llama_model& model) {
  const llama_hparams& hparams = model.hparams;
  if (std::find(std::begin(kSupported), std::end(kSupported), model.arch) == std::end(kSupported)) {
    return refuse(std::string("architecture ") + llm_arch_name(model.arch) +
                  " is not on its list of tested ones");
  }
  if (hparams.use_alibi) return refuse("the model uses ALiBi position biases");
  if (!hparams.causal_attn) return refuse("the model attends in both directions");
  if (hparams.n_layer_nextn > 0) return refuse("the model has layers for multi-token prediction");
  if (hparams.non_causal_type != LLAMA_NON_CAUSAL_TYPE_ALL) {
    return refuse("only some of its layers attend in both directions to media");
  }
  if (hparams.swa_type == LLAMA_SWA_TYPE_SYMMETRIC) return refuse("the model's window looks ahead");
  return {};
}

}  // namespace

size_t PagedShape::page_bytes(size_t group, KvType k, KvType v) const {
  const PageFormat format{k, v, head_k, head_v};
  size_t heads = 0;
  for (const int32_t layer : groups[group].layers) {
    heads += static_cast<size_t>(layers[static_cast<size_t>(layer)].kv_heads);
  }
  return heads * format.bytes();
}

Result<PagedShape> paged_shape(const llama_model& model) {
  PM_TRY(check(model));
  const llama_hparams& hparams = model.hparams;
  PagedShape shape;
  shape.head_k = static_cast<int32_t>(hparams.n_embd_head_k(0));
  shape.head_v = static_cast<int32_t>(hparams.n_embd_head_v(0));
  shape.softcap = hparams.attn_soft_cap ? hparams.f_attn_logit_softcapping : 0.0f;
  shape.trained_context = hparams.n_ctx_orig_yarn;
  shape.two_dimensional = hparams.n_pos_per_embd() > 1;
  const auto layer_count = hparams.n_layer();
  int32_t global = -1;
  int32_t windowed = -1;
  for (uint32_t il = 0; il < layer_count; ++il) {
    const auto layer = static_cast<int32_t>(il);
    const auto head_k = static_cast<int32_t>(hparams.n_embd_head_k(il));
    const auto head_v = static_cast<int32_t>(hparams.n_embd_head_v(il));
    if (head_k != shape.head_k || head_v != shape.head_v) {
      return refuse("its layers have heads of different sizes");
    }
    if (head_k < 2 || head_k > kMaxHeadSize || head_k % 2 != 0 || head_v < 2 ||
        head_v > kMaxHeadSize || head_v % 2 != 0) {
      return refuse("expected heads of an even size up to " + std::to_string(kMaxHeadSize) +
                    ", found " + std::to_string(head_k) + " and " + std::to_string(head_v));
    }
    const auto query_heads = static_cast<int32_t>(hparams.n_head(il));
    const auto kv_heads = static_cast<int32_t>(hparams.n_head_kv(il));
    if (kv_heads < 1 || query_heads % kv_heads != 0) {
      return refuse("expected a whole number of query heads for each KV head, found " +
                    std::to_string(query_heads) + " and " + std::to_string(kv_heads));
    }
    const bool slides = hparams.swa_type != LLAMA_SWA_TYPE_NONE && hparams.is_swa(il);
    int32_t& group = slides ? windowed : global;
    if (group < 0) {
      group = static_cast<int32_t>(shape.groups.size());
      LayerGroup fresh;
      if (slides) fresh.window = static_cast<int32_t>(hparams.n_swa);
      fresh.chunked = slides && hparams.swa_type == LLAMA_SWA_TYPE_CHUNKED;
      shape.groups.push_back(std::move(fresh));
    }
    shape.groups[static_cast<size_t>(group)].layers.push_back(layer);
    shape.layers.push_back({group, layer, query_heads, kv_heads});
  }
  return shape;
}

}  // namespace pm::llama

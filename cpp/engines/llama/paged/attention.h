// Stores and attends over pages inside llama.cpp's graph: two custom operations a layer.
//
// The graph's topology depends on nothing but the number of tokens, so llama.cpp reuses it from
// step to step; what changes (slots, tables, masks) is planned here once a step.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "engines/llama/paged/cache.h"
#include "kernels/attention.h"
#include "kernels/attention_plan.h"

struct ggml_cgraph;
struct ggml_context;
struct ggml_tensor;

namespace pm::llama {

// A token of the step, as llama.cpp hands it over.
struct StepToken {
  SeqId seq;  // its first owner: whose pages it attends to
  TokenPlace place;
};

class PagedAttention {
 public:
  PagedAttention(std::shared_ptr<PagedCache> cache, size_t threads);
  ~PagedAttention();

  // Adds "store, then attend" of a layer to the graph. q: [head_k, query heads, tokens];
  // k, v: [head_k | head_v, KV heads, tokens], null in layers that reuse another layer's pages;
  // sinks: [query heads] or null. Returns [head_v * query heads, tokens].
  ggml_tensor* build(ggml_context* context, ggml_cgraph* graph, ggml_tensor* q, ggml_tensor* k,
                     ggml_tensor* v, ggml_tensor* sinks, float scale, int layer);

  // Plans the step whose tokens are already in the tables. `slots`: [groups][tokens].
  void plan(std::span<const StepToken> tokens, const std::vector<std::vector<SlotId>>& slots,
            bool causal);

  const KvKernels& kernels() const { return kernels_; }

 private:
  struct Layer;
  struct Group;

  static void store(ggml_tensor* dst, int thread, int threads, void* layer);
  static void attend(ggml_tensor* dst, int thread, int threads, void* layer);
  void plan_group(size_t index, std::span<const StepToken> tokens, bool causal);
  void run_unit(const Layer& layer, AttentionHead head, size_t kv_head, size_t task, void* scratch);

  std::shared_ptr<PagedCache> cache_;
  const KvKernels& kernels_;
  size_t threads_;
  std::vector<std::unique_ptr<Layer>> layers_;  // the graph keeps their addresses
  std::vector<std::unique_ptr<Group>> groups_;
  size_t scratch_bytes_ = 0;
  struct FreeScratch {
    void operator()(uint8_t* bytes) const;
  };
  std::unique_ptr<uint8_t, FreeScratch> scratch_;  // [threads][scratch_bytes_]
};

}  // namespace pm::llama

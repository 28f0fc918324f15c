// Which models get the paged KV cache, and why the others do not.
#pragma once

#include <string>
#include <vector>

#include "engines/llama/model.h"
#include "kv/page_format.h"

struct llama_model;

namespace pm::llama {

// Layers that see the same stretch of the past: all of it, or a sliding window.
struct LayerGroup {
  int32_t window = 0;  // positions; 0 = everything
  bool chunked = false;
  std::vector<int32_t> layers;  // that keep keys and values, ascending
};

// One layer's part in the cache.
struct LayerShape {
  int32_t group = -1;   // index into PagedShape::groups; -1: keeps nothing here
  int32_t source = -1;  // layer whose keys and values it attends to (itself, or one it reuses)
  int32_t query_heads = 0;
  int32_t kv_heads = 0;
};

struct PagedShape {
  std::vector<LayerGroup> groups;
  std::vector<LayerShape> layers;
  int32_t head_k = 0;
  int32_t head_v = 0;
  float softcap = 0;
  bool two_dimensional = false;  // M-RoPE
  // Contexts longer than this rotate keys with other factors (LongRoPE).
  size_t trained_context = 0;

  // Bytes of one page of a group in the given element types.
  size_t page_bytes(size_t group, KvType k, KvType v) const;
};

// The shape of `model`'s cache, or kEngineUnavailable with the reason why it needs stock memory.
Result<PagedShape> paged_shape(const llama_model& model);

}  // namespace pm::llama

// Attention over pages: what one call computes, independent of the instruction set.
//
// A step's attention is planned once (kernels/attention_plan.h) and run for every layer and KV
// head. The unit of work is a task: a few query tokens against a list of pages. Long lists are cut
// into several tasks whose partial results are combined.
#pragma once

#include <cstdint>
#include <span>

#include "kv/page_format.h"

namespace pm {

// Keys and values of a step, before they go into pages. Rows are tokens.
struct KvWrite {
  const float* k = nullptr;  // of this KV head: row t at k + t * k_stride, [head_k]
  const float* v = nullptr;
  size_t k_stride = 0;  // floats from one token to the next
  size_t v_stride = 0;
  std::span<const SlotId> slots;  // where token t goes
};

struct AttentionTask {
  std::span<const uint32_t> queries;  // rows of q (token indices); 1 … kMaxTaskQueries
  std::span<const PageId> full;       // pages every query sees wholly
  std::span<const PageId> masked;     // pages seen in part
  // [masked.size()][queries.size()]: bit i set = the query sees slot i of the page.
  const uint32_t* masks = nullptr;
  // -1: the task is the whole attention of its queries and writes the output. Otherwise index of
  // the first of queries.size() partial results.
  int32_t partial = -1;
};

inline constexpr size_t kMaxTaskQueries = 32;

// One layer and KV head. `group` query heads share the KV head (GQA).
struct AttentionHead {
  HeadPages pages;
  const float* q = nullptr;  // query token t, head g of the group: q + t * q_stride + g * head_k
  size_t q_stride = 0;
  float* out = nullptr;  // query token t, head g: out + t * out_stride + g * head_v
  size_t out_stride = 0;
  int group = 1;
  float scale = 1;            // score = scale * q·k
  float softcap = 0;          // > 0: score = softcap * tanh(score / softcap)
  const float* sinks = nullptr;  // [group] extra logits without a value, or null
};

// A partial result: for each head of the group {running maximum, sum of exponentials}, then the
// unnormalised values [group][head_v]; floats. Sinks and normalisation belong to combining.
constexpr size_t partial_floats(const PageFormat& format, int group) {
  return static_cast<size_t>(group) * static_cast<size_t>(2 + format.head_v);
}

// One instruction set's kernels for one page format. All pointers are set.
struct KvKernels {
  const char* name;  // "reference", "avx2", "avx512bf16", "neon"
  // Bytes of scratch that one thread needs for run() (64-byte aligned).
  size_t (*scratch_bytes)(const PageFormat& format, int group);
  void (*write)(const PageFormat& format, const HeadPages& pages, const KvWrite& write);
  // `partials`: base of partial results of this head (partial_floats() each), null if unused.
  void (*run)(const PageFormat& format, const AttentionHead& head, const AttentionTask& task,
              float* partials, void* scratch);
  // Combines the `count` partial results of one query, which lie at `partials` + parts[i] *
  // partial_floats(), into its output row.
  void (*combine)(const PageFormat& format, const AttentionHead& head, uint32_t query,
                  const float* partials, std::span<const uint32_t> parts);
};

// Copies tokens [0, count) of a page (one layer and head), elements and scales.
void copy_page_prefix(const PageFormat& format, const uint8_t* from, uint8_t* to, int count);

// The plain C++ reference: any format, any head size; slow and obvious.
const KvKernels& reference_kernels();
// The fastest of this machine for the format. `POLYMIND_KV_KERNELS` (a name) forces one.
const KvKernels& best_kernels(const PageFormat& format);
// What POLYMIND_KV_KERNELS asks for if this machine has no kernels of that name for the format,
// else null: loading an engine must fail then, not run something else.
const char* unknown_kernels_request(const PageFormat& format);
// Every one that this machine can run for the format, fastest first (tests, mm doctor).
std::span<const KvKernels* const> available_kernels(const PageFormat& format);

}  // namespace pm

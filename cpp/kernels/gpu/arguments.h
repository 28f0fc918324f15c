// What kernels are given. All of it is in device memory or fixed for the life of a captured graph:
// what changes from step to step (tasks, pages, masks, slots, how many of each) lies in the plan, a
// device tensor of fixed size that the host fills (device_plan.h) before the graph runs.
#pragma once

#include "kernels/gpu/dialect.h"

namespace pm {
namespace gpu {

PM_NUMBER uint32_t kMaxHead = 256;       // elements of a key or a value
PM_NUMBER uint32_t kMaxHeadColumns = 8;  // of 32: element 32 * c + lane belongs to column c
PM_NUMBER uint32_t kPageSlots = 32;      // tokens of a page: one for each lane
PM_NUMBER uint32_t kAttentionWarps = 4;
PM_NUMBER uint32_t kAttentionThreads = 128;
PM_NUMBER uint32_t kRowThreads = 32;  // kv_write and combine: a warp does a row

// Words (uint32) of one task in the plan.
enum {
  kTaskQueries,  // first word in the section of queries
  kTaskQueryCount,
  kTaskPages,  // first in the section of pages: those seen wholly, then the masked ones
  kTaskFullCount,
  kTaskMaskedCount,
  kTaskMasks,      // first in the section of masks: [masked page][query]
  kTaskPartial,    // first partial result; kNoPartial: the task writes the output
  kTaskWords = 8,  // one is not used
};
enum { kCombineQuery, kCombineParts, kCombineCount, kCombineWords };
// How much of each section the current step uses.
enum { kPlanTasks, kPlanCombines, kPlanSlots, kPlanHeaderWords = 8 };

PM_NUMBER uint32_t kNoPartial = 0xffffffffu;
// A token that is not stored: a batch may be padded.
PM_NUMBER uint32_t kNoSlot = 0xffffffffu;

// Capacity of each section, in entries. Grids are as large as these.
struct PlanShape {
  uint32_t tasks;
  uint32_t task_queries;  // of one task at most
  uint32_t queries;
  uint32_t pages;
  uint32_t masks;
  uint32_t combines;
  uint32_t parts;
  uint32_t slots;
};

// First word of each section.
struct PlanLayout {
  uint32_t tasks;
  uint32_t queries;
  uint32_t pages;
  uint32_t masks;
  uint32_t combines;
  uint32_t parts;
  uint32_t slots;
  uint32_t words;  // of the whole plan
};

// Where the pages of one layer are (kv/page_format.h). The table of slabs is in device memory too,
// and so are the slabs.
struct LayerPages {
  Global<const Global<uint8_t>> slabs;
  uint64_t layer_offset;  // bytes from a slab's start to the layer's first head
  uint64_t head_bytes;    // from one head to the next
  uint32_t slab_shift;
  uint32_t page_bytes;
  uint32_t v_offset;
  uint32_t k_type;
  uint32_t v_type;
  uint32_t head_k;
  uint32_t head_v;
};

// Grid: (shape.slots, KV heads, 2: keys and values) of kRowThreads.
struct WriteArguments {
  Global<const uint32_t> plan;
  PlanLayout layout;
  LayerPages pages;
  Global<const float> k;  // token t, KV head h: k + t * k_stride + h * head_k
  Global<const float> v;
  uint64_t k_stride;
  uint64_t v_stride;
};

// What the last steps of attention need: from running maximum, sum and values to the output.
struct OutputArguments {
  Global<float> out;  // query token t, query head h: out + t * out_stride + h * head_v
  uint64_t out_stride;
  Global<const float> sinks;  // [query heads], or unused
  uint32_t has_sinks;
  uint32_t group;  // query heads of a KV head
  // As in kernels/attention.h: [group] {maximum, sum}, then values [group][head_v].
  Global<float> partials;
  uint64_t partials_stride;  // floats from one KV head to the next
};

// Grid: (shape.tasks, KV heads, row tiles: attention_row_tiles()) of kAttentionThreads.
struct AttentionArguments {
  Global<const uint32_t> plan;
  PlanLayout layout;
  LayerPages pages;
  OutputArguments output;
  Global<const float> q;  // query token t, query head h: q + t * q_stride + h * head_k
  uint64_t q_stride;
  float scale;
  float softcap;  // 0: none
};

// Grid: (shape.combines, KV heads, group) of kRowThreads.
struct CombineArguments {
  Global<const uint32_t> plan;
  PlanLayout layout;
  OutputArguments output;
  uint32_t v_type;
  uint32_t head_v;
};

}  // namespace gpu
}  // namespace pm

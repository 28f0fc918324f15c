// Every kernel by name: PM_KERNEL defines one in the language that includes this.
//
// Attention comes in variants: columns of 32 elements of a value, and rows of a block. Element
// types and head sizes are arguments. device_plan.h says which variant a layer needs.
#pragma once

#include "kernels/gpu/combine.h"
#include "kernels/gpu/kv_write.h"
#include "kernels/gpu/paged_attention.h"

PM_KERNEL(pm_kv_write, ::pm::gpu::kRowThreads, ::pm::gpu::WriteArguments, ::pm::gpu::NothingShared,
          ::pm::gpu::kv_write)
PM_KERNEL(pm_combine, ::pm::gpu::kRowThreads, ::pm::gpu::CombineArguments, ::pm::gpu::NothingShared,
          ::pm::gpu::combine)

#define PM_ATTENTION(columns, rows)                                                       \
  namespace pm {                                                                          \
  namespace gpu {                                                                         \
  typedef AttentionShared<columns, rows> AttentionSharedC##columns##R##rows;              \
  }                                                                                       \
  }                                                                                       \
  PM_KERNEL(pm_attention_c##columns##_r##rows, ::pm::gpu::kAttentionThreads,              \
            ::pm::gpu::AttentionArguments, ::pm::gpu::AttentionSharedC##columns##R##rows, \
            (::pm::gpu::paged_attention<columns, rows>))
#define PM_ATTENTION_COLUMNS(columns) \
  PM_ATTENTION(columns, 1)            \
  PM_ATTENTION(columns, 4)            \
  PM_ATTENTION(columns, 8)

PM_ATTENTION_COLUMNS(2)
PM_ATTENTION_COLUMNS(3)
PM_ATTENTION_COLUMNS(4)
PM_ATTENTION_COLUMNS(6)
PM_ATTENTION_COLUMNS(8)

#undef PM_ATTENTION_COLUMNS
#undef PM_ATTENTION

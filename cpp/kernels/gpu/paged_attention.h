// Attention of a few query rows over a list of pages. A block does up to kRows rows (query tokens ×
// query heads of one KV head) of one task; its warps take turns at the pages, each with running
// maximum, sum and values of its own, which are merged at the end.
//
// For the scores a lane is a token of the page, for the values it is an element of the output:
// either way neighbouring lanes read neighbouring bytes, and no sum crosses lanes.
#pragma once

#include "kernels/gpu/arguments.h"
#include "kernels/gpu/number_formats.h"
#include "kernels/gpu/pages.h"
#include "kernels/gpu/rows.h"

namespace pm {
namespace gpu {

template <uint32_t kColumns, uint32_t kRows>
struct AttentionShared {
  PM_SHARED_ARRAY(float, queries, kRows* kMaxHead);
  PM_SHARED_ARRAY(float, weights, kAttentionWarps* kRows* kPageSlots);
  PM_SHARED_ARRAY(float, max, kAttentionWarps* kRows);
  PM_SHARED_ARRAY(float, sum, kAttentionWarps* kRows);
  PM_SHARED_ARRAY(float, values, kRows* kColumns* kWarpLanes);
};

// One block's share of a task.
struct RowTile {
  uint32_t queries;  // the task's, in the plan
  uint32_t query_count;
  uint32_t first;  // row = query * group + head of the group
  uint32_t count;
};

// A block computes kRows rows, whatever the tile has: loops over rows stay free of branches.
// Surplus rows repeat the last one, and nobody stores them.
PM_DEVICE uint32_t row_of(RowTile tile, uint32_t r) {
  return tile.first + (r < tile.count ? r : tile.count - 1);
}

// What a warp knows of its rows after some pages. `sum` is this lane's share.
template <uint32_t kColumns, uint32_t kRows>
struct Running {
  float max[kRows];
  float sum[kRows];
  Row<kColumns> values[kRows];
};

// A page as one warp sees it; `seen[r]`: the slots that row r sees.
template <uint32_t kRows>
struct PageView {
  Global<const uint8_t> k;
  Global<const uint8_t> v;
  uint32_t seen[kRows];
};

template <uint32_t kColumns, uint32_t kRows>
PM_COLLECTIVE stage_queries(Constant<AttentionArguments> args, RowTile tile, Place at,
                            Shared<AttentionShared<kColumns, kRows>> shared) {
  const uint32_t size = args.pages.head_k;
  const uint32_t lane = lane_of(at);
  for (uint32_t r = warp_of(at); r < kRows; r += kAttentionWarps) {
    const uint32_t row_index = row_of(tile, r);
    const uint32_t query = args.plan[tile.queries + row_index / args.output.group];
    const uint32_t head = at.block_y * args.output.group + row_index % args.output.group;
    Global<const float> from = args.q + query * args.q_stride + head * size;
    Row<kMaxHeadColumns> row = load_row<kMaxHeadColumns>(from, size, lane);
    if (args.pages.k_type == kTypeInt8) {
      PM_CALL(rotate<kMaxHeadColumns>(row, size, lane));
    }
    PM_UNROLL
    for (uint32_t c = 0; c < kMaxHeadColumns; ++c) {
      const uint32_t i = kWarpLanes * c + lane;
      if (i < size) shared.queries[r * kMaxHead + i] = row.x[c];
    }
  }
}

// Dot products of the lane's token with every row.
template <uint32_t kType, uint32_t kColumns, uint32_t kRows>
PM_DEVICE void dot_keys(Constant<AttentionArguments> args, Global<const uint8_t> block,
                        uint32_t lane, Shared<AttentionShared<kColumns, kRows>> shared,
                        Private<Row<kRows>> scores) {
  const uint32_t pairs = args.pages.head_k / 2;
  PM_UNROLL
  for (uint32_t r = 0; r < kRows; ++r) scores.x[r] = 0.0f;
  PM_UNROLL_4
  for (uint32_t i = 0; i < pairs; ++i) {
    const Pair key = load_elements<kType>(block, i * kPageSlots + lane);
    PM_UNROLL
    for (uint32_t r = 0; r < kRows; ++r) {
      const Pair query = load_pair(shared.queries, r * kMaxHead + 2 * i);
      scores.x[r] += query.x * key.x + query.y * key.y;
    }
  }
}

// Adds the page's values, weighted. An unseen value may be NaN, which a weight of zero does not
// hide; 8-bit elements are always finite (their scale is part of the weight).
template <uint32_t kType, uint32_t kColumns, uint32_t kRows>
PM_DEVICE void add_values(Constant<AttentionArguments> args, Private<const PageView<kRows>> page,
                          Place at, Shared<AttentionShared<kColumns, kRows>> shared,
                          Private<Running<kColumns, kRows>> running) {
  const uint32_t size = args.pages.head_v;
  const uint32_t weights = warp_of(at) * kRows * kPageSlots;
  PM_UNROLL_2
  for (uint32_t slot = 0; slot < kPageSlots; slot += 2) {
    Pair value[kColumns];
    PM_UNROLL
    for (uint32_t c = 0; c < kColumns; ++c) {
      const uint32_t i = kWarpLanes * c + lane_of(at);
      value[c] = i < size ? load_elements<kType>(page.v, slot / 2 * size + i) : Pair{0.0f, 0.0f};
    }
    PM_UNROLL
    for (uint32_t r = 0; r < kRows; ++r) {
      const Pair weight = load_pair(shared.weights, weights + r * kPageSlots + slot);
      const bool first = kType != kTypeBf16 || (page.seen[r] >> slot & 1u) != 0;
      const bool second = kType != kTypeBf16 || (page.seen[r] >> slot & 2u) != 0;
      PM_UNROLL
      for (uint32_t c = 0; c < kColumns; ++c) {
        running.values[r].x[c] +=
            weight.x * (first ? value[c].x : 0.0f) + weight.y * (second ? value[c].y : 0.0f);
      }
    }
  }
}

template <uint32_t kColumns, uint32_t kRows>
PM_COLLECTIVE attend_page(Constant<AttentionArguments> args, Private<const PageView<kRows>> page,
                          Place at, Shared<AttentionShared<kColumns, kRows>> shared,
                          Private<Running<kColumns, kRows>> running) {
  const uint32_t lane = lane_of(at);
  Row<kRows> scores;
  switch (args.pages.k_type) {
    case kTypeBf16:
      dot_keys<kTypeBf16, kColumns, kRows>(args, page.k, lane, shared, scores);
      break;
    case kTypeInt8:
      dot_keys<kTypeInt8, kColumns, kRows>(args, page.k, lane, shared, scores);
      break;
    default:
      dot_keys<kTypeFp8, kColumns, kRows>(args, page.k, lane, shared, scores);
  }
  const float k_scale = scale_of(args.pages.k_type, args.pages.head_k, page.k, lane);
  const float v_scale = scale_of(args.pages.v_type, args.pages.head_v, page.v, lane);
  PM_UNROLL
  for (uint32_t r = 0; r < kRows; ++r) {
    const bool seen = (page.seen[r] >> lane & 1u) != 0;
    float score = scores.x[r] * k_scale * args.scale;
    if (args.softcap > 0.0f) score = args.softcap * hyperbolic_tangent(score / args.softcap);
    if (!seen) score = -infinity();
    const float page_max = PM_WARP_MAX(score);
    const float max = larger(running.max[r], page_max);
    const float keep = weight_of(running.max[r], max);
    const float weight = weight_of(score, max);
    running.max[r] = max;
    running.sum[r] = running.sum[r] * keep + weight;
    PM_UNROLL
    for (uint32_t c = 0; c < kColumns; ++c) running.values[r].x[c] *= keep;
    shared.weights[(warp_of(at) * kRows + r) * kPageSlots + lane] = seen ? weight * v_scale : 0.0f;
  }
  PM_WARP_BARRIER();
  switch (args.pages.v_type) {
    case kTypeBf16:
      add_values<kTypeBf16, kColumns, kRows>(args, page, at, shared, running);
      break;
    case kTypeInt8:
      add_values<kTypeInt8, kColumns, kRows>(args, page, at, shared, running);
      break;
    default:
      add_values<kTypeFp8, kColumns, kRows>(args, page, at, shared, running);
  }
  PM_WARP_BARRIER();  // the weights have been read: the next page may overwrite them
}

// Adds up the warps' running values in shared memory, in a fixed order.
template <uint32_t kColumns, uint32_t kRows>
PM_COLLECTIVE merge_warps(Place at, Shared<AttentionShared<kColumns, kRows>> shared,
                          Private<Running<kColumns, kRows>> running) {
  const uint32_t lane = lane_of(at);
  const uint32_t warp = warp_of(at);
  PM_UNROLL
  for (uint32_t r = 0; r < kRows; ++r) {
    const float sum = PM_WARP_SUM(running.sum[r]);
    if (lane != 0) continue;
    shared.max[warp * kRows + r] = running.max[r];
    shared.sum[warp * kRows + r] = sum;
  }
  PM_BARRIER();
  for (uint32_t turn = 0; turn < kAttentionWarps; ++turn) {
    if (turn == warp) {
      PM_UNROLL
      for (uint32_t r = 0; r < kRows; ++r) {
        float max = -infinity();
        for (uint32_t w = 0; w < kAttentionWarps; ++w) max = larger(max, shared.max[w * kRows + r]);
        const float factor = weight_of(running.max[r], max);
        PM_UNROLL
        for (uint32_t c = 0; c < kColumns; ++c) {
          const uint32_t i = (r * kColumns + c) * kWarpLanes + lane;
          const float before = turn == 0 ? 0.0f : static_cast<float>(shared.values[i]);
          shared.values[i] = before + factor * running.values[r].x[c];
        }
      }
    }
    PM_BARRIER();
  }
}

// Writes rows that are complete to the output, others to the partial results.
template <uint32_t kColumns, uint32_t kRows>
PM_COLLECTIVE store_rows(Constant<AttentionArguments> args, RowTile tile, uint32_t partial,
                         Place at, Shared<AttentionShared<kColumns, kRows>> shared) {
  const uint32_t lane = lane_of(at);
  const uint32_t group = args.output.group;
  const uint32_t head_v = args.pages.head_v;
  for (uint32_t r = warp_of(at); r < tile.count; r += kAttentionWarps) {
    float max = -infinity();
    for (uint32_t w = 0; w < kAttentionWarps; ++w) max = larger(max, shared.max[w * kRows + r]);
    float sum = 0.0f;
    for (uint32_t w = 0; w < kAttentionWarps; ++w) {
      sum += weight_of(shared.max[w * kRows + r], max) * shared.sum[w * kRows + r];
    }
    Row<kColumns> values;
    PM_UNROLL
    for (uint32_t c = 0; c < kColumns; ++c) {
      values.x[c] = shared.values[(r * kColumns + c) * kWarpLanes + lane];
    }
    const uint32_t query = (tile.first + r) / group;
    const uint32_t head = (tile.first + r) % group;
    if (partial == kNoPartial) {
      PM_CALL(finish_row<kColumns>(args.output, values, max, sum, args.plan[tile.queries + query],
                                   at.block_y * group + head, args.pages.v_type, head_v, lane));
      continue;
    }
    Global<float> to = args.output.partials + at.block_y * args.output.partials_stride +
                       static_cast<uint64_t>(partial + query) * partial_floats_of(group, head_v);
    if (lane == 0) {
      to[2 * head] = max;
      to[2 * head + 1] = sum;
    }
    store_row<kColumns>(values, to + 2 * group + head * head_v, head_v, lane);
  }
}

template <uint32_t kColumns, uint32_t kRows>
PM_COLLECTIVE paged_attention(Constant<AttentionArguments> args, Place at,
                              Shared<AttentionShared<kColumns, kRows>> shared) {
  if (at.block_x >= args.plan[kPlanTasks]) PM_RETURN;
  Global<const uint32_t> task = args.plan + args.layout.tasks + at.block_x * kTaskWords;
  const uint32_t rows = task[kTaskQueryCount] * args.output.group;
  const uint32_t first_row = at.block_z * kRows;
  if (first_row >= rows) PM_RETURN;
  const RowTile tile = {args.layout.queries + task[kTaskQueries], task[kTaskQueryCount], first_row,
                        rows - first_row < kRows ? rows - first_row : kRows};
  PM_CALL((stage_queries<kColumns, kRows>(args, tile, at, shared)));
  PM_BARRIER();

  Running<kColumns, kRows> running;
  PM_UNROLL
  for (uint32_t r = 0; r < kRows; ++r) {
    running.max[r] = -infinity();
    running.sum[r] = 0.0f;
    PM_UNROLL
    for (uint32_t c = 0; c < kColumns; ++c) running.values[r].x[c] = 0.0f;
  }
  const uint32_t full = task[kTaskFullCount];
  const uint32_t pages = full + task[kTaskMaskedCount];
  for (uint32_t p = warp_of(at); p < pages; p += kAttentionWarps) {
    const uint32_t id = args.plan[args.layout.pages + task[kTaskPages] + p];
    PageView<kRows> page;
    page.k = find_page(args.pages, at.block_y, id);
    page.v = page.k + args.pages.v_offset;
    PM_UNROLL
    for (uint32_t r = 0; r < kRows; ++r) {
      page.seen[r] = 0xffffffffu;
      if (p < full) continue;
      const uint32_t query = row_of(tile, r) / args.output.group;
      page.seen[r] =
          args.plan[args.layout.masks + task[kTaskMasks] + (p - full) * tile.query_count + query];
    }
    PM_CALL((attend_page<kColumns, kRows>(args, page, at, shared, running)));
  }
  PM_CALL((merge_warps<kColumns, kRows>(at, shared, running)));
  PM_CALL((store_rows<kColumns, kRows>(args, tile, task[kTaskPartial], at, shared)));
}

}  // namespace gpu
}  // namespace pm

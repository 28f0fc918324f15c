// Combines the partial results of one query row: attention over a list of pages that several tasks
// shared. A warp does a row.
#pragma once

#include "kernels/gpu/arguments.h"
#include "kernels/gpu/pages.h"
#include "kernels/gpu/rows.h"

namespace pm {
namespace gpu {

PM_COLLECTIVE combine(Constant<CombineArguments> args, Place at, Shared<NothingShared>) {
  if (at.block_x >= args.plan[kPlanCombines]) PM_RETURN;
  Global<const uint32_t> record = args.plan + args.layout.combines + at.block_x * kCombineWords;
  Global<const uint32_t> parts = args.plan + args.layout.parts + record[kCombineParts];
  const uint32_t count = record[kCombineCount];
  const uint32_t group = args.output.group;
  const uint32_t head = at.block_z;
  const uint32_t lane = lane_of(at);
  Global<const float> base = args.output.partials + at.block_y * args.output.partials_stride;
  const uint32_t floats = partial_floats_of(group, args.head_v);

  float own_max = -infinity();
  for (uint32_t p = lane; p < count; p += kWarpLanes) {
    own_max = larger(own_max, base[static_cast<uint64_t>(parts[p]) * floats + 2 * head]);
  }
  const float max = PM_WARP_MAX(own_max);
  float sum = 0.0f;
  Row<kMaxHeadColumns> values;
  PM_UNROLL
  for (uint32_t c = 0; c < kMaxHeadColumns; ++c) values.x[c] = 0.0f;
  for (uint32_t p = 0; p < count; ++p) {
    Global<const float> part = base + static_cast<uint64_t>(parts[p]) * floats;
    const float factor = weight_of(part[2 * head], max);
    sum += factor * part[2 * head + 1];
    const Row<kMaxHeadColumns> more =
        load_row<kMaxHeadColumns>(part + 2 * group + head * args.head_v, args.head_v, lane);
    PM_UNROLL
    for (uint32_t c = 0; c < kMaxHeadColumns; ++c) values.x[c] += factor * more.x[c];
  }
  PM_CALL(finish_row<kMaxHeadColumns>(args.output, values, max, sum, record[kCombineQuery],
                                      at.block_y * group + head, args.v_type, args.head_v, lane));
}

}  // namespace gpu
}  // namespace pm

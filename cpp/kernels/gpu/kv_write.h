// Writes a step's keys and values into pages: the bits of the CPU's write. A warp does one row.
#pragma once

#include "kernels/gpu/arguments.h"
#include "kernels/gpu/number_formats.h"
#include "kernels/gpu/pages.h"
#include "kernels/gpu/rows.h"

namespace pm {
namespace gpu {

PM_COLLECTIVE kv_write(Constant<WriteArguments> args, Place at, Shared<NothingShared>) {
  const uint32_t token = at.block_x;
  const uint32_t kv_head = at.block_y;
  const bool is_key = at.block_z == 0;
  if (token >= args.plan[kPlanSlots]) PM_RETURN;
  const uint32_t slot_id = args.plan[args.layout.slots + token];
  if (slot_id == kNoSlot) PM_RETURN;

  const uint32_t slot = slot_id % kPageSlots;
  const uint32_t lane = lane_of(at);
  const uint32_t type = is_key ? args.pages.k_type : args.pages.v_type;
  const uint32_t size = is_key ? args.pages.head_k : args.pages.head_v;
  Global<const float> from = is_key ? args.k + token * args.k_stride + kv_head * size
                                    : args.v + token * args.v_stride + kv_head * size;
  Global<uint8_t> block =
      find_page(args.pages, kv_head, slot_id / kPageSlots) + (is_key ? 0u : args.pages.v_offset);
  Row<kMaxHeadColumns> row = load_row<kMaxHeadColumns>(from, size, lane);
  if (type == kTypeInt8) {
    PM_CALL(rotate<kMaxHeadColumns>(row, size, lane));
  }

  float inverse = 1.0f;
  if (type != kTypeBf16) {
    uint32_t own_max = 0;
    PM_UNROLL
    for (uint32_t c = 0; c < kMaxHeadColumns; ++c) {
      const uint32_t bits = bits_of(row.x[c]) & 0x7fffffffu;
      own_max = bits > own_max ? bits : own_max;
    }
    const uint32_t max_bits = PM_WARP_MAX_BITS(own_max);
    const ScaleOfRow scale = scale_of_row(max_bits, type);
    inverse = scale.inverse;
    if (lane == 0) {
      reinterpret_cast<Global<uint16_t>>(block + scales_at(size))[slot] =
          static_cast<uint16_t>(scale.stored);
    }
  }
  PM_UNROLL
  for (uint32_t c = 0; c < kMaxHeadColumns; ++c) {
    const uint32_t i = kWarpLanes * c + lane;
    if (i >= size) continue;
    const uint32_t index = is_key ? key_index(slot, i) : value_index(size, slot, i);
    if (type == kTypeBf16) {
      reinterpret_cast<Global<uint16_t>>(block)[index] =
          static_cast<uint16_t>(encode_bf16(row.x[c]));
      continue;
    }
    // Without a scale (zeros, tiny numbers, Inf or NaN) all elements are zero.
    const float x = inverse == 0.0f ? 0.0f : row.x[c] * inverse;
    block[index] = static_cast<uint8_t>(type == kTypeInt8 ? encode_int8(x) : encode_fp8(x));
  }
}

}  // namespace gpu
}  // namespace pm

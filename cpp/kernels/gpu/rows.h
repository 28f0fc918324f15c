// A row of a key, a value, a query or an output in the registers of one warp: lane l holds elements
// l, 32 + l, 64 + l, … ("columns").
#pragma once

#include "kernels/gpu/arguments.h"
#include "kernels/gpu/number_formats.h"

namespace pm {
namespace gpu {

template <uint32_t kColumns>
struct Row {
  float x[kColumns];
};

// Elements past `size` are zero.
template <uint32_t kColumns>
PM_DEVICE Row<kColumns> load_row(Global<const float> from, uint32_t size, uint32_t lane) {
  Row<kColumns> row;
  PM_UNROLL
  for (uint32_t c = 0; c < kColumns; ++c) {
    const uint32_t i = kWarpLanes * c + lane;
    row.x[c] = i < size ? from[i] : 0.0f;
  }
  return row;
}

template <uint32_t kColumns>
PM_DEVICE void store_row(Private<const Row<kColumns>> row, Global<float> to, uint32_t size,
                         uint32_t lane) {
  PM_UNROLL
  for (uint32_t c = 0; c < kColumns; ++c) {
    const uint32_t i = kWarpLanes * c + lane;
    if (i < size) to[i] = row.x[c];
  }
}

// rotate_row() of codec.h, with the same operations in the same order: the same bits. Partners up
// to 16 elements apart are in other lanes, the rest in other columns.
template <uint32_t kColumns>
PM_COLLECTIVE rotate(Private<Row<kColumns>> row, uint32_t size, uint32_t lane) {
  const uint32_t block = size & (0u - size);
  for (uint32_t half = 1; half < block && half < kWarpLanes; half *= 2) {
    PM_UNROLL
    for (uint32_t c = 0; c < kColumns; ++c) {
      const float other = PM_SHUFFLE_XOR(row.x[c], half);
      row.x[c] = (lane & half) != 0 ? other - row.x[c] : row.x[c] + other;
    }
  }
  PM_UNROLL
  for (uint32_t step = 1; step < kColumns; step *= 2) {
    if (step * kWarpLanes >= block) continue;
    PM_UNROLL
    for (uint32_t c = 0; c + step < kColumns; ++c) {
      if ((c & step) != 0) continue;
      const float a = row.x[c];
      const float b = row.x[c + step];
      row.x[c] = a + b;
      row.x[c + step] = a - b;
    }
  }
  const float norm = 1.0f / square_root(static_cast<float>(block));
  PM_UNROLL
  for (uint32_t c = 0; c < kColumns; ++c) row.x[c] *= norm;
}

// exp(a - b) where a <= b; 0 if a is -inf, also if b is.
PM_DEVICE float weight_of(float a, float b) { return a == -infinity() ? 0.0f : exponential(a - b); }

// Turns the unnormalised values of one query head into its output row.
template <uint32_t kColumns>
PM_COLLECTIVE finish_row(Constant<OutputArguments> output, Private<Row<kColumns>> values, float max,
                         float sum, uint32_t query, uint32_t head, uint32_t v_type, uint32_t head_v,
                         uint32_t lane) {
  float keep = 1.0f;
  if (output.has_sinks != 0) {
    const float sink = output.sinks[head];
    const float with_sink = larger(max, sink);
    keep = weight_of(max, with_sink);
    sum = sum * keep + weight_of(sink, with_sink);
  }
  // No token seen: zeros. A NaN sum makes the row NaN.
  const float normal = sum == 0.0f ? 0.0f : keep / sum;
  PM_UNROLL
  for (uint32_t c = 0; c < kColumns; ++c) values.x[c] *= normal;
  if (v_type == kTypeInt8) {
    PM_CALL(rotate<kColumns>(values, head_v, lane));
  }
  store_row<kColumns>(values, output.out + query * output.out_stride + head * head_v, head_v, lane);
}

}  // namespace gpu
}  // namespace pm

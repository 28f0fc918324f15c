// AArch64 NEON: the vectors, dot products and page elements that paged_attention.h and
// paged_write.h are made of. Baseline ARMv8: no bf16, no 8-bit dot product, so elements become
// floats in registers.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "kernels/codec.h"
#include "kernels/cpu/dot_float.h"
#include "kernels/cpu/exp2_polynomial.h"

namespace pm {
namespace {

struct Neon {
  using V = float32x4_t;
  static constexpr int kLanes = 4;
  static constexpr int kColumns = 4;  // vectors of a dot tile: 16 outputs
  static constexpr int kTile = kLanes * kColumns;
  // 16 accumulators, 8 operands, 2 factors: 26 of 32.
  static constexpr int kRows = 4;
  static constexpr size_t kUnpackedBytes = 4;

  static V load(const float* at) { return vld1q_f32(at); }
  static void store(float* at, V x) { vst1q_f32(at, x); }
  static V set1(float x) { return vdupq_n_f32(x); }
  static V add(V a, V b) { return vaddq_f32(a, b); }
  static V sub(V a, V b) { return vsubq_f32(a, b); }
  static V mul(V a, V b) { return vmulq_f32(a, b); }
  static V div(V a, V b) { return vdivq_f32(a, b); }
  static V fma(V a, V b, V c) { return vfmaq_f32(c, a, b); }
  // NaN where one is NaN.
  static V max(V a, V b) { return vmaxq_f32(a, b); }
  static V min(V a, V b) { return vminq_f32(a, b); }
  static float reduce_max(V x) { return vmaxvq_f32(x); }
  static float reduce_add(V x) { return vaddvq_f32(x); }
  static float first(V x) { return vgetq_lane_f32(x, 0); }
  // `x` where the lane's bit is set.
  static V select(uint32_t bits, V x, V other) {
    constexpr uint32_t kLaneBits[] = {1, 2, 4, 8};
    return vbslq_f32(vtstq_u32(vdupq_n_u32(bits), vld1q_u32(kLaneBits)), x, other);
  }
  static V exp2(V x) {
    const V smallest = set1(-125);  // below: zero instead of a denormal
    const V clamped = max(smallest, x);
    const V whole = vrndnq_f32(clamped);
    const int32x4_t shift = vshlq_n_s32(vcvtnq_s32_f32(whole), 23);
    const int32x4_t power =
        vaddq_s32(vreinterpretq_s32_f32(exp2_polynomial<Neon>(sub(clamped, whole))), shift);
    const uint32x4_t too_small = vcltq_f32(x, smallest);
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_s32(power), too_small));
  }
  static V load_bf16(const uint8_t* at) {
    const uint16x4_t bits = vreinterpret_u16_u8(vld1_u8(at));
    return vreinterpretq_f32_u32(vshll_n_u16(bits, 16));
  }
  static uint32_t max_magnitude_bits(const float* row, int size);

  static void store_bf16(uint16_t* at, V x);
  static void store_int8(uint8_t* at, V x);
  static void store_e4m3(uint8_t* at, V x);

  // Inlined early: GCC takes a function that only prefetches for one without effect.
  [[gnu::always_inline]] static void prefetch(const uint8_t* at) { __builtin_prefetch(at); }
};

using NeonDot = DotFloat<Neon>;

struct Bf16Elements {
  using Dot = NeonDot;
  static constexpr int kTileBytes = 64;
  static constexpr int kLayoutRows = 1;

  static void load(const uint8_t* at, size_t /*stride*/, NeonDot::Operand (&tile)[4]) {
    for (int c = 0; c < 4; ++c) {
      const uint32x4_t pairs = vreinterpretq_u32_u8(vld1q_u8(at + 16 * c));
      tile[c].even = vreinterpretq_f32_u32(vshlq_n_u32(pairs, 16));
      tile[c].odd = vreinterpretq_f32_u32(vandq_u32(pairs, vdupq_n_u32(0xffff0000u)));
    }
  }
  static void finish(float32x4_t (& /*values*/)[4]) {}
};

struct Int8Elements {
  using Dot = NeonDot;
  static constexpr int kTileBytes = 32;
  static constexpr int kLayoutRows = 1;

  static void load(const uint8_t* at, size_t /*stride*/, NeonDot::Operand (&tile)[4]) {
    for (int c = 0; c < 4; ++c) {
      const int16x8_t words = vmovl_s8(vreinterpret_s8_u8(vld1_u8(at + 8 * c)));
      const int32x4_t pairs = vreinterpretq_s32_s16(words);
      tile[c].even = vcvtq_f32_s32(vshrq_n_s32(vshlq_n_s32(pairs, 16), 16));
      tile[c].odd = vcvtq_f32_s32(vshrq_n_s32(pairs, 16));
    }
  }
  static void finish(float32x4_t (& /*values*/)[4]) {}

  struct Unpacked : FloatPairs<Neon> {
    static void finish(float32x4_t (& /*values*/)[4]) {}
  };
};

// E4M3's bits are those of an f16 of 1/256 the value, once the sign is moved apart: subnormals
// included.
struct Fp8Elements {
  using Dot = NeonDot;
  static constexpr int kTileBytes = 32;
  static constexpr int kLayoutRows = 1;

  static void load(const uint8_t* at, size_t /*stride*/, NeonDot::Operand (&tile)[4]) {
    for (int c = 0; c < 4; c += 2) {
      const uint16x8_t pairs = vreinterpretq_u16_u8(vld1q_u8(at + 8 * c));
      const float16x8_t even = halves(vshlq_n_u16(pairs, 8));
      const float16x8_t odd = halves(vandq_u16(pairs, vdupq_n_u16(0xff00)));
      tile[c].even = vcvt_f32_f16(vget_low_f16(even));
      tile[c].odd = vcvt_f32_f16(vget_low_f16(odd));
      tile[c + 1].even = vcvt_high_f32_f16(even);
      tile[c + 1].odd = vcvt_high_f32_f16(odd);
    }
  }
  static void finish(float32x4_t (&values)[4]) {
    for (auto& x : values) x = vmulq_n_f32(x, 256);
  }

  struct Unpacked : FloatPairs<Neon> {
    static void finish(float32x4_t (&values)[4]) { Fp8Elements::finish(values); }
  };

 private:
  // Codes in the upper bytes.
  static float16x8_t halves(uint16x8_t codes) {
    const int16x8_t shifted = vshrq_n_s16(vreinterpretq_s16_u16(codes), 1);
    return vreinterpretq_f16_u16(vandq_u16(vreinterpretq_u16_s16(shifted), vdupq_n_u16(0xbfff)));
  }
};

uint32_t Neon::max_magnitude_bits(const float* row, int size) {
  uint32x4_t largest = vdupq_n_u32(0);
  int i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    const uint32x4_t bits = vreinterpretq_u32_f32(vld1q_f32(row + i));
    largest = vmaxq_u32(largest, vandq_u32(bits, vdupq_n_u32(0x7fffffff)));
  }
  uint32_t all = vmaxvq_u32(largest);
  for (; i < size; ++i) all = std::max(all, magnitude_bits(row[i]));
  return all;
}

// To nearest even at `kBit`, of a magnitude's bits.
template <int kBit>
uint32x4_t round_at(uint32x4_t bits) {
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, kBit), vdupq_n_u32(1));
  const uint32x4_t half = vdupq_n_u32((1u << (kBit - 1)) - 1);
  return vshrq_n_u32(vaddq_u32(bits, vaddq_u32(odd, half)), kBit);
}

// The lowest bytes of four lanes.
inline void store_bytes(uint8_t* at, uint32x4_t x) {
  const uint16x4_t words = vmovn_u32(x);
  const uint8x8_t bytes = vmovn_u16(vcombine_u16(words, words));
  const uint32_t four = vget_lane_u32(vreinterpret_u32_u8(bytes), 0);
  std::memcpy(at, &four, sizeof four);
}

void Neon::store_bf16(uint16_t* at, V x) {
  const uint32x4_t bits = vreinterpretq_u32_f32(x);
  const uint32x4_t quiet = vorrq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(0x40));
  const uint32x4_t ordered = vceqq_f32(x, x);
  vst1_u16(at, vmovn_u32(vbslq_u32(ordered, round_at<16>(bits), quiet)));
}

void Neon::store_int8(uint8_t* at, V x) {
  const V clamped = min(set1(127), max(set1(-127), x));
  store_bytes(at, vreinterpretq_u32_s32(vcvtnq_s32_f32(clamped)));
}

// As float_to_e4m3.
void Neon::store_e4m3(uint8_t* at, V x) {
  const uint32x4_t bits = vreinterpretq_u32_f32(x);
  const V magnitude = min(set1(448), vabsq_f32(x));
  const V shift = set1(0x1p14f);
  const uint32x4_t subnormal =
      vsubq_u32(vreinterpretq_u32_f32(add(magnitude, shift)), vreinterpretq_u32_f32(shift));
  const uint32x4_t normal =
      vsubq_u32(round_at<20>(vreinterpretq_u32_f32(magnitude)), vdupq_n_u32(120 << 3));
  const uint32x4_t small = vcltq_f32(magnitude, set1(0x1p-6f));
  const uint32x4_t sign = vandq_u32(vshrq_n_u32(bits, 24), vdupq_n_u32(0x80));
  store_bytes(at, vorrq_u32(sign, vbslq_u32(small, subnormal, normal)));
}

}  // namespace
}  // namespace pm

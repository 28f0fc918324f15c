// Elements of pages on the device. codec.h defines the numbers; these give the same bits without
// the C++ library, and two elements at a time where pages are read.
#pragma once

#include "kernels/gpu/dialect.h"

namespace pm {
namespace gpu {

// Values of KvType.
PM_NUMBER uint32_t kTypeBf16 = 0;
PM_NUMBER uint32_t kTypeInt8 = 1;
PM_NUMBER uint32_t kTypeFp8 = 2;

PM_DEVICE float decode_bf16(uint32_t bits) { return float_of(bits << 16); }

// Two neighbouring elements as they lie in memory, the first in the low bits.
PM_DEVICE Pair decode_bf16_pair(uint32_t word) {
  return {float_of(word << 16), float_of(word & 0xffff0000u)};
}

// A float of 2^23 and more counts in ones: the byte becomes its last bits, the bias goes off again.
PM_DEVICE Pair decode_int8_pair(uint32_t half_word) {
  const uint32_t biased = half_word ^ 0x8080u;
  const float bias = 8388608.0f + 128.0f;
  return {float_of(0x4b000000u | (biased & 0xffu)) - bias,
          float_of(0x4b000000u | (biased >> 8 & 0xffu)) - bias};
}

// The code in the top byte, as a float's sign, exponent and first mantissa bits. E4M3's subnormals
// become float's and the product brings both to size, exactly. Where the device flushes subnormals,
// they are read with an exponent of their own and a leading one that goes off again.
template <bool kHasSubnormals>
PM_DEVICE float decode_fp8_top(uint32_t word) {
  const uint32_t bits = static_cast<uint32_t>(static_cast<int32_t>(word) >> 4) & 0x87f00000u;
  if (kHasSubnormals) return float_of(bits) * 1329227995784915872903807060280344576.0f;  // 2^120
  const uint32_t sign = bits & 0x80000000u;
  const uint32_t size = bits & 0x07f00000u;
  const bool subnormal = size < 0x00800000u;
  const float large = float_of(size + ((subnormal ? 121u : 120u) << 23));
  return float_of(sign | bits_of(subnormal ? large - 0.015625f : large));  // 2^-6
}

template <bool kHasSubnormals>
PM_DEVICE Pair decode_fp8_pair(uint32_t half_word) {
  return {decode_fp8_top<kHasSubnormals>(half_word << 24),
          decode_fp8_top<kHasSubnormals>(half_word << 16 & 0xff000000u)};
}

// Elements 2 * at and 2 * at + 1 of a block of `kType`.
template <uint32_t kType>
PM_DEVICE Pair load_elements(Global<const uint8_t> block, uint32_t at) {
  if (kType == kTypeBf16) {
    return decode_bf16_pair(reinterpret_cast<Global<const uint32_t>>(block)[at]);
  }
  const uint32_t half_word = reinterpret_cast<Global<const uint16_t>>(block)[at];
  return kType == kTypeInt8 ? decode_int8_pair(half_word)
                            : decode_fp8_pair<PM_SUBNORMALS>(half_word);
}

PM_DEVICE uint32_t encode_bf16(float value) {
  const uint32_t bits = bits_of(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return bits >> 16 | 0x40u;
  return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

PM_DEVICE uint32_t encode_int8(float value) {
  const float rounded = larger(-127.0f, smaller(127.0f, round_even(value)));
  return static_cast<uint32_t>(static_cast<int32_t>(rounded)) & 0xffu;
}

PM_DEVICE uint32_t encode_fp8(float value) {
  const uint32_t sign = bits_of(value) >> 24 & 0x80u;
  const float size = smaller(magnitude(value), 448.0f);
  if (size <
      0.015625f) {  // below 2^-6: subnormal, in steps of 2^-9, which 2^14 has as its last bit
    return sign | (bits_of(size + 16384.0f) - bits_of(16384.0f));
  }
  const uint32_t bits = bits_of(size);
  return sign | (((bits + 0x7ffffu + (bits >> 20 & 1u)) >> 20) - (120u << 3));
}

struct ScaleOfRow {
  uint32_t stored;
  float inverse;
};

// row_scale() of codec.h.
PM_DEVICE ScaleOfRow scale_of_row(uint32_t max_bits, uint32_t type) {
  if (max_bits >= 0x7f800000u) return {0x7fc0u, 0.0f};
  const float max = float_of(max_bits);
  if (max < 1e-30f) return {0u, 0.0f};
  const uint32_t stored = encode_bf16(max / (type == kTypeInt8 ? 127.0f : 448.0f));
  return {stored, 1.0f / decode_bf16(stored)};
}

}  // namespace gpu
}  // namespace pm

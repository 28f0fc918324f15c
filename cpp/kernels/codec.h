// Numbers as pages hold them: bf16, E4M3 and int8 rows with one scale. These scalar definitions
// are exact: every instruction set's writer must produce the same bits.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "kv/page_format.h"

namespace pm {

inline float bf16_to_float(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

// To nearest even. A NaN stays one (quiet).
inline uint16_t float_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// The codes 0x7f and 0xff, NaN in the E4M3 standard, are never written. Reading garbage must not
// bring a NaN into a dot product with weight zero, so they decode to 480, the next number.
inline float e4m3_to_float(uint8_t code) {
  const int exponent = (code >> 3) & 15;
  const int mantissa = code & 7;
  const float magnitude = exponent == 0
                              ? std::ldexp(static_cast<float>(mantissa), -9)
                              : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

inline constexpr float kE4m3Max = 448;
inline constexpr float kInt8Max = 127;

// To nearest even, saturating at ±448. Finite values only.
inline uint8_t float_to_e4m3(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 24) & 0x80;
  const float magnitude = std::min(std::fabs(value), kE4m3Max);
  if (magnitude < 0x1p-6f) {
    // Adding 2^14 leaves float steps of 2^-9, E4M3's subnormal step: the sum rounds for us.
    const uint32_t rounded = std::bit_cast<uint32_t>(magnitude + 0x1p14f);
    return static_cast<uint8_t>(sign | (rounded - std::bit_cast<uint32_t>(0x1p14f)));
  }
  const uint32_t m = std::bit_cast<uint32_t>(magnitude);
  const uint32_t rounded = (m + 0x7ffff + ((m >> 20) & 1)) >> 20;
  return static_cast<uint8_t>(sign | (rounded - (120u << 3)));
}

inline int8_t float_to_int8(float value) {
  return static_cast<int8_t>(std::clamp(std::nearbyint(value), -kInt8Max, kInt8Max));
}

// Rows whose largest magnitude is below this are stored as zeros: 1 / scale would overflow.
inline constexpr float kSmallestRow = 1e-30f;

struct RowScale {
  uint16_t stored;  // bf16
  float inverse;    // elements are rounded from x * inverse; 0: all elements are 0
};

// `max_bits`: the largest of the row's bit patterns without sign, which orders floats as their
// magnitudes, Inf and NaN above all. A row that holds Inf or NaN gets a NaN scale and zeros: who
// sees the token gets NaN, as with f16, and who does not is not disturbed.
inline RowScale row_scale(uint32_t max_bits, KvType type) {
  if (max_bits >= 0x7f800000u) return {0x7fc0, 0};
  const float max = std::bit_cast<float>(max_bits);
  if (max < kSmallestRow) return {0, 0};
  const uint16_t stored = float_to_bf16(max / (type == KvType::kInt8 ? kInt8Max : kE4m3Max));
  return {stored, 1 / bf16_to_float(stored)};
}

inline uint32_t magnitude_bits(float value) { return std::bit_cast<uint32_t>(value) & 0x7fffffffu; }

// Sizes of the Hadamard blocks of an int8 row: the largest power of two that divides its size.
constexpr int rotation_block(int size) { return size & -size; }

// Orthonormal Hadamard transform of each block of a row, in place: its own inverse. Spreads an
// outlier channel over its block, so that one scale fits all elements. `Tag` keeps copies that are
// compiled for different instruction sets apart.
template <class Tag>
void rotate_row(float* row, int size) {
  const int block = rotation_block(size);
  const float norm = 1 / std::sqrt(static_cast<float>(block));
  for (int half = 1; half < block; half *= 2) {
    for (int base = 0; base < size; base += 2 * half) {
      for (int i = base; i < base + half; ++i) {
        const float a = row[i];
        const float b = row[i + half];
        row[i] = a + b;
        row[i + half] = a - b;
      }
    }
  }
  for (int i = 0; i < size; ++i) row[i] *= norm;
}

}  // namespace pm

// AVX2, FMA and F16C: the vectors, dot products and page elements that paged_attention.h and
// paged_write.h are made of. Included once, under the target pragma. No bf16 dot product here:
// elements become floats (int8: 16-bit integers) in registers.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/codec.h"
#include "kernels/cpu/dot_float.h"
#include "kernels/cpu/exp2_polynomial.h"

namespace pm {
namespace {

struct Avx2 {
  using V = __m256;
  static constexpr int kLanes = 8;
  static constexpr int kColumns = 2;  // vectors of a dot tile: 16 outputs
  static constexpr int kTile = kLanes * kColumns;
  // 8 accumulators, 4 operands (two columns of even and odd elements), 2 factors: 14 of 16.
  static constexpr int kRows = 4;
  static constexpr size_t kUnpackedBytes = 4;

  static V load(const float* at) { return _mm256_loadu_ps(at); }
  static void store(float* at, V x) { _mm256_storeu_ps(at, x); }
  static V set1(float x) { return _mm256_set1_ps(x); }
  static V add(V a, V b) { return _mm256_add_ps(a, b); }
  static V sub(V a, V b) { return _mm256_sub_ps(a, b); }
  static V mul(V a, V b) { return _mm256_mul_ps(a, b); }
  static V div(V a, V b) { return _mm256_div_ps(a, b); }
  static V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
  // The second operand where one is NaN.
  static V max(V a, V b) { return _mm256_max_ps(a, b); }
  static V min(V a, V b) { return _mm256_min_ps(a, b); }
  static float reduce_max(V x) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
  static float reduce_add(V x) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  static float first(V x) { return _mm256_cvtss_f32(x); }
  // `x` where the lane's bit is set.
  static V select(uint32_t bits, V x, V other) {
    const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i set = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), lane);
    return _mm256_blendv_ps(other, x, _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, lane)));
  }
  static V exp2(V x) {
    constexpr float kSmallest = -125;  // below: zero instead of a denormal
    const V clamped = max(set1(kSmallest), x);
    const V whole = _mm256_round_ps(clamped, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256i shift = _mm256_slli_epi32(_mm256_cvtps_epi32(whole), 23);
    const __m256i power =
        _mm256_add_epi32(_mm256_castps_si256(exp2_polynomial<Avx2>(sub(clamped, whole))), shift);
    const V too_small = _mm256_cmp_ps(x, set1(kSmallest), _CMP_LT_OQ);
    return _mm256_andnot_ps(too_small, _mm256_castsi256_ps(power));
  }
  static V load_bf16(const uint8_t* at) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  static uint32_t max_magnitude_bits(const float* row, int size);

  static void store_bf16(uint16_t* at, V x);
  static void store_int8(uint8_t* at, V x);
  static void store_e4m3(uint8_t* at, V x);

  // Inlined early: GCC takes a function that only prefetches for one without effect.
  [[gnu::always_inline]] static void prefetch(const uint8_t* at) {
    _mm_prefetch(reinterpret_cast<const char*>(at), _MM_HINT_T0);
  }
};

// As DotI16 of AVX-512, with two instructions: exact.
struct DotI16 {
  using Scalar = int16_t;
  using Operand = __m256i;
  using Accumulator = __m256i;
  static constexpr bool kInteger = true;
  static constexpr int kDepth = 2;
  static constexpr int kLimbs = 1;
  static constexpr float kLargest = 32767;
  static constexpr float kLog2Largest = 14.9999560f;

  static Accumulator start(int32_t value) { return _mm256_set1_epi32(value); }
  static int32_t query_start(const Scalar*, int) { return 0; }
  static Operand broadcast(const Scalar* pair) {
    int bits;
    std::memcpy(&bits, pair, sizeof bits);
    return _mm256_set1_epi32(bits);
  }
  static Accumulator dot(Accumulator sum, Operand a, Operand b) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
  }
  static __m256 to_float(Accumulator sum) { return _mm256_cvtepi32_ps(sum); }
  static void store(Scalar* at, __m256 x) {
    const __m256i whole = _mm256_cvtps_epi32(x);
    _mm_storeu_si128(
        reinterpret_cast<__m128i*>(at),
        _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1)));
  }
};

struct Bf16Elements {
  using Dot = DotFloat<Avx2>;
  static constexpr int kTileBytes = 64;
  static constexpr int kLayoutRows = 1;

  static void load(const uint8_t* at, size_t /*stride*/, Dot::Operand (&tile)[2]) {
    for (int c = 0; c < 2; ++c) {
      const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at) + c);
      tile[c].even = _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
      tile[c].odd = _mm256_castsi256_ps(
          _mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
    }
  }
  static void finish(__m256 (& /*values*/)[2]) {}
};

struct Int8Elements {
  using Dot = DotI16;
  static constexpr int kTileBytes = 32;
  static constexpr int kLayoutRows = 1;

  static void load(const uint8_t* at, size_t /*stride*/, __m256i (&tile)[2]) {
    for (int c = 0; c < 2; ++c) {
      tile[c] = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at) + c));
    }
  }
  static void finish(__m256 (& /*values*/)[2]) {}

  struct Unpacked {
    using Dot = DotI16;
    static constexpr int kTileBytes = 64;
    static constexpr int kLayoutRows = 1;
    static void load(const uint8_t* at, size_t /*stride*/, __m256i (&tile)[2]) {
      for (int c = 0; c < 2; ++c) {
        tile[c] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at) + c);
      }
    }
    static void store(uint8_t* at, const __m256i (&tile)[2]) {
      for (int c = 0; c < 2; ++c) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(at) + c, tile[c]);
      }
    }
    static void finish(__m256 (& /*values*/)[2]) {}
  };
};

// E4M3's bits are those of an f16 of 1/256 the value, once the sign is moved apart: subnormals
// included.
struct Fp8Elements {
  using Dot = DotFloat<Avx2>;
  static constexpr int kTileBytes = 32;
  static constexpr int kLayoutRows = 1;

  static void load(const uint8_t* at, size_t /*stride*/, Dot::Operand (&tile)[2]) {
    for (int c = 0; c < 2; ++c) {
      const __m128i pairs = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at) + c);
      tile[c].even = decode(_mm_slli_epi16(pairs, 8));
      tile[c].odd = decode(_mm_and_si128(pairs, _mm_set1_epi16(static_cast<int16_t>(0xff00))));
    }
  }
  static void finish(__m256 (&values)[2]) {
    for (auto& x : values) x = _mm256_mul_ps(x, _mm256_set1_ps(256));
  }

  struct Unpacked : FloatPairs<Avx2> {
    static void finish(__m256 (&values)[2]) { Fp8Elements::finish(values); }
  };

 private:
  // Codes in the upper bytes.
  static __m256 decode(__m128i codes) {
    const __m128i halves =
        _mm_and_si128(_mm_srai_epi16(codes, 1), _mm_set1_epi16(static_cast<int16_t>(0xbfff)));
    return _mm256_cvtph_ps(halves);
  }
};

uint32_t Avx2::max_magnitude_bits(const float* row, int size) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i largest = _mm256_setzero_si256();
  int i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + i));
    largest = _mm256_max_epi32(largest, _mm256_and_si256(bits, magnitude));
  }
  alignas(32) uint32_t lanes[kLanes];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), largest);
  uint32_t all = 0;
  for (uint32_t lane : lanes) all = lane > all ? lane : all;
  for (; i < size; ++i) {
    const uint32_t bits = magnitude_bits(row[i]);
    all = bits > all ? bits : all;
  }
  return all;
}

inline __m128i pack_words(__m256i x) {
  return _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
}

// To nearest even at `bit`, of a magnitude's bits.
inline __m256i round_at(__m256i bits, int bit) {
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, bit), _mm256_set1_epi32(1));
  const __m256i half = _mm256_set1_epi32((1 << (bit - 1)) - 1);
  return _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, half)), bit);
}

void Avx2::store_bf16(uint16_t* at, V x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(at),
                   pack_words(_mm256_blendv_epi8(round_at(bits, 16), quiet, nan)));
}

void Avx2::store_int8(uint8_t* at, V x) {
  const __m256i whole = _mm256_cvtps_epi32(min(set1(127), max(set1(-127), x)));
  const __m128i words =
      _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(at), _mm_packs_epi16(words, words));
}

// As float_to_e4m3.
void Avx2::store_e4m3(uint8_t* at, V x) {
  const __m256i bits = _mm256_castps_si256(x);
  const V magnitude = min(set1(448), _mm256_andnot_ps(set1(-0.0f), x));
  const V shift = set1(0x1p14f);
  const __m256i subnormal =
      _mm256_sub_epi32(_mm256_castps_si256(add(magnitude, shift)), _mm256_castps_si256(shift));
  const __m256i normal =
      _mm256_sub_epi32(round_at(_mm256_castps_si256(magnitude), 20), _mm256_set1_epi32(120 << 3));
  const __m256i small = _mm256_castps_si256(_mm256_cmp_ps(magnitude, set1(0x1p-6f), _CMP_LT_OQ));
  const __m256i sign = _mm256_and_si256(_mm256_srli_epi32(bits, 24), _mm256_set1_epi32(0x80));
  const __m128i words =
      pack_words(_mm256_or_si256(sign, _mm256_blendv_epi8(normal, subnormal, small)));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(at), _mm_packus_epi16(words, words));
}

}  // namespace
}  // namespace pm

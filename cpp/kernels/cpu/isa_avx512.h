// AVX-512 (F, BW, DQ, VL, VBMI, VNNI, BF16): the vectors, dot products and page elements that
// paged_attention.h and paged_write.h are made of. Included once, under the target pragma.
#pragma once

#include <immintrin.h>

#include <array>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/exp2_polynomial.h"

namespace pm {
namespace {

struct Avx512 {
  using V = __m512;
  static constexpr int kLanes = 16;
  static constexpr int kColumns = 2;  // vectors of a dot tile: 32 outputs
  static constexpr int kTile = kLanes * kColumns;
  // 16 accumulators, 2 operands, 5 constants of the E4M3 lookup and its temporaries.
  static constexpr int kRows = 8;
  static constexpr size_t kUnpackedBytes = 2;

  static V load(const float* at) { return _mm512_loadu_ps(at); }
  static void store(float* at, V x) { _mm512_storeu_ps(at, x); }
  static V set1(float x) { return _mm512_set1_ps(x); }
  static V add(V a, V b) { return _mm512_add_ps(a, b); }
  static V sub(V a, V b) { return _mm512_sub_ps(a, b); }
  static V mul(V a, V b) { return _mm512_mul_ps(a, b); }
  static V div(V a, V b) { return _mm512_div_ps(a, b); }
  static V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  // The second operand where one is NaN.
  static V max(V a, V b) { return _mm512_max_ps(a, b); }
  static V min(V a, V b) { return _mm512_min_ps(a, b); }
  static float reduce_max(V x) { return _mm512_reduce_max_ps(x); }
  static float reduce_add(V x) { return _mm512_reduce_add_ps(x); }
  static float first(V x) { return _mm512_cvtss_f32(x); }
  // `x` where the lane's bit is set.
  static V select(uint32_t bits, V x, V other) {
    return _mm512_mask_mov_ps(other, static_cast<__mmask16>(bits), x);
  }
  static V exp2(V x) {
    // The instruction's fraction of -inf is 0, so that 2^-inf is 0.
    constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    const V fraction = _mm512_reduce_ps(x, kNearest);
    return _mm512_scalef_ps(exp2_polynomial<Avx512>(fraction), _mm512_roundscale_ps(x, kNearest));
  }
  static V load_bf16(const uint8_t* at) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
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

// Dot products of pairs: lane j of the operand holds two neighbours along the reduction, the other
// factor is one pair for all lanes.
struct DotBf16 {
  using Scalar = uint16_t;
  using Operand = __m512bh;
  using Accumulator = __m512;
  static constexpr bool kInteger = false;
  static constexpr int kDepth = 2;

  static Accumulator start(int32_t) { return _mm512_setzero_ps(); }
  static int32_t query_start(const Scalar*, int) { return 0; }
  static Operand broadcast(const Scalar* pair) {
    int bits;
    std::memcpy(&bits, pair, sizeof bits);
    return (Operand)_mm512_set1_epi32(bits);
  }
  static Accumulator dot(Accumulator sum, Operand a, Operand b) {
    return _mm512_dpbf16_ps(sum, a, b);
  }
  static __m512 to_float(Accumulator sum) { return sum; }
  static void store(Scalar* at, __m512 x) {
    const __m256bh rounded = _mm512_cvtneps_pbh(x);
    std::memcpy(at, &rounded, sizeof rounded);
  }
};

// GCC 12 moves accumulators of type __m512i, a vector of 64-bit integers, to another register and
// back around every instruction that takes 32-bit ones.
#ifdef __GNUC__
typedef int32_t Int32Vector __attribute__((vector_size(64)));
#else
using Int32Vector = __m512i;
#endif

// int8 pages: sums of four byte products, exact. The instruction multiplies unsigned by signed
// bytes; what keys and values share.
template <class ScalarType>
struct DotBytes {
  using Scalar = ScalarType;
  using Operand = __m512i;
  using Accumulator = Int32Vector;
  static constexpr bool kInteger = true;
  static constexpr int kDepth = 4;

  static Accumulator start(int32_t value) { return (Accumulator)_mm512_set1_epi32(value); }
  static Operand broadcast(const Scalar* four) {
    int bits;
    std::memcpy(&bits, four, sizeof bits);
    return _mm512_set1_epi32(bits);
  }
  static __m512 to_float(Accumulator sum) { return _mm512_cvtepi32_ps((__m512i)sum); }
};

// Keys are moved to unsigned by 128, queries are signed bytes: sums start at -128 times the sum of
// the query. A query rounds as a key does: one scale, 127 steps, after rotation.
struct DotKeyBytes : DotBytes<int8_t> {
  static constexpr float kLargest = 127;

  static Accumulator dot(Accumulator sum, Operand tile, Operand query) {
    return (Accumulator)_mm512_dpbusd_epi32((__m512i)sum, tile, query);
  }
  static void store(Scalar* at, __m512 x) {
    const __m128i packed = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(at), packed);
  }
  static int32_t query_start(const Scalar* query, int size) {
    int32_t sum = 0;
    for (int i = 0; i < size; ++i) sum += query[i];
    return -128 * sum;
  }
};

// Weights are unsigned bytes, in one limb or two of which the lower has seven bits.
struct DotValueBytes : DotBytes<uint8_t> {
  static constexpr int kLimbs = 2;
  static constexpr float kLargest = 255;
  static constexpr float kLog2Largest = 7.99435344f;
  static constexpr float kLimbUnit = 128;
  static constexpr float kLargestOfTwoLimbs = 32767;
  static constexpr float kLog2TwoLimbs = 14.9999560f;

  static Accumulator dot(Accumulator sum, Operand tile, Operand weights) {
    return (Accumulator)_mm512_dpbusd_epi32((__m512i)sum, weights, tile);
  }
  static void store(Scalar* at, __m512 x) {
    const __m128i packed = _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(x));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(at), packed);
  }
  static void store_limbs(Scalar* high, Scalar* low, __m512 x) {
    const __m512i whole = _mm512_min_epi32(_mm512_cvtps_epi32(x), _mm512_set1_epi32(32767));
    const __m512i lower = _mm512_and_si512(whole, _mm512_set1_epi32(127));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(high),
                     _mm512_cvtepi32_epi8(_mm512_srli_epi32(whole, 7)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(low), _mm512_cvtepi32_epi8(lower));
  }
};

// Elements that already are operands of `DotType`: a tile in 128 bytes.
template <class DotType>
struct PlainPairs {
  using Dot = DotType;
  using Operand = typename Dot::Operand;
  static constexpr int kTileBytes = 128;
  static constexpr int kLayoutRows = 1;

  static void load(const uint8_t* at, size_t /*stride*/, Operand (&tile)[2]) {
    tile[0] = (Operand)_mm512_loadu_si512(at);
    tile[1] = (Operand)_mm512_loadu_si512(at + 64);
  }
  static void store(uint8_t* at, const Operand (&tile)[2]) {
    _mm512_storeu_si512(at, (__m512i)tile[0]);
    _mm512_storeu_si512(at + 64, (__m512i)tile[1]);
  }
  static void finish(__m512 (& /*values*/)[2]) {}
};

struct Bf16Elements : PlainPairs<DotBf16> {
  using Unpacked = Bf16Elements;
};

// Interleaving works within 128-bit lanes: the two halves of a tile come out mixed. The dot product
// does not mind; this sorts its 32 sums.
inline void sort_halves(__m512 (&values)[2]) {
  const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
  const __m512i second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
  const __m512d a = _mm512_castps_pd(values[0]);
  const __m512d b = _mm512_castps_pd(values[1]);
  values[0] = _mm512_castpd_ps(_mm512_permutex2var_pd(a, first, b));
  values[1] = _mm512_castpd_ps(_mm512_permutex2var_pd(a, second, b));
}

// Operands whose halves are mixed, as unpacking leaves them in scratch.
template <class DotType>
struct MixedPlain : PlainPairs<DotType> {
  static void finish(__m512 (&values)[2]) { sort_halves(values); }
};

// Two rows of pairs interleave to groups of four.
template <class DotType, int kFlipped>
struct ByteElements {
  using Dot = DotType;
  using Unpacked = MixedPlain<DotType>;
  static constexpr int kTileBytes = 64;
  static constexpr int kLayoutRows = 2;

  static void load(const uint8_t* at, size_t stride, __m512i (&tile)[2]) {
    const __m512i flip = _mm512_set1_epi8(static_cast<char>(kFlipped));
    const __m512i a = _mm512_xor_si512(_mm512_loadu_si512(at), flip);
    const __m512i b = _mm512_xor_si512(_mm512_loadu_si512(at + stride), flip);
    tile[0] = _mm512_unpacklo_epi16(a, b);
    tile[1] = _mm512_unpackhi_epi16(a, b);
  }
  static void finish(__m512 (&values)[2]) { sort_halves(values); }
};

using Int8Keys = ByteElements<DotKeyBytes, 0x80>;  // + 128
using Int8Values = ByteElements<DotValueBytes, 0>;

// bf16 of every E4M3 magnitude, split into bytes for two-register lookups of 128 entries.
struct E4m3Tables {
  alignas(64) std::array<uint8_t, 128> low{};
  alignas(64) std::array<uint8_t, 128> high{};

  constexpr E4m3Tables() {
    for (int code = 1; code < 128; ++code) {
      int exponent = code >> 3;
      int mantissa = code & 7;
      if (exponent == 0) {  // subnormal in E4M3, normal in bf16
        exponent = 1;
        for (; mantissa < 8; mantissa *= 2) --exponent;
      }
      const int bits = (exponent + 120) << 7 | (mantissa & 7) << 4;
      low[static_cast<size_t>(code)] = static_cast<uint8_t>(bits);
      high[static_cast<size_t>(code)] = static_cast<uint8_t>(bits >> 8);
    }
  }
};
constexpr E4m3Tables kE4m3Tables;

struct Fp8Elements {
  using Dot = DotBf16;
  using Unpacked = MixedPlain<DotBf16>;
  static constexpr int kTileBytes = 64;
  static constexpr int kLayoutRows = 1;

  static void load(const uint8_t* at, size_t /*stride*/, __m512bh (&tile)[2]) {
    const __m512i codes = _mm512_loadu_si512(at);
    const __m512i low = lookup(codes, kE4m3Tables.low.data());
    const __m512i magnitude = lookup(codes, kE4m3Tables.high.data());
    constexpr int kOrOfAnd = 0xf8;  // a | (b & c)
    const __m512i high = _mm512_ternarylogic_epi32(
        magnitude, codes, _mm512_set1_epi8(static_cast<char>(0x80)), kOrOfAnd);
    tile[0] = (__m512bh)_mm512_unpacklo_epi8(low, high);
    tile[1] = (__m512bh)_mm512_unpackhi_epi8(low, high);
  }
  static void finish(__m512 (&values)[2]) { sort_halves(values); }

 private:
  // Bit 7 of a code, the sign, is not part of the index.
  static __m512i lookup(__m512i codes, const uint8_t* table) {
    return _mm512_permutex2var_epi8(_mm512_load_si512(table), codes, _mm512_load_si512(table + 64));
  }
};

uint32_t Avx512::max_magnitude_bits(const float* row, int size) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i largest = _mm512_setzero_si512();
  for (int i = 0; i < size; i += kLanes) {
    const __mmask16 inside = _cvtu32_mask16(size - i >= kLanes ? 0xffff : (1u << (size - i)) - 1);
    const __m512i bits = _mm512_maskz_loadu_epi32(inside, row + i);
    largest = _mm512_max_epi32(largest, _mm512_and_si512(bits, magnitude));
  }
  return static_cast<uint32_t>(_mm512_reduce_max_epi32(largest));
}

// To nearest even in integers: the conversion instruction flushes denormals.
void Avx512::store_bf16(uint16_t* at, V x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_srli_epi32(
      _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  const __m512i quiet = _mm512_or_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(0x40));
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  const __m256i packed = _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(rounded, nan, quiet));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), packed);
}

void Avx512::store_int8(uint8_t* at, V x) {
  const V clamped = min(set1(127), max(set1(-127), x));
  const __m128i packed = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(clamped));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(at), packed);
}

// As float_to_e4m3.
void Avx512::store_e4m3(uint8_t* at, V x) {
  const __m512i bits = _mm512_castps_si512(x);
  const V magnitude = min(set1(448), _mm512_abs_ps(x));
  const V shift = set1(0x1p14f);
  const __m512i subnormal =
      _mm512_sub_epi32(_mm512_castps_si512(add(magnitude, shift)), _mm512_castps_si512(shift));
  const __m512i m = _mm512_castps_si512(magnitude);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(m, 20), _mm512_set1_epi32(1));
  const __m512i rounded =
      _mm512_srli_epi32(_mm512_add_epi32(m, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7ffff))), 20);
  const __m512i normal = _mm512_sub_epi32(rounded, _mm512_set1_epi32(120 << 3));
  const __mmask16 small = _mm512_cmp_ps_mask(magnitude, set1(0x1p-6f), _CMP_LT_OQ);
  const __m512i sign = _mm512_and_si512(_mm512_srli_epi32(bits, 24), _mm512_set1_epi32(0x80));
  const __m512i code = _mm512_or_si512(sign, _mm512_mask_mov_epi32(normal, small, subnormal));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(at), _mm512_cvtepi32_epi8(code));
}

}  // namespace
}  // namespace pm

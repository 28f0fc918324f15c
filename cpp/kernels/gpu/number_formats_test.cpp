// The device's number formats against codec.h, which defines them.
#include "kernels/gpu/number_formats.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "kernels/codec.h"

namespace pm {
namespace {

// Like EXPECT_EQ, but tells -0 from 0.
void expect_same(float a, float b, uint32_t code) {
  EXPECT_EQ(gpu::bits_of(a), gpu::bits_of(b)) << "code " << code;
}

TEST(GpuFormats, EveryPairOfCodesDecodesAsOnTheCpu) {
  for (uint32_t code = 0; code < 0x10000; ++code) {
    const auto low = static_cast<uint8_t>(code);
    const auto high = static_cast<uint8_t>(code >> 8);
    for (const gpu::Pair fp8 :
         {gpu::decode_fp8_pair<true>(code), gpu::decode_fp8_pair<false>(code)}) {
      expect_same(fp8.x, e4m3_to_float(low), code);
      expect_same(fp8.y, e4m3_to_float(high), code);
    }
    const gpu::Pair int8 = gpu::decode_int8_pair(code);
    expect_same(int8.x, static_cast<int8_t>(low), code);
    expect_same(int8.y, static_cast<int8_t>(high), code);
    const gpu::Pair bf16 = gpu::decode_bf16_pair(code << 16 | (code ^ 0xffff));
    expect_same(bf16.x, bf16_to_float(static_cast<uint16_t>(code ^ 0xffff)), code);
    expect_same(bf16.y, bf16_to_float(static_cast<uint16_t>(code)), code);
  }
}

void expect_same_codes(float x) {
  EXPECT_EQ(gpu::encode_bf16(x), float_to_bf16(x)) << x;
  if (!std::isfinite(x)) return;
  EXPECT_EQ(gpu::encode_fp8(x), float_to_e4m3(x)) << x;
  EXPECT_EQ(gpu::encode_int8(x), static_cast<uint8_t>(float_to_int8(x))) << x;
}

TEST(GpuFormats, EncodesAsOnTheCpu) {
  // Every float of a coarse mantissa, which holds all ties, and its neighbours; then any bits.
  for (uint32_t top = 0; top < 0x10000; ++top) {
    for (uint32_t bits : {top << 16, (top << 16) + 1, (top << 16) - 1, (top << 16) + 0x8000}) {
      expect_same_codes(gpu::float_of(bits));
    }
  }
  std::mt19937 random(1);
  for (int i = 0; i < 100000; ++i) expect_same_codes(gpu::float_of(random()));
}

TEST(GpuFormats, ScalesOfRowsAreTheCpus) {
  std::mt19937 random(2);
  for (int i = 0; i < 100000; ++i) {
    const uint32_t bits = i < 1000 ? 0x7f7ffe00u + static_cast<uint32_t>(i) : random() >> 1;
    for (KvType type : {KvType::kInt8, KvType::kFp8}) {
      const RowScale expected = row_scale(bits, type);
      const gpu::ScaleOfRow scale = gpu::scale_of_row(bits, static_cast<uint32_t>(type));
      EXPECT_EQ(scale.stored, expected.stored) << bits;
      expect_same(scale.inverse, expected.inverse, bits);
    }
  }
}

}  // namespace
}  // namespace pm

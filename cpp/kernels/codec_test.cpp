#include "kernels/codec.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <vector>

namespace pm {
namespace {

struct TestTag {};

// The nearest code by search over all of them; ties go to the even code.
uint8_t nearest_e4m3(float value) {
  int best = 0;
  for (int code = 0; code < 0x7f; ++code) {
    const double now = std::fabs(e4m3_to_float(static_cast<uint8_t>(code)) - std::fabs(value));
    const double then = std::fabs(e4m3_to_float(static_cast<uint8_t>(best)) - std::fabs(value));
    if (now < then || (now == then && code % 2 == 0)) best = code;
  }
  return static_cast<uint8_t>(best | (std::signbit(value) ? 0x80 : 0));
}

TEST(Codec, E4m3KnownValues) {
  EXPECT_EQ(e4m3_to_float(0x00), 0);
  EXPECT_EQ(e4m3_to_float(0x01), 0x1p-9f);
  EXPECT_EQ(e4m3_to_float(0x08), 0x1p-6f);
  EXPECT_EQ(e4m3_to_float(0x38), 1);
  EXPECT_EQ(e4m3_to_float(0x7e), 448);
  EXPECT_EQ(e4m3_to_float(0xfe), -448);
}

TEST(Codec, E4m3RoundsToNearestEven) {
  for (int code = 0; code < 0x7e; ++code) {
    const float low = e4m3_to_float(static_cast<uint8_t>(code));
    const float high = e4m3_to_float(static_cast<uint8_t>(code + 1));
    const float middle = (low + high) / 2;
    for (float x : {low, std::nextafter(middle, low), middle, std::nextafter(middle, high)}) {
      EXPECT_EQ(float_to_e4m3(x), nearest_e4m3(x)) << x;
      EXPECT_EQ(float_to_e4m3(-x), nearest_e4m3(-x)) << -x;
    }
  }
  std::mt19937 random(1);
  for (int i = 0; i < 3000; ++i) {
    const float x = std::ldexp(static_cast<float>(random()) * 0x1p-32f, i % 24 - 14);
    EXPECT_EQ(float_to_e4m3(x), nearest_e4m3(x)) << x;
  }
  EXPECT_EQ(float_to_e4m3(1e9f), 0x7e);
  EXPECT_EQ(float_to_e4m3(-1e9f), 0xfe);
}

TEST(Codec, Bf16RoundsToNearestEven) {
  EXPECT_EQ(float_to_bf16(1.0f), 0x3f80);
  EXPECT_EQ(float_to_bf16(1.0f + 0x1p-8f), 0x3f80);            // a tie: even is below
  EXPECT_EQ(float_to_bf16(1.0f + 0x1p-7f + 0x1p-8f), 0x3f82);  // a tie: even is above
  EXPECT_EQ(float_to_bf16(1.0f + 0x1p-8f + 0x1p-20f), 0x3f81);
  EXPECT_EQ(float_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(float_to_bf16(-std::numeric_limits<float>::infinity()), 0xff80);
  EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(std::bit_cast<float>(0x7f800001u)))));
}

TEST(Codec, RowsThatHaveNoScale) {
  const uint32_t nan = magnitude_bits(-std::numeric_limits<float>::quiet_NaN());
  for (KvType type : {KvType::kInt8, KvType::kFp8}) {
    EXPECT_EQ(row_scale(0, type).stored, 0);
    EXPECT_EQ(row_scale(magnitude_bits(1e-31f), type).inverse, 0);
    EXPECT_TRUE(std::isnan(bf16_to_float(row_scale(nan, type).stored)));
    EXPECT_TRUE(std::isnan(bf16_to_float(row_scale(0x7f800000u, type).stored)));
    EXPECT_TRUE(std::isfinite(row_scale(magnitude_bits(1.01e-30f), type).inverse));
    EXPECT_GT(row_scale(magnitude_bits(std::numeric_limits<float>::max()), type).inverse, 0);
  }
}

TEST(Codec, RotationIsOrthonormalAndItsOwnInverse) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (int size : {64, 80, 96, 128, 192, 256, 48, 6}) {
    std::vector<float> row(static_cast<size_t>(size));
    for (float& x : row) x = normal(random);
    std::vector<float> turned = row;
    rotate_row<TestTag>(turned.data(), size);
    double before = 0;
    double after = 0;
    for (size_t i = 0; i < row.size(); ++i) {
      before += row[i] * row[i];
      after += turned[i] * turned[i];
    }
    EXPECT_NEAR(after / before, 1, 1e-5) << size;
    rotate_row<TestTag>(turned.data(), size);
    for (size_t i = 0; i < row.size(); ++i) EXPECT_NEAR(turned[i], row[i], 1e-5) << size;
  }
  // One outlier is spread evenly over its block.
  std::vector<float> spike(96, 0.0f);
  spike[40] = 8;
  rotate_row<TestTag>(spike.data(), 96);
  for (int i = 0; i < 96; ++i) {
    EXPECT_NEAR(std::fabs(spike[static_cast<size_t>(i)]),
                i >= 32 && i < 64 ? 8 / std::sqrt(32.0f) : 0, 1e-5);
  }
}

}  // namespace
}  // namespace pm

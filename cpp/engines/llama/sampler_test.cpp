#include "engines/llama/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace pm::llama {
namespace {

TEST(Argmax, AgreesWithThePlainSearchOnUglySizes) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (const size_t size : {1u, 2u, 15u, 16u, 17u, 19u, 31u, 111u, 1050u, 151936u}) {
    std::vector<float> values(size);
    for (auto& value : values) value = normal(random);
    // Ties: the first of the largest wins, as in llama.cpp.
    if (size > 20) values[size - 1] = values[18] = 10.0f;
    const auto expected = std::max_element(values.begin(), values.end()) - values.begin();
    EXPECT_EQ(argmax(values), static_cast<size_t>(expected)) << size;
  }
}

TEST(Argmax, NotANumberNeverWins) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float low = -std::numeric_limits<float>::infinity();
  std::vector<float> values(40, nan);
  EXPECT_EQ(argmax(values), 0u);
  values[33] = -5;
  EXPECT_EQ(argmax(values), 33u);
  values.assign(40, low);
  EXPECT_EQ(argmax(values), 0u);
}

}  // namespace
}  // namespace pm::llama

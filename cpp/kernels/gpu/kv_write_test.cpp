// The device's KV write, emulated, against the reference: the same bits in both KV heads' pages.
#include "kernels/gpu/kv_write.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "kernels/gpu/gpu_test_support.h"
#include "kernels/page_access.h"

namespace pm {
namespace {

using emulator::Order;
using test::Floats;
using test::kKvHeads;
using test::Pool;

constexpr uint32_t kTokens = 24;
constexpr int kPages = 6;

// Tokens of both KV heads, some of which a writer may get wrong.
Floats make_rows(size_t head_size, size_t stride, std::mt19937& random) {
  Floats rows = test::random_floats(random, kTokens * stride);
  const auto scale_row = [&](size_t token, float factor) {
    for (size_t i = 0; i < kKvHeads * head_size; ++i) rows[token * stride + i] *= factor;
  };
  std::fill_n(rows.begin(), kKvHeads * head_size, 0.0f);
  rows[1 * stride + head_size - 1] = std::numeric_limits<float>::quiet_NaN();
  rows[2 * stride + head_size] = -std::numeric_limits<float>::infinity();
  scale_row(3, 1e-33f);
  scale_row(4, 1e-41f);  // denormals
  scale_row(5, 3e37f);
  for (size_t i = 0; i < head_size; ++i) rows[6 * stride + i] = static_cast<float>(i) + 0.5f;
  rows[7 * stride + head_size - 1] = -1e4f;
  return rows;
}

void check(const PageFormat& format, std::mt19937& random) {
  const auto head_k = static_cast<size_t>(format.head_k);
  const auto head_v = static_cast<size_t>(format.head_v);
  const size_t k_stride = kKvHeads * head_k + 3;
  const size_t v_stride = kKvHeads * head_v + 1;
  const Floats k = make_rows(head_k, k_stride, random);
  const Floats v = make_rows(head_v, v_stride, random);
  // A run that crosses pages and slabs, then scattered slots; one token is not stored.
  std::vector<SlotId> slots(kTokens);
  for (uint32_t t = 0; t < kTokens; ++t) slots[t] = t < 12 ? 121 + t : (t * 37) % 120;
  slots[9] = gpu::kNoSlot;

  Pool expected(format, kPages);
  for (uint32_t t = 0; t < kTokens; ++t) {
    for (uint32_t h = 0; slots[t] != gpu::kNoSlot && h < kKvHeads; ++h) {
      reference_kernels().write(format, test::head_pages(expected, h),
                                {&k[t * k_stride + h * head_k], &v[t * v_stride + h * head_v], 0, 0,
                                 std::span(slots).subspan(t, 1)});
    }
  }
  for (Order order : {Order::kForward, Order::kBackward}) {
    Pool written(format, kPages);
    // Room for more tokens than there are: the grid is as large as the tensor.
    test::PlanTensor plan({1, 1, 1, 1, 1, 1, 1, kTokens + 5});
    gpu::PlanWriter writer(plan.shape(), plan.words());
    writer.add_slots(slots);
    ASSERT_TRUE(writer.finish().ok());
    test::launch_write({plan.data(), plan.layout(), test::layer_pages(format, written), k.data(),
                        v.data(), k_stride, v_stride},
                       plan.shape(), order);
    const auto a = written.bytes();
    const auto b = expected.bytes();
    const auto [at, other] = std::mismatch(a.begin(), a.end(), b.begin());
    EXPECT_TRUE(at == a.end()) << test::name_of(format) << " byte " << at - a.begin() << ": "
                               << int{*at} << " not " << int{*other};
  }
}

TEST(GpuKvWrite, WritesTheReferencesBits) {
  std::mt19937 random(21);
  for (auto [head_k, head_v] : {std::pair{64, 64},
                                {80, 80},
                                {96, 96},
                                {128, 128},
                                {192, 192},
                                {256, 256},
                                {192, 128},
                                {34, 6},
                                {2, 254}}) {
    for (KvType k : {KvType::kBf16, KvType::kInt8, KvType::kFp8}) {
      for (KvType v : {KvType::kBf16, KvType::kInt8, KvType::kFp8}) {
        check({k, v, head_k, head_v}, random);
      }
    }
  }
}

TEST(GpuPages, ElementsAreWhereTheFormatSays) {
  for (int slot = 0; slot < kPageTokens; ++slot) {
    for (int i = 0; i < 256; ++i) {
      const auto s = static_cast<uint32_t>(slot);
      const auto element = static_cast<uint32_t>(i);
      ASSERT_EQ(gpu::key_index(s, element), key_element(slot, i));
      ASSERT_EQ(gpu::value_index(80, s, element), value_element(80, slot, i));
    }
  }
  EXPECT_EQ(gpu::scales_at(80), scales_offset(80));
  EXPECT_EQ(gpu::partial_floats_of(3, 80), partial_floats({{}, {}, 80, 80}, 3));
}

}  // namespace
}  // namespace pm

// KV write: what lands in pages, bit for bit, and what does not.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "kernels/attention.h"
#include "kernels/codec.h"
#include "kernels/page_access.h"
#include "kernels/test_support.h"

namespace pm {
namespace {

using test::Floats;
using test::Pool;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<PageFormat> formats() {
  std::vector<PageFormat> all;
  const std::vector<std::pair<int, int>> sizes = {{64, 64},   {80, 80},   {96, 96}, {128, 128},
                                                  {192, 128}, {256, 256}, {48, 48}, {34, 6},
                                                  {128, 192}, {144, 64}};
  for (KvType k : {KvType::kBf16, KvType::kInt8, KvType::kFp8}) {
    for (KvType v : {KvType::kBf16, KvType::kInt8, KvType::kFp8}) {
      for (auto [head_k, head_v] : sizes) all.push_back({k, v, head_k, head_v});
    }
  }
  return all;
}

// Rows that a writer may get wrong: no scale, no finite scale, a huge range, ties.
void make_hard(Floats& rows, size_t stride, int size) {
  const size_t last = static_cast<size_t>(size) - 1;
  std::fill_n(rows.begin(), size, 0.0f);
  rows[1 * stride + last] = kNan;
  rows[2 * stride] = -kInf;
  for (size_t i = 0; i <= last; ++i) rows[3 * stride + i] *= 1e-33f;
  for (size_t i = 0; i <= last; ++i) rows[4 * stride + i] *= 1e-41f;  // denormals
  for (size_t i = 0; i <= last; ++i) rows[5 * stride + i] *= 3e37f;
  for (size_t i = 0; i <= last; ++i) rows[6 * stride + i] = static_cast<float>(i) + 0.5f;
  for (size_t i = 0; i <= last; ++i) rows[7 * stride + i] *= std::exp2(-static_cast<float>(i % 30));
  rows[8 * stride + last] = -1e4f;
}

TEST(KvWrite, EveryKernelWritesTheReferencesBits) {
  constexpr int kTokens = 77;
  std::mt19937 random(3);
  for (const PageFormat& format : formats()) {
    const size_t k_stride = static_cast<size_t>(format.head_k) + 1;
    const size_t v_stride = static_cast<size_t>(format.head_v) + 7;
    Floats k = test::random_floats(random, kTokens * k_stride);
    Floats v = test::random_floats(random, kTokens * v_stride);
    make_hard(k, k_stride, format.head_k);
    make_hard(v, v_stride, format.head_v);
    // Consecutive runs, then scattered slots of several pages.
    std::vector<SlotId> slots(kTokens);
    for (int t = 0; t < kTokens; ++t) {
      slots[static_cast<size_t>(t)] = static_cast<SlotId>(t < 50 ? 13 + t : 70 + (t * 37) % 91);
    }
    const KvWrite write{k.data(), v.data(), k_stride, v_stride, slots};
    Pool expected(format, 6);
    reference_kernels().write(format, expected.pages(), write);
    for (const KvKernels* kernels : available_kernels(format)) {
      Pool written(format, 6);
      kernels->write(format, written.pages(), write);
      const auto a = written.bytes();
      const auto b = expected.bytes();
      const auto [at, other] = std::mismatch(a.begin(), a.end(), b.begin());
      EXPECT_TRUE(at == a.end()) << kernels->name << " " << test::name_of(format) << " byte "
                                 << at - a.begin() << ": " << int{*at} << " not " << int{*other};
    }
  }
}

uint16_t read16(const uint8_t* at) {
  return static_cast<uint16_t>(at[0] | static_cast<uint16_t>(at[1]) << 8);
}

// Reads one token's row back from a block whose element i is at index(i).
template <class Index>
Floats read_row(KvType type, const uint8_t* block, int size, int slot, Index index) {
  const float scale = bf16_to_float(read16(block + scales_offset(size) + 2 * slot));
  Floats row;
  for (int i = 0; i < size; ++i) {
    const size_t at = index(i);
    row.push_back(type == KvType::kBf16  ? bf16_to_float(read16(block + 2 * at))
                  : type == KvType::kFp8 ? scale * e4m3_to_float(block[at])
                                         : scale * static_cast<int8_t>(block[at]));
  }
  struct Tag {};
  if (type == KvType::kInt8) rotate_row<Tag>(row.data(), size);
  return row;
}

// The reference's own ground: read back what was written.
TEST(KvWrite, ElementsComeBackWithinHalfAStep) {
  std::mt19937 random(4);
  constexpr int kHead = 64;
  constexpr SlotId kSlot = 21;
  for (KvType type : {KvType::kBf16, KvType::kInt8, KvType::kFp8}) {
    const PageFormat format{type, type, kHead, kHead};
    Pool pool(format, 1);
    const Floats k = test::random_floats(random, kHead);
    const Floats v = test::random_floats(random, kHead);
    reference_kernels().write(format, pool.pages(),
                              {k.data(), v.data(), kHead, kHead, {&kSlot, 1}});
    const uint8_t* page = pool.pages().page(0);
    const Floats k_back =
        read_row(type, page, kHead, kSlot, [](int i) { return key_element(kSlot, i); });
    const Floats v_back = read_row(type, page + format.v_offset(), kHead, kSlot,
                                   [](int i) { return value_element(kHead, kSlot, i); });
    // Half a step of each format, relative to values of about one: 2^-9, max / 254, 2^-4.
    const double allowed = type == KvType::kBf16   ? 0x1p-9
                           : type == KvType::kInt8 ? 4.5 / 254
                                                   : 0x1p-4;
    EXPECT_LT(test::distance(k_back.data(), k.data(), kHead), allowed) << test::name_of(type);
    EXPECT_LT(test::distance(v_back.data(), v.data(), kHead), allowed) << test::name_of(type);
  }
}

TEST(KvWrite, OtherTokensKeepTheirBits) {
  std::mt19937 random(5);
  for (const PageFormat& format : formats()) {
    for (const KvKernels* kernels : available_kernels(format)) {
      Pool pool(format, 1);
      test::fill(*kernels, format, pool, kPageTokens, random);
      const auto before = pool.bytes();
      const Floats row = test::random_floats(random, 256);
      const SlotId slot = 17;
      kernels->write(format, pool.pages(), {row.data(), row.data(), 256, 256, {&slot, 1}});
      const auto after = pool.bytes();
      // One key, one value and their scales.
      size_t changed = 0;
      for (size_t i = 0; i < before.size(); ++i) changed += before[i] != after[i];
      const size_t bytes = element_bytes(format.k_type) * static_cast<size_t>(format.head_k) +
                           element_bytes(format.v_type) * static_cast<size_t>(format.head_v) + 4;
      EXPECT_LE(changed, bytes) << kernels->name << " " << test::name_of(format);
      EXPECT_GE(changed, bytes / 4) << kernels->name << " " << test::name_of(format);
    }
  }
}

TEST(CopyPage, PrefixAndNothingElse) {
  std::mt19937 random(6);
  for (const PageFormat& format : formats()) {
    for (int count : {0, 1, 2, 15, 31, 32}) {
      Pool source(format, 1);
      Pool copied(format, 1);
      Pool expected(format, 1);
      const size_t stride = 256;
      const Floats rows = test::random_floats(random, kPageTokens * stride);
      std::vector<SlotId> slots(kPageTokens);
      for (size_t i = 0; i < kPageTokens; ++i) slots[i] = static_cast<SlotId>(i);
      const auto write = [&](const Pool& pool, int tokens) {
        reference_kernels().write(
            format, pool.pages(),
            {rows.data(), rows.data(), stride, stride, std::span(slots).first(tokens)});
      };
      write(source, kPageTokens);
      write(expected, count);
      copy_page_prefix(format, source.pages().page(0), copied.pages().page(0), count);
      EXPECT_EQ(copied.bytes(), expected.bytes()) << test::name_of(format) << " " << count;
    }
  }
}

}  // namespace
}  // namespace pm

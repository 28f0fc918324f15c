// What the kernel tests share: pages with random contents, tasks over them, comparisons.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/attention.h"

namespace pm::test {

inline std::string name_of(KvType type) {
  return type == KvType::kBf16 ? "bf16" : type == KvType::kInt8 ? "int8" : "fp8";
}

inline std::string name_of(const PageFormat& f) {
  return name_of(f.k_type) + std::to_string(f.head_k) + "/" + name_of(f.v_type) +
         std::to_string(f.head_v);
}

struct FreeAligned {
  void operator()(void* p) const {
#ifdef _WIN32
    _aligned_free(p);
#else
    std::free(p);
#endif
  }
};
using AlignedBytes = std::unique_ptr<uint8_t, FreeAligned>;

inline AlignedBytes aligned_bytes(size_t bytes) {
  const size_t rounded = (bytes + 63) / 64 * 64 + 64;
#ifdef _WIN32
  return AlignedBytes(static_cast<uint8_t*>(_aligned_malloc(rounded, 64)));
#else
  return AlignedBytes(static_cast<uint8_t*>(std::aligned_alloc(64, rounded)));
#endif
}

// Slabs of four pages: page lookups cross slab borders even in small tests. Two layers share a
// slab, so an offset or a page size that is ignored reads the wrong layer.
class Pool {
 public:
  Pool(const PageFormat& format, int pages) : format_(format) {
    const size_t slab = 2 * kSlabPages * format.bytes();
    for (int first = 0; first < pages; first += kSlabPages) {
      storage_.push_back(aligned_bytes(slab));
      // Garbage as a recycled page may hold: 0xff is NaN in bf16 and in E4M3's standard.
      std::memset(storage_.back().get(), 0xff, slab);
      slabs_.push_back(storage_.back().get());
    }
  }

  HeadPages pages() const {
    return {slabs_.data(), kSlabPages * format_.bytes(), 2, format_.bytes()};
  }

  // Both layers' bytes of every slab, to compare pools.
  std::vector<uint8_t> bytes() const {
    std::vector<uint8_t> all;
    const size_t slab = 2 * kSlabPages * format_.bytes();
    for (uint8_t* s : slabs_) all.insert(all.end(), s, s + slab);
    return all;
  }

 private:
  static constexpr size_t kSlabPages = 4;
  PageFormat format_;
  std::vector<AlignedBytes> storage_;
  std::vector<uint8_t*> slabs_;
};

using Floats = std::vector<float>;

inline Floats random_floats(std::mt19937& random, size_t count) {
  std::normal_distribution<float> normal;
  Floats values(count);
  for (float& x : values) x = normal(random);
  return values;
}

// Writes `tokens` random rows into slots 0, 1, … Rows are not aligned to anything.
inline void fill(const KvKernels& kernels, const PageFormat& format, const Pool& pool, int tokens,
                 std::mt19937& random) {
  const size_t k_stride = static_cast<size_t>(format.head_k) + 3;
  const size_t v_stride = static_cast<size_t>(format.head_v) + 5;
  const Floats k = random_floats(random, static_cast<size_t>(tokens) * k_stride);
  const Floats v = random_floats(random, static_cast<size_t>(tokens) * v_stride);
  std::vector<SlotId> slots(static_cast<size_t>(tokens));
  for (size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<SlotId>(i);
  kernels.write(format, pool.pages(), {k.data(), v.data(), k_stride, v_stride, slots});
}

// |a - b| / |b| over one row (|a| where b is zero).
inline double distance(const float* a, const float* b, int size) {
  double difference = 0;
  double norm = 0;
  for (int i = 0; i < size; ++i) {
    difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    norm += std::pow(static_cast<double>(b[i]), 2);
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

}  // namespace pm::test

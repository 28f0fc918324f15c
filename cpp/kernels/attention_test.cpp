// Every kernel of this machine against the reference, on the same pages.
#include "kernels/attention.h"

#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "kernels/codec.h"
#include "kernels/test_support.h"

namespace pm {
namespace {

using test::Floats;
using test::Pool;

struct Shape {
  PageFormat format;
  int group = 1;
  int queries = 1;
  int pages = 1;  // full and masked together
  float softcap = 0;
  bool sinks = false;
  int parts = 0;  // 0: one task that writes the output
};

std::string describe(const KvKernels& kernels, const Shape& s) {
  return std::string(kernels.name) + " " + test::name_of(s.format) + " group " +
         std::to_string(s.group) + " queries " + std::to_string(s.queries) + " pages " +
         std::to_string(s.pages) + " parts " + std::to_string(s.parts) +
         (s.softcap > 0 ? " softcap" : "") + (s.sinks ? " sinks" : "");
}

// Relative distance of one output row that rounding explains; random data, so errors add up as a
// random walk and a row's relative error is that of one weight. Rows of few tokens scatter, and so
// does |q|: five times the following.
//   - q and P in bf16: each q_i is off by 2^-9 / sqrt(3) (uniform), hence a score by as much for
//     normal q, k and scale 1 / sqrt(d); the weight's own rounding as much again: 1.6e-3.
//   - 8-bit queries (AVX-512, int8 K): a step is the row's largest / 127, three sigma, off by
//     1 / sqrt(12) of it: 7e-3.
//   - 8-bit weights (AVX-512, int8 V): a step is the block's largest / 255, which is up to ten
//   times
//     the typical weight, off by 1 / sqrt(12) of it: up to 1e-2, where the block is small beside
//     the row's sum: a quarter of that.
//   - 16-bit integers (AVX2, int8): 3e-5 of the largest.
//   - everything in float: exp and summation order only.
double tolerance(const KvKernels& kernels, const PageFormat& format) {
  const bool k_integer = format.k_type == KvType::kInt8;
  const bool v_integer = format.v_type == KvType::kInt8;
  if (std::string(kernels.name) == "avx512bf16") {
    return k_integer ? 3.5e-2 : v_integer ? 1.5e-2 : 8e-3;
  }
  return k_integer || v_integer ? 3e-4 : 2e-5;
}

// Pages, queries and tasks of one shape; runs them with any kernels.
class Scene {
 public:
  Scene(const Shape& shape, unsigned seed)
      : shape_(shape), random_(seed), pool_(shape.format, shape.pages + 1) {
    test::fill(reference_kernels(), shape.format, pool_, (shape.pages + 1) * kPageTokens, random_);
    // One float more than needed: rows are not aligned to vectors.
    q_stride_ = static_cast<size_t>(shape.group * shape.format.head_k) + 1;
    out_stride_ = static_cast<size_t>(shape.group * shape.format.head_v) + 3;
    q_ = test::random_floats(random_, tokens() * q_stride_);
    sinks_ = test::random_floats(random_, static_cast<size_t>(shape.group));
    for (float& x : sinks_) x += 2;  // as heavy as a few tokens
    // The batch holds two tokens more than the task: its rows are not 0, 1, 2, …
    queries_.resize(static_cast<size_t>(shape.queries));
    std::iota(queries_.begin(), queries_.end(), 1u);
    if (shape.queries > 1) std::swap(queries_.front(), queries_.back());
    page_ids_.resize(static_cast<size_t>(shape.pages));
    std::iota(page_ids_.begin(), page_ids_.end(), 1u);
    std::shuffle(page_ids_.begin(), page_ids_.end(), random_);
    make_masks();
  }

  Floats run(const KvKernels& kernels) {
    Floats out(tokens() * out_stride_, kUntouched);
    const AttentionHead head = this->head(out.data());
    scratch_ = test::aligned_bytes(kernels.scratch_bytes(shape_.format, shape_.group));
    std::memset(scratch_.get(), 0xff, kernels.scratch_bytes(shape_.format, shape_.group));
    if (shape_.parts == 0) {
      kernels.run(shape_.format, head, task(0, page_ids_.size(), -1), nullptr, scratch_.get());
    } else {
      run_parts(kernels, head);
    }
    return out;
  }

  void compare(const Floats& out, const Floats& expected, double allowed, const std::string& what) {
    const int head_v = shape_.format.head_v;
    double worst = 0;
    for (uint32_t query : queries_) {
      for (int g = 0; g < shape_.group; ++g) {
        const size_t at = query * out_stride_ + static_cast<size_t>(g * head_v);
        worst = std::max(worst, test::distance(&out[at], &expected[at], head_v));
      }
    }
    // Written like this, a NaN fails.
    EXPECT_TRUE(worst <= allowed) << what << ": " << worst << " > " << allowed;
    for (size_t i = 0; i < out.size(); ++i) {
      if (expected[i] == kUntouched) {
        ASSERT_EQ(out[i], kUntouched) << what << " wrote at " << i;
      }
    }
  }

  std::vector<uint32_t>& masks() { return masks_; }
  Floats& q() { return q_; }
  Pool& pool() { return pool_; }
  size_t q_stride() const { return q_stride_; }
  size_t out_stride() const { return out_stride_; }
  float scale_factor = 1;

 private:
  static constexpr float kUntouched = -12345.5f;

  size_t tokens() const { return static_cast<size_t>(shape_.queries) + 2; }

  AttentionHead head(float* out) const {
    const float scale = scale_factor / std::sqrt(static_cast<float>(shape_.format.head_k));
    return {pool_.pages(), q_.data(),      q_stride_,
            out,           out_stride_,    shape_.group,
            scale,         shape_.softcap, shape_.sinks ? sinks_.data() : nullptr};
  }

  // The last half of the pages (rounded up) is masked: causal-like, random and empty masks.
  size_t full_pages() const { return page_ids_.size() / 2; }

  void make_masks() {
    const size_t masked = page_ids_.size() - full_pages();
    masks_.resize(masked * queries_.size());
    for (uint32_t& mask : masks_) {
      const uint32_t kind = random_() % 4;
      mask = kind == 0   ? 0
             : kind == 1 ? static_cast<uint32_t>(random_())
                         : 0xffffffffu >> (random_() % 32);
    }
    // A query that sees nothing at all, if there are no full pages.
    for (size_t m = 0; m < masked; ++m) {
      if (queries_.size() > 1) masks_[m * queries_.size() + 1] = 0;
    }
  }

  AttentionTask task(size_t first, size_t last, int32_t partial) const {
    const std::span<const PageId> ids(page_ids_);
    const size_t full = full_pages();
    const size_t split = std::clamp(full, first, last);
    AttentionTask t;
    t.queries = queries_;
    t.full = ids.subspan(first, split - first);
    t.masked = ids.subspan(split, last - split);
    t.masks = split < last ? masks_.data() + (split - full) * queries_.size() : nullptr;
    t.partial = partial;
    return t;
  }

  void run_parts(const KvKernels& kernels, const AttentionHead& head) {
    const size_t part_floats = partial_floats(shape_.format, shape_.group);
    const size_t parts = static_cast<size_t>(shape_.parts);
    Floats partials((parts * queries_.size() + 1) * part_floats,
                    std::numeric_limits<float>::quiet_NaN());
    for (size_t p = 0; p < parts; ++p) {
      const size_t first = page_ids_.size() * p / parts;
      const size_t last = page_ids_.size() * (p + 1) / parts;
      kernels.run(shape_.format, head,
                  task(first, last, static_cast<int32_t>(1 + p * queries_.size())), partials.data(),
                  scratch_.get());
    }
    for (size_t i = 0; i < queries_.size(); ++i) {
      std::vector<uint32_t> own;
      for (size_t p = 0; p < parts; ++p) {
        own.push_back(static_cast<uint32_t>(1 + p * queries_.size() + i));
      }
      kernels.combine(shape_.format, head, queries_[i], partials.data(), own);
    }
  }

  Shape shape_;
  std::mt19937 random_;
  Pool pool_;
  size_t q_stride_ = 0;
  size_t out_stride_ = 0;
  Floats q_;
  Floats sinks_;
  std::vector<uint32_t> queries_;
  std::vector<PageId> page_ids_;
  std::vector<uint32_t> masks_;
  test::AlignedBytes scratch_;
};

void check(const Shape& shape, unsigned seed) {
  Scene scene(shape, seed);
  const Floats expected = scene.run(reference_kernels());
  for (const KvKernels* kernels : available_kernels(shape.format)) {
    if (kernels == &reference_kernels()) continue;
    scene.compare(scene.run(*kernels), expected, tolerance(*kernels, shape.format),
                  describe(*kernels, shape));
  }
}

constexpr KvType kTypes[] = {KvType::kBf16, KvType::kInt8, KvType::kFp8};
constexpr int kHeads[] = {64, 80, 96, 128, 192, 256, 48};
constexpr int kGroups[] = {1, 2, 3, 7, 8, 16};
constexpr int kQueries[] = {1, 2, 31, 32};
constexpr int kPages[] = {1, 2, 3, 17};

// Every mix of types with every head size; the other dimensions take turns, each pair of which
// appears in some case (their numbers of values are coprime enough over 63 × 3 cases).
TEST(Attention, AgreesWithTheReference) {
  unsigned n = 0;
  for (int round = 0; round < 3; ++round) {
    for (KvType k : kTypes) {
      for (KvType v : kTypes) {
        for (int head : kHeads) {
          Shape shape;
          shape.format = {k, v, head, head};
          shape.group = kGroups[(n + static_cast<unsigned>(round)) % 6];
          shape.queries = kQueries[(n / 3 + static_cast<unsigned>(round)) % 4];
          shape.pages = kPages[n / 7 % 4];
          // The reference is slow.
          if (shape.group * shape.queries > 48) shape.pages = std::min(shape.pages, 3);
          shape.softcap = n % 5 == 0 ? 2.5f : 0;
          shape.sinks = n % 3 == 0;
          shape.parts = n % 4 == 3 ? 1 + static_cast<int>(n / 4 % 3) : 0;
          check(shape, n++);
        }
      }
    }
  }
}

TEST(Attention, KeysAndValuesOfDifferentAndOddSizes) {
  unsigned n = 1000;
  for (auto [head_k, head_v] : {std::pair{192, 128}, {34, 6}, {2, 2}, {96, 250}, {254, 66}}) {
    for (KvType type : kTypes) {
      check({{type, type, head_k, head_v}, 3, 5, 3, 0, false, 0}, n++);
      check({{type, type, head_k, head_v}, 8, 1, 5, 0, true, 2}, n++);
    }
  }
}

// Every number of rows up to two tiles and a bit: the remainders of row tiling.
TEST(Attention, EveryNumberOfRows) {
  for (KvType type : kTypes) {
    for (int group = 1; group <= 26; ++group) {
      check({{type, type, 64, 64}, group, 1, 9, 0, false, 0}, static_cast<unsigned>(group));
    }
  }
}

TEST(Attention, LongContext) {
  for (KvType type : kTypes) {
    check({{type, type, 64, 64}, 4, 1, 600, 0, false, 0}, 7);
    check({{type, type, 128, 128}, 2, 3, 150, 0, false, 3}, 8);
  }
}

TEST(Attention, ARowThatSeesNothingIsZero) {
  for (KvType type : kTypes) {
    for (bool sinks : {false, true}) {
      for (int parts : {0, 1, 2}) {
        const Shape shape{{type, type, 64, 64}, 2, 3, 1, 0, sinks, parts};
        Scene scene(shape, 9);
        scene.masks().assign(scene.masks().size(), 0);
        for (const KvKernels* kernels : available_kernels(shape.format)) {
          const Floats out = scene.run(*kernels);
          for (size_t i = 0; i < 2 * 64; ++i) {
            ASSERT_EQ(out[2 * scene.out_stride() + i], 0) << describe(*kernels, shape);
          }
        }
      }
    }
  }
}

// Scores far beyond what exp can take: only differences count.
TEST(Attention, HugeScores) {
  for (KvType type : kTypes) {
    const Shape shape{{type, type, 64, 64}, 2, 4, 6, 0, false, 0};
    Scene scene(shape, 10);
    scene.scale_factor = 1e6f;
    const Floats expected = scene.run(reference_kernels());
    for (const KvKernels* kernels : available_kernels(shape.format)) {
      // One token takes all: which one is clear, so the row is that value.
      scene.compare(scene.run(*kernels), expected, tolerance(*kernels, shape.format),
                    describe(*kernels, shape));
    }
  }
}

// Slots that a row does not see may hold anything, NaN and Inf included: what never was written,
// what another sequence left behind.
TEST(Attention, HiddenSlotsDoNotLeak) {
  for (KvType k : kTypes) {
    for (KvType v : kTypes) {
      const Shape shape{{k, v, 80, 80}, 3, 2, 1, 0, false, 0};
      Scene scene(shape, 11);
      for (uint32_t& mask : scene.masks()) mask = 0x0000ffffu;
      const Floats expected = scene.run(reference_kernels());
      const Floats bad(160, std::numeric_limits<float>::quiet_NaN());
      const Floats infinite(160, std::numeric_limits<float>::infinity());
      for (SlotId slot = kPageTokens + 16; slot < 2 * kPageTokens; ++slot) {
        const float* row = slot % 2 == 0 ? bad.data() : infinite.data();
        reference_kernels().write(shape.format, scene.pool().pages(),
                                  {row, row, 160, 160, {&slot, 1}});
      }
      for (const KvKernels* kernels : available_kernels(shape.format)) {
        scene.compare(scene.run(*kernels), expected, tolerance(*kernels, shape.format),
                      describe(*kernels, shape));
      }
    }
  }
}

// NaN and Inf that are seen: the row that sees them is NaN, as with f16, and nobody else's.
TEST(Attention, NanReachesWhoSeesIt) {
  for (KvType type : kTypes) {
    for (bool in_key : {true, false}) {
      const Shape shape{{type, type, 64, 64}, 2, 2, 1, 0, false, 0};
      Scene scene(shape, 12);
      for (uint32_t& mask : scene.masks()) mask = 0x00ffffffu;
      Floats good(64, 0.5f);
      Floats bad = good;
      bad[5] = std::numeric_limits<float>::quiet_NaN();
      const SlotId slot = kPageTokens + 3;
      reference_kernels().write(shape.format, scene.pool().pages(),
                                {in_key ? bad.data() : good.data(),
                                 in_key ? good.data() : bad.data(),
                                 64,
                                 64,
                                 {&slot, 1}});
      for (const KvKernels* kernels : available_kernels(shape.format)) {
        const Floats out = scene.run(*kernels);
        EXPECT_TRUE(std::isnan(out[scene.out_stride() + 5])) << describe(*kernels, shape);
      }
    }
  }
}

TEST(Attention, NanQueryStaysInItsRow) {
  for (KvType type : kTypes) {
    const Shape shape{{type, type, 64, 64}, 2, 2, 3, 0, false, 0};
    Scene scene(shape, 13);
    scene.q()[scene.q_stride() + 70] = std::numeric_limits<float>::quiet_NaN();  // query 1, head 1
    for (const KvKernels* kernels : available_kernels(shape.format)) {
      const Floats out = scene.run(*kernels);
      for (size_t i = 0; i < 64; ++i) {
        ASSERT_TRUE(std::isfinite(out[scene.out_stride() + i])) << describe(*kernels, shape);
        ASSERT_TRUE(std::isnan(out[scene.out_stride() + 64 + i])) << describe(*kernels, shape);
        ASSERT_TRUE(std::isfinite(out[2 * scene.out_stride() + i])) << describe(*kernels, shape);
      }
    }
  }
}

// An attention sink: one token takes most of the weight and has no value, the others share the rest
// evenly. Their values are the answer, also those of the sink's own page, whether it comes first or
// after much else was summed up.
void check_sink(KvType type, size_t sink, size_t query_count) {
  constexpr int kHead = 64;
  constexpr size_t kTokens = 256;
  std::mt19937 random(16);
  Floats k(kTokens * kHead, 0.0f);
  Floats v(kTokens * kHead, 0.0f);
  Floats q(kHead, 0.0f);
  q[0] = 1;
  k[sink * kHead] = 3;  // weight e^3 of the sink, 1 of the others
  for (size_t t = 0; t < kTokens; ++t) {
    if (t == sink) continue;
    // The values of the sink's page outweigh the others.
    const float size = t / kPageTokens == sink / kPageTokens ? 1.0f : 0.1f;
    for (size_t i = 0; i < kHead; ++i) {
      v[t * kHead + i] =
          size * ((i % 2 == 0 ? 1.0f : -0.5f) + 0.01f * static_cast<float>(random() % 100));
    }
  }
  std::vector<SlotId> slots(kTokens);
  std::iota(slots.begin(), slots.end(), 0u);
  std::vector<PageId> ids(kTokens / kPageTokens);
  std::iota(ids.begin(), ids.end(), 0u);
  const std::vector<uint32_t> queries(query_count, 0);
  const PageFormat format{type, type, kHead, kHead};
  Pool pool(format, static_cast<int>(ids.size()));
  reference_kernels().write(format, pool.pages(), {k.data(), v.data(), kHead, kHead, slots});
  const auto attend = [&](const KvKernels& kernels) {
    Floats out(kHead);
    const AttentionHead head{pool.pages(), q.data(), 0, out.data(), 0, 1, 1, 0, nullptr};
    const auto scratch = test::aligned_bytes(kernels.scratch_bytes(format, 1));
    kernels.run(format, head, {queries, ids, {}, nullptr, -1}, nullptr, scratch.get());
    return out;
  };
  const Floats expected = attend(reference_kernels());
  for (const KvKernels* kernels : available_kernels(format)) {
    EXPECT_LT(test::distance(attend(*kernels).data(), expected.data(), kHead), 0.02)
        << kernels->name << " " << test::name_of(type) << " sink " << sink << " queries "
        << query_count;
  }
}

TEST(Attention, SinkTokenDoesNotDrownItsPage) {
  for (KvType type : kTypes) {
    for (size_t sink : {0, 199}) {
      // A decode step goes page by page, prefill in blocks of pages.
      check_sink(type, sink, 1);
      check_sink(type, sink, 32);
    }
  }
}

// What rotation is for: one key channel 30 times the others. Without it, the scale that fits the
// outlier leaves the other channels steps of 30 × 3 / 127; with it, each element of the block holds
// a share of the outlier, 30 / sqrt(64) of it.
TEST(Attention, RotationTamesAnOutlierChannel) {
  constexpr int kHead = 64;
  constexpr int kTokens = 64;
  std::mt19937 random(14);
  Floats k = test::random_floats(random, kTokens * kHead);
  const Floats q = test::random_floats(random, kHead);
  for (size_t t = 0; t < kTokens; ++t) k[t * kHead + 11] = 90 + 10 * k[t * kHead + 11];
  double plain = 0;
  double turned = 0;
  struct Tag {};
  Floats turned_q = q;
  rotate_row<Tag>(turned_q.data(), kHead);
  const auto dot_error = [&](const float* row, const float* query) {
    uint32_t max_bits = 0;
    for (int i = 0; i < kHead; ++i) max_bits = std::max(max_bits, magnitude_bits(row[i]));
    const RowScale scale = row_scale(max_bits, KvType::kInt8);
    double error = 0;
    for (int i = 0; i < kHead; ++i) {
      const double stored = bf16_to_float(scale.stored) * float_to_int8(row[i] * scale.inverse);
      error += query[i] * (stored - row[i]);
    }
    return error * error;
  };
  for (size_t t = 0; t < kTokens; ++t) {
    plain += dot_error(&k[t * kHead], q.data());
    rotate_row<Tag>(&k[t * kHead], kHead);
    turned += dot_error(&k[t * kHead], turned_q.data());
  }
  EXPECT_GT(std::sqrt(plain / turned), 3);
}

// The same through the kernels: int8 pages with outlier channels against the exact answer.
TEST(Attention, Int8OfOutlierChannelsStaysClose) {
  constexpr int kHead = 128;
  constexpr int kTokens = 96;
  std::mt19937 random(15);
  Floats k = test::random_floats(random, kTokens * kHead);
  Floats v = test::random_floats(random, kTokens * kHead);
  for (size_t t = 0; t < kTokens; ++t) k[t * kHead + 5] += 40;
  for (size_t t = 0; t < kTokens; ++t) v[t * kHead + 77] += 40;
  Floats q = test::random_floats(random, kHead);
  std::vector<SlotId> slots(kTokens);
  std::iota(slots.begin(), slots.end(), 0u);
  const std::vector<PageId> ids{0, 1, 2};
  const uint32_t query = 0;
  const auto attend = [&](const KvKernels& kernels, KvType type) {
    const PageFormat format{type, type, kHead, kHead};
    Pool pool(format, 3);
    kernels.write(format, pool.pages(), {k.data(), v.data(), kHead, kHead, slots});
    Floats out(kHead);
    const AttentionHead head{pool.pages(), q.data(), 0, out.data(), 0, 1, 0.1f, 0, nullptr};
    const auto scratch = test::aligned_bytes(kernels.scratch_bytes(format, 1));
    kernels.run(format, head, {{&query, 1}, ids, {}, nullptr, -1}, nullptr, scratch.get());
    out[77] = 0;  // the outlier itself would drown the comparison
    return out;
  };
  const Floats exact = attend(reference_kernels(), KvType::kBf16);
  for (const KvKernels* kernels : available_kernels({KvType::kInt8, KvType::kInt8, kHead, kHead})) {
    EXPECT_LT(test::distance(attend(*kernels, KvType::kInt8).data(), exact.data(), kHead), 0.25)
        << kernels->name;
  }
}

TEST(Dispatch, TheReferenceIsAlwaysThereAndLast) {
  const auto all = available_kernels({KvType::kBf16, KvType::kBf16, 64, 64});
  ASSERT_FALSE(all.empty());
  EXPECT_EQ(all.back(), &reference_kernels());
}

}  // namespace
}  // namespace pm

// The device's attention over pages, emulated, against the reference on the same pages: single
// tasks with ugly masks, then whole plans as a step has them.
#include "kernels/gpu/paged_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/attention_plan.h"
#include "kernels/combine.h"
#include "kernels/gpu/gpu_test_support.h"

namespace pm {
namespace {

using emulator::Order;
using test::Floats;
using test::kKvHeads;
using test::Pool;

// Everything is computed in float: a score's error is that of a dot product of at most 256 terms,
// about sqrt(256) * 2^-24 of |q||k| / sqrt(d), and weighs in as much as relative error of a weight:
// 1e-6 for each unit of score, of which there are up to five. Tests with few tokens scatter.
constexpr double kAllowed = 2e-5;
constexpr float kUntouched = -12345.5f;

// One layer: queries, pages of both KV heads, output. Rows are not aligned to anything.
class Layer {
 public:
  Layer(const PageFormat& format, int group, uint32_t tokens, int pages, unsigned seed)
      : format_(format),
        group_(group),
        tokens_(tokens),
        random_(seed),
        pool_(format, pages),
        q_stride_(heads() * static_cast<size_t>(format.head_k) + 1),
        out_stride_(heads() * static_cast<size_t>(format.head_v) + 3) {
    q_ = test::random_floats(random_, tokens * q_stride_);
    sinks_ = test::random_floats(random_, heads());
    for (float& x : sinks_) x += 2;  // as heavy as a few tokens
    for (uint32_t h = 0; h < kKvHeads; ++h) fill(h, pages * kPageTokens);
  }

  float softcap = 0;
  bool use_sinks = false;
  float scale_factor = 1;

  std::mt19937& random() { return random_; }
  Pool& pool() { return pool_; }
  Floats& q() { return q_; }
  size_t q_stride() const { return q_stride_; }
  size_t heads() const { return kKvHeads * static_cast<size_t>(group_); }
  const PageFormat& format() const { return format_; }

  AttentionHead reference_head(uint32_t kv_head, Floats& out) {
    const size_t first = kv_head * static_cast<size_t>(group_);
    return {test::head_pages(pool_, kv_head),
            q_.data() + first * static_cast<size_t>(format_.head_k),
            q_stride_,
            out.data() + first * static_cast<size_t>(format_.head_v),
            out_stride_,
            group_,
            scale(),
            softcap,
            use_sinks ? sinks_.data() + first : nullptr};
  }

  // Partial results of all KV heads; NaN where nothing was written.
  Floats make_partials(size_t count) const {
    return Floats((count * kKvHeads + 1) * partial_floats(format_, group_),
                  std::numeric_limits<float>::quiet_NaN());
  }
  size_t partials_stride(size_t count) const { return count * partial_floats(format_, group_); }

  gpu::OutputArguments output(Floats& out, Floats& partials, size_t partial_count) {
    return {out.data(),
            out_stride_,
            sinks_.data(),
            use_sinks ? 1u : 0u,
            static_cast<uint32_t>(group_),
            partials.data(),
            partials_stride(partial_count)};
  }

  Floats make_out() const { return Floats(tokens_ * out_stride_, kUntouched); }

  // Writes, attends and combines what is in the plan.
  Floats run_device(const test::PlanTensor& plan, size_t partial_count, Order order) {
    Floats out = make_out();
    Floats partials = make_partials(partial_count);
    const auto output = this->output(out, partials, partial_count);
    const auto pages = test::layer_pages(format_, pool_);
    test::launch_attention(
        {plan.data(), plan.layout(), pages, output, q_.data(), q_stride_, scale(), softcap},
        plan.shape(), order);
    test::launch_combine({plan.data(), plan.layout(), output, pages.v_type, pages.head_v},
                         plan.shape(), order);
    return out;
  }

  // The worst row; -1 if something was written that should not be, or the other way round.
  double compare(const Floats& out, const Floats& expected) const {
    const auto size = static_cast<size_t>(format_.head_v);
    double worst = 0;
    for (uint32_t t = 0; t < tokens_; ++t) {
      for (size_t h = 0; h < heads(); ++h) {
        const size_t at = t * out_stride_ + h * size;
        worst = std::max(worst, test::distance(&out[at], &expected[at], format_.head_v));
        if (std::isnan(out[at]) != std::isnan(expected[at])) return -1;
      }
    }
    for (size_t i = 0; i < out.size(); ++i) {
      if ((out[i] == kUntouched) != (expected[i] == kUntouched)) return -1;
    }
    return worst;
  }

  void write(uint32_t kv_head, const float* k, const float* v, SlotId slot) {
    reference_kernels().write(format_, test::head_pages(pool_, kv_head), {k, v, 0, 0, {&slot, 1}});
  }

 private:
  float scale() const { return scale_factor / std::sqrt(static_cast<float>(format_.head_k)); }

  void fill(uint32_t kv_head, int tokens) {
    for (int t = 0; t < tokens; ++t) {
      const Floats k = test::random_floats(random_, static_cast<size_t>(format_.head_k));
      const Floats v = test::random_floats(random_, static_cast<size_t>(format_.head_v));
      write(kv_head, k.data(), v.data(), static_cast<SlotId>(t));
    }
  }

  PageFormat format_;
  int group_;
  uint32_t tokens_;
  std::mt19937 random_;
  Pool pool_;
  size_t q_stride_;
  size_t out_stride_;
  Floats q_;
  Floats sinks_;
};

struct Shape {
  PageFormat format;
  int group = 1;
  uint32_t queries = 1;
  int pages = 1;
  float softcap = 0;
  bool sinks = false;
  uint32_t parts = 0;  // 0: one task that writes the output
};

std::string describe(const Shape& s) {
  return test::name_of(s.format) + " group " + std::to_string(s.group) + " queries " +
         std::to_string(s.queries) + " pages " + std::to_string(s.pages) + " parts " +
         std::to_string(s.parts) + (s.softcap > 0 ? " softcap" : "") + (s.sinks ? " sinks" : "");
}

// Queries 1 … n of n + 2 tokens, out of order, over shuffled pages: half of them seen wholly, the
// others under causal-like, random and empty masks; in one task or in parts.
class TaskScene {
 public:
  TaskScene(const Shape& shape, unsigned seed)
      : shape_(shape),
        layer_(shape.format, shape.group, shape.queries + 2, shape.pages, seed),
        queries_(shape.queries),
        ids_(static_cast<size_t>(shape.pages)) {
    layer_.softcap = shape.softcap;
    layer_.use_sinks = shape.sinks;
    std::iota(queries_.begin(), queries_.end(), 1u);
    std::reverse(queries_.begin(), queries_.end());
    std::iota(ids_.begin(), ids_.end(), 0u);
    std::shuffle(ids_.begin(), ids_.end(), layer_.random());
    masks_.resize((ids_.size() - full_pages()) * queries_.size());
    for (uint32_t& mask : masks_) {
      const auto bits = static_cast<uint32_t>(layer_.random()());
      mask = bits % 4 == 0 ? 0 : bits % 4 == 1 ? bits : 0xffffffffu >> (bits / 4 % 32);
    }
  }

  Layer& layer() { return layer_; }
  std::vector<uint32_t>& masks() { return masks_; }

  std::vector<AttentionTask> tasks() const {
    std::vector<AttentionTask> all;
    const uint32_t parts = std::max(shape_.parts, 1u);
    for (uint32_t p = 0; p < parts; ++p) {
      const size_t first = ids_.size() * p / parts;
      const size_t last = ids_.size() * (p + 1) / parts;
      const size_t split = std::clamp(full_pages(), first, last);
      AttentionTask task;
      task.queries = queries_;
      task.full = std::span(ids_).subspan(first, split - first);
      task.masked = std::span(ids_).subspan(split, last - split);
      if (split < last) task.masks = &masks_[(split - full_pages()) * queries_.size()];
      // One partial result in front stays unused.
      if (shape_.parts > 0) task.partial = static_cast<int32_t>(1 + p * queries_.size());
      all.push_back(task);
    }
    return all;
  }

  std::vector<uint32_t> parts_of(size_t query) const {
    std::vector<uint32_t> parts(shape_.parts);
    for (uint32_t p = 0; p < shape_.parts; ++p) {
      parts[p] = static_cast<uint32_t>(1 + p * queries_.size() + query);
    }
    return parts;
  }
  size_t partial_count() const { return 1 + shape_.parts * queries_.size(); }

  Floats run_reference() {
    Floats out = layer_.make_out();
    Floats partials = layer_.make_partials(partial_count());
    for (uint32_t h = 0; h < kKvHeads; ++h) {
      const AttentionHead head = layer_.reference_head(h, out);
      float* base = partials.data() + h * layer_.partials_stride(partial_count());
      for (const AttentionTask& task : tasks()) {
        reference_kernels().run(shape_.format, head, task, base, nullptr);
      }
      for (size_t i = 0; shape_.parts > 0 && i < queries_.size(); ++i) {
        combine_partials(shape_.format, head, queries_[i], base, parts_of(i));
      }
    }
    return out;
  }

  Floats run_device(Order order) {
    const auto entries =
        static_cast<uint32_t>(ids_.size() + 1) * (shape_.queries + 1) * (shape_.parts + 1);
    // More tasks and combines than there are: blocks that have nothing to do.
    test::PlanTensor plan({shape_.parts + 2, shape_.queries, entries, entries, entries,
                           shape_.queries + 1, entries, 1});
    gpu::PlanWriter writer(plan.shape(), plan.words());
    for (const AttentionTask& task : tasks()) writer.add_task(task);
    for (size_t i = 0; shape_.parts > 0 && i < queries_.size(); ++i) {
      writer.add_combine(queries_[i], parts_of(i));
    }
    EXPECT_TRUE(writer.finish().ok());
    return layer_.run_device(plan, partial_count(), order);
  }

  void check(double allowed = kAllowed) {
    const Floats expected = run_reference();
    const Floats out = run_device(Order::kForward);
    const double worst = layer_.compare(out, expected);
    EXPECT_TRUE(worst >= 0 && worst <= allowed) << describe(shape_) << ": " << worst;
    EXPECT_EQ(std::memcmp(out.data(), run_device(Order::kBackward).data(), out.size() * 4), 0)
        << describe(shape_) << ": depends on the order of threads";
  }

 private:
  size_t full_pages() const { return ids_.size() / 2; }

  Shape shape_;
  Layer layer_;
  std::vector<uint32_t> queries_;
  std::vector<PageId> ids_;
  std::vector<uint32_t> masks_;
};

constexpr KvType kTypes[] = {KvType::kBf16, KvType::kInt8, KvType::kFp8};

// Every mix of types with every head size; the other dimensions take turns.
TEST(GpuAttention, AgreesWithTheReference) {
  constexpr int kGroups[] = {1, 2, 3, 7, 8, 16};
  constexpr uint32_t kQueries[] = {1, 2, 1, 5};
  constexpr int kPages[] = {1, 2, 3, 6, 9};
  unsigned n = 0;
  for (KvType k : kTypes) {
    for (KvType v : kTypes) {
      for (int head : {64, 80, 96, 128, 192, 256, 48}) {
        Shape shape;
        shape.format = {k, v, head, head};
        shape.group = kGroups[n % 6];
        shape.queries = shape.group < 8 ? kQueries[n / 3 % 4] : 1;
        shape.pages = kPages[n / 7 % 5];
        shape.softcap = n % 5 == 0 ? 2.5f : 0;
        shape.sinks = n % 3 == 0;
        shape.parts = n % 4 == 3 ? 1 + n / 4 % 3 : 0;
        TaskScene(shape, n++).check();
      }
    }
  }
}

TEST(GpuAttention, KeysAndValuesOfDifferentAndOddSizes) {
  unsigned n = 1000;
  for (auto [head_k, head_v] : {std::pair{192, 128}, {34, 6}, {2, 2}, {96, 250}, {254, 66}}) {
    for (KvType type : kTypes) {
      TaskScene({{type, type, head_k, head_v}, 3, 3, 3, 0, false, 0}, n++).check();
      TaskScene({{type, type, head_k, head_v}, 5, 1, 5, 0, true, 2}, n++).check();
    }
  }
}

// The largest task: more rows than one block does.
TEST(GpuAttention, ThirtyTwoQueriesOfAGroup) {
  TaskScene({{KvType::kBf16, KvType::kFp8, 64, 64}, 3, 32, 3, 0, true, 0}, 2000).check();
  TaskScene({{KvType::kInt8, KvType::kInt8, 64, 64}, 2, 31, 5, 0, false, 2}, 2001).check();
}

TEST(GpuAttention, ARowThatSeesNothingIsZero) {
  for (bool sinks : {false, true}) {
    for (uint32_t parts : {0u, 1u, 2u}) {
      TaskScene scene({{KvType::kFp8, KvType::kInt8, 64, 64}, 2, 3, 1, 0, sinks, parts}, 9);
      scene.masks().assign(scene.masks().size(), 0);
      const Floats out = scene.run_device(Order::kForward);
      EXPECT_EQ(scene.layer().compare(out, scene.run_reference()), 0);
      EXPECT_EQ(std::count(out.begin(), out.end(), 0.0f), 3 * 2 * 2 * 64);
    }
  }
}

TEST(GpuAttention, HugeScores) {
  for (KvType type : kTypes) {
    TaskScene scene({{type, type, 64, 64}, 2, 4, 6, 0, false, 0}, 10);
    scene.layer().scale_factor = 1e6f;
    scene.check();
  }
}

// Slots that a row does not see may hold anything; rows that see NaN become NaN, and nobody else.
TEST(GpuAttention, OnlyWhoSeesATokenIsDisturbedByIt) {
  constexpr float kBad[] = {std::numeric_limits<float>::quiet_NaN(),
                            std::numeric_limits<float>::infinity()};
  for (KvType k : kTypes) {
    for (KvType v : kTypes) {
      for (uint32_t seen : {0x00000fffu, 0x000fffffu}) {
        TaskScene scene({{k, v, 80, 80}, 3, 2, 1, 0, false, 0}, 11);
        for (size_t i = 0; i < scene.masks().size(); ++i) {
          scene.masks()[i] = i % 2 == 0 ? 0x00000fffu : seen;
        }
        for (SlotId slot = 12; slot < kPageTokens; ++slot) {
          const Floats row(80, kBad[slot % 2]);
          for (uint32_t h = 0; h < kKvHeads; ++h) {
            scene.layer().write(h, row.data(), row.data(), slot);
          }
        }
        const Floats expected = scene.run_reference();
        const Floats out = scene.run_device(Order::kForward);
        EXPECT_LE(scene.layer().compare(out, expected), kAllowed);
        EXPECT_GE(scene.layer().compare(out, expected), 0);
        const bool any_nan = std::any_of(out.begin(), out.end(), [](float x) { return x != x; });
        EXPECT_EQ(any_nan, seen != 0x00000fffu);
      }
    }
  }
}

TEST(GpuAttention, NanQueryStaysInItsRow) {
  for (KvType type : kTypes) {
    TaskScene scene({{type, type, 64, 64}, 4, 2, 3, 0, false, 0}, 13);
    // Query 1, head 1 of the second KV head.
    scene.layer().q()[scene.layer().q_stride() + 5 * 64 + 6] =
        std::numeric_limits<float>::quiet_NaN();
    const Floats out = scene.run_device(Order::kForward);
    EXPECT_EQ(std::count_if(out.begin(), out.end(), [](float x) { return std::isnan(x); }), 64);
  }
}

// Partial results are those of kernels/attention.h: the CPU can combine what the device computed.
TEST(GpuAttention, PartialResultsAreTheCpus) {
  const PageFormat format{KvType::kInt8, KvType::kInt8, 64, 64};
  TaskScene scene({format, 3, 2, 8, 0, true, 3}, 14);
  Layer& layer = scene.layer();
  const size_t count = scene.partial_count();
  Floats out = layer.make_out();
  Floats partials = layer.make_partials(count);
  test::PlanTensor plan({3, 2, 6, 8, 16, 1, 1, 1});
  gpu::PlanWriter writer(plan.shape(), plan.words());
  for (const AttentionTask& task : scene.tasks()) writer.add_task(task);
  ASSERT_TRUE(writer.finish().ok());
  Floats unused = layer.make_out();
  const auto output = layer.output(unused, partials, count);
  test::launch_attention({plan.data(), plan.layout(), test::layer_pages(format, layer.pool()),
                          output, layer.q().data(), layer.q_stride(), 1 / 8.0f, 0},
                         plan.shape(), Order::kForward);
  for (uint32_t h = 0; h < kKvHeads; ++h) {
    const float* base = partials.data() + h * layer.partials_stride(count);
    for (uint32_t i = 0; i < 2; ++i) {
      combine_partials(format, layer.reference_head(h, out), 2 - i, base, scene.parts_of(i));
    }
  }
  const double worst = layer.compare(out, scene.run_reference());
  EXPECT_TRUE(worst >= 0 && worst <= kAllowed) << worst;
}

}  // namespace
}  // namespace pm

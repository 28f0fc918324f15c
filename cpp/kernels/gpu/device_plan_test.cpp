// Plans as device tensors: whole steps planned, packed, run by the emulator and compared with the
// reference; and what does not fit.
#include "kernels/gpu/device_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/combine.h"
#include "kernels/gpu/gpu_test_support.h"

namespace pm {
namespace {

using emulator::Order;
using test::Floats;
using test::kKvHeads;
using test::Pool;

constexpr int kGroup = 2;
constexpr size_t kHead = 64;
constexpr size_t kHeads = kKvHeads * kGroup;
// See paged_attention_test.cpp: float against double.
constexpr double kAllowed = 2e-5;

// A sequence whose last tokens are the step's queries.
struct Sequence {
  std::vector<PageId> pages;
  std::vector<TokenPlace> places;  // of all its tokens, a page after the other
  uint32_t queries = 1;
  std::vector<PlannedPage> planned;

  Sequence(std::vector<PageId> ids, uint32_t tokens, uint32_t query_tokens)
      : pages(std::move(ids)), places(pages.size() * kPageTokens), queries(query_tokens) {
    for (uint32_t t = 0; t < tokens; ++t) places[t].pos = static_cast<Pos>(t);
    for (uint32_t p = 0; p < pages.size(); ++p) {
      const uint32_t first = p * kPageTokens;
      const uint32_t held = std::min<uint32_t>(kPageTokens, tokens - first);
      planned.push_back({pages[p], 0xffffffffu >> (kPageTokens - held), static_cast<Pos>(first),
                         static_cast<Pos>(first + held - 1), &places[first]});
    }
    first_query = tokens - query_tokens;
  }
  uint32_t first_query = 0;

  SlotId slot(uint32_t token) const {
    return pages[token / kPageTokens] * kPageTokens + token % kPageTokens;
  }
};

// A step: earlier tokens are in the pages already, those of the step are written first.
class Step {
 public:
  Step(KvType type, std::vector<Sequence> sequences, const AttentionRules& rules,
       const PlanLimits& limits)
      : format_{type, type, kHead, kHead}, sequences_(std::move(sequences)) {
    std::vector<PlannedRun> runs;
    for (const Sequence& s : sequences_) {
      runs.push_back({static_cast<uint32_t>(slots_.size()),
                      std::span(s.places).subspan(s.first_query, s.queries), s.planned});
      for (uint32_t i = 0; i < s.queries; ++i) slots_.push_back(s.slot(s.first_query + i));
    }
    plan_.build(runs, rules, limits);
    std::mt19937 random(31);
    q_ = test::random_floats(random, slots_.size() * kStride);
    k_ = test::random_floats(random, slots_.size() * kKvHeads * kHead);
    v_ = test::random_floats(random, slots_.size() * kKvHeads * kHead);
  }

  const AttentionPlan& plan() const { return plan_; }
  const std::vector<SlotId>& slots() const { return slots_; }

  Floats run_reference() const {
    const Pool pool = make_pool();
    Floats out(slots_.size() * kStride);
    for (uint32_t h = 0; h < kKvHeads; ++h) {
      const size_t at = h * kGroup * kHead;
      const HeadPages pages = test::head_pages(pool, h);
      reference_kernels().write(
          format_, pages,
          {&k_[h * kHead], &v_[h * kHead], kKvHeads * kHead, kKvHeads * kHead, slots_});
      const AttentionHead head{pages,  &q_[at], kStride, &out[at], kStride,
                               kGroup, kScale,  0,       nullptr};
      Floats partials(plan_.partials() * partial_floats(format_, kGroup));
      for (const AttentionTask& task : plan_.tasks()) {
        reference_kernels().run(format_, head, task, partials.data(), nullptr);
      }
      for (const auto& combine : plan_.combines()) {
        combine_partials(format_, head, combine.query, partials.data(), plan_.parts(combine));
      }
    }
    return out;
  }

  Floats run_device(Order order) const {
    const Pool pool = make_pool();
    const auto tokens = static_cast<uint32_t>(slots_.size());
    test::PlanTensor tensor({32, kMaxTaskQueries, 256, 512, 2048, tokens + 3, 512, tokens + 3});
    EXPECT_TRUE(gpu::pack_plan(plan_, slots_, tensor.shape(), tensor.words()).ok());
    Floats out(slots_.size() * kStride);
    const size_t partials_stride = plan_.partials() * partial_floats(format_, kGroup);
    Floats partials(kKvHeads * partials_stride + 1);
    const gpu::LayerPages pages = test::layer_pages(format_, pool);
    const gpu::OutputArguments output{out.data(), kStride,         nullptr,        0,
                                      kGroup,     partials.data(), partials_stride};
    test::launch_write({tensor.data(), tensor.layout(), pages, k_.data(), v_.data(),
                        kKvHeads * kHead, kKvHeads * kHead},
                       tensor.shape(), order);
    test::launch_attention(
        {tensor.data(), tensor.layout(), pages, output, q_.data(), kStride, kScale, 0},
        tensor.shape(), order);
    test::launch_combine({tensor.data(), tensor.layout(), output, pages.v_type, pages.head_v},
                         tensor.shape(), order);
    return out;
  }

  void check() const {
    const Floats expected = run_reference();
    const Floats out = run_device(Order::kForward);
    for (size_t row = 0; row < out.size(); row += kHead) {
      const double distance = test::distance(&out[row], &expected[row], kHead);
      EXPECT_TRUE(distance <= kAllowed) << "row " << row / kHead << ": " << distance;
    }
    EXPECT_EQ(run_device(Order::kBackward), out);
  }

 private:
  static constexpr size_t kStride = kHeads * kHead;
  static constexpr float kScale = 0.125f;

  // Filled with what the tokens before the step left there.
  Pool make_pool() const {
    constexpr int kPages = 24;
    Pool pool(format_, kPages);
    std::mt19937 random(32);
    for (uint32_t h = 0; h < kKvHeads; ++h) {
      const Floats rows = test::random_floats(random, kPages * kPageTokens * kHead);
      std::vector<SlotId> all(kPages * kPageTokens);
      for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<SlotId>(i);
      reference_kernels().write(format_, test::head_pages(pool, h),
                                {rows.data(), rows.data(), kHead, kHead, all});
    }
    return pool;
  }

  PageFormat format_;
  std::vector<Sequence> sequences_;
  AttentionPlan plan_;
  std::vector<SlotId> slots_;
  Floats q_, k_, v_;
};

// Three sequences on one prefix of five pages, one of them with several tokens, and a prefill.
std::vector<Sequence> mixed_batch() {
  std::vector<Sequence> all;
  all.emplace_back(std::vector<PageId>{3, 9, 1, 20, 6, 7}, 170, 1);
  all.emplace_back(std::vector<PageId>{3, 9, 1, 20, 6, 11, 12}, 200, 2);
  all.emplace_back(std::vector<PageId>{3, 9, 1, 20, 6, 0}, 161, 1);
  all.emplace_back(std::vector<PageId>{15, 23}, 40, 40);
  return all;
}

PlanLimits small_parts() {
  PlanLimits limits;
  limits.threads = 64;
  limits.kv_heads = kKvHeads;
  limits.part_pages = 2;
  return limits;
}

TEST(DevicePlan, AMixedBatchWithASharedPrefix) {
  for (KvType type : {KvType::kBf16, KvType::kInt8, KvType::kFp8}) {
    const Step step(type, mixed_batch(), {}, small_parts());
    // What is meant to be tested is there.
    EXPECT_EQ(step.plan().combines().size(), 4u);
    EXPECT_TRUE(std::any_of(step.plan().tasks().begin(), step.plan().tasks().end(),
                            [](const AttentionTask& t) { return t.queries.size() == 4; }));
    EXPECT_TRUE(std::any_of(step.plan().tasks().begin(), step.plan().tasks().end(),
                            [](const AttentionTask& t) { return t.partial < 0; }));
    step.check();
  }
}

TEST(DevicePlan, WindowsAndNonCausalSpans) {
  AttentionRules window;
  window.window = 50;
  Step(KvType::kFp8, mixed_batch(), window, small_parts()).check();
  AttentionRules span;
  span.causal = false;
  Step(KvType::kBf16, mixed_batch(), span, small_parts()).check();
}

TEST(DevicePlan, SectionsDoNotOverlap) {
  const gpu::PlanShape shape{1, 2, 3, 4, 5, 6, 7, 8};
  const gpu::PlanLayout layout = gpu::plan_layout(shape);
  EXPECT_EQ(layout.tasks, 8u);
  EXPECT_EQ(layout.queries, layout.tasks + gpu::kTaskWords);
  EXPECT_EQ(layout.pages, layout.queries + 3);
  EXPECT_EQ(layout.masks, layout.pages + 4);
  EXPECT_EQ(layout.combines, layout.masks + 5);
  EXPECT_EQ(layout.parts, layout.combines + 6 * gpu::kCombineWords);
  EXPECT_EQ(layout.slots, layout.parts + 7);
  EXPECT_EQ(layout.words, layout.slots + 8);
}

// Whether the step fits if one section is as large as given.
Status pack_with(const Step& step, uint32_t gpu::PlanShape::*section, uint32_t size,
                 std::vector<uint32_t>& words) {
  gpu::PlanShape shape{32, 32, 256, 512, 2048, 64, 512, 64};
  shape.*section = size;
  words.assign(gpu::plan_layout(shape).words, 77);
  return gpu::pack_plan(step.plan(), step.slots(), shape, words);
}

TEST(DevicePlan, WhatDoesNotFitIsRefusedAsAWhole) {
  const Step step(KvType::kBf16, mixed_batch(), {}, small_parts());
  using Shape = gpu::PlanShape;
  for (const auto& [section, name] : {std::pair{&Shape::tasks, "tasks"},
                                      {&Shape::queries, "queries"},
                                      {&Shape::pages, "pages"},
                                      {&Shape::masks, "masks"},
                                      {&Shape::combines, "combines"},
                                      {&Shape::parts, "parts"},
                                      {&Shape::slots, "slots"},
                                      {&Shape::task_queries, "queries of a task"}}) {
    // The smallest size that fits, and one less.
    std::vector<uint32_t> words;
    uint32_t size = 0;
    while (!pack_with(step, section, size, words).ok()) ASSERT_LT(++size, 2048u) << name;
    ASSERT_GT(size, 0u) << name;
    EXPECT_EQ(words[gpu::kPlanTasks], step.plan().tasks().size());
    EXPECT_EQ(words[gpu::kPlanCombines], step.plan().combines().size());
    EXPECT_EQ(words[gpu::kPlanSlots], step.slots().size());
    const Status refused = pack_with(step, section, size - 1, words);
    ASSERT_FALSE(refused.ok()) << name;
    EXPECT_EQ(refused.error().code, ErrorCode::kInternal);
    EXPECT_EQ(refused.error().details[0].second, name);
    EXPECT_TRUE(std::all_of(words.begin(), words.begin() + gpu::kPlanHeaderWords,
                            [](uint32_t word) { return word == 0; }));
  }
}

TEST(DevicePlan, ATensorThatIsTooSmallIsLeftAlone) {
  const gpu::PlanShape shape{1, 1, 1, 1, 1, 1, 1, 1};
  std::vector<uint32_t> words(gpu::plan_layout(shape).words - 1, 77);
  EXPECT_FALSE(gpu::PlanWriter(shape, words).finish().ok());
  EXPECT_EQ(std::count(words.begin(), words.end(), 77u), static_cast<int64_t>(words.size()));
}

TEST(AttentionVariant, HoldsTheHeadAndNoMoreRowsThanNeeded) {
  EXPECT_EQ(gpu::attention_variant(64, 1, 1).name(), "pm_attention_c2_r1");
  EXPECT_EQ(gpu::attention_variant(80, 2, 1).name(), "pm_attention_c3_r4");
  EXPECT_EQ(gpu::attention_variant(128, 4, 1).name(), "pm_attention_c4_r4");
  EXPECT_EQ(gpu::attention_variant(130, 5, 1).name(), "pm_attention_c6_r8");
  EXPECT_EQ(gpu::attention_variant(256, 16, 32).name(), "pm_attention_c8_r8");
  EXPECT_EQ(gpu::attention_row_tiles({8, 8}, 16, 32), 64u);
  EXPECT_EQ(gpu::attention_row_tiles({2, 8}, 9, 1), 2u);
  for (uint32_t head = 2; head <= 256; head += 2) {
    const auto variant = gpu::attention_variant(head, 3, 1);
    EXPECT_GE(variant.columns * gpu::kWarpLanes, head);
    EXPECT_NE(test::attention_kernel(variant), nullptr) << variant.name();
  }
}

}  // namespace
}  // namespace pm

#include "scheduler/step_planner.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace pm {
namespace {

using Sizes = std::vector<size_t>;

TEST(StepPlanner, OnePromptTakesTheWholeStep) {
  EXPECT_EQ(plan_prefill(Sizes{1000}, 0, {512, 128}), (Sizes{512}));
  EXPECT_EQ(plan_prefill(Sizes{100}, 0, {512, 128}), (Sizes{100}));
}

TEST(StepPlanner, DecodingBoundsPrefill) {
  EXPECT_EQ(plan_prefill(Sizes{1000}, 1, {512, 128}), (Sizes{128}));
  // No room beside the decoding sequences: they come first.
  EXPECT_EQ(plan_prefill(Sizes{1000}, 512, {512, 128}), (Sizes{0}));
  EXPECT_EQ(plan_prefill(Sizes{1000}, 500, {512, 128}), (Sizes{12}));
}

TEST(StepPlanner, SharesEquallyAndPassesOnWhatIsLeft) {
  EXPECT_EQ(plan_prefill(Sizes{1000, 1000}, 0, {512, 128}), (Sizes{256, 256}));
  EXPECT_EQ(plan_prefill(Sizes{10, 1000}, 0, {512, 128}), (Sizes{10, 502}));
  EXPECT_EQ(plan_prefill(Sizes{1000, 0, 1000}, 0, {100, 128}), (Sizes{50, 0, 50}));
}

TEST(StepPlanner, MorePromptsThanBudget) {
  EXPECT_EQ(plan_prefill(Sizes{5, 5, 5, 5}, 0, {3, 128}), (Sizes{1, 1, 1, 0}));
}

TEST(StepPlanner, NeverOverspendsAndNeverIdles) {
  std::mt19937 random(19);
  for (int round = 0; round < 2000; ++round) {
    Sizes remaining(random() % 12);
    for (auto& n : remaining) n = random() % 3 == 0 ? 0 : random() % 700;
    const size_t decoding = random() % 20;
    const StepLimits limits{1 + random() % 600, 1 + random() % 200};
    const Sizes share = plan_prefill(remaining, decoding, limits);
    size_t budget = limits.tokens_per_step > decoding ? limits.tokens_per_step - decoding : 0;
    if (decoding > 0) budget = std::min(budget, limits.prefill_while_decoding);
    const size_t wanted = std::accumulate(remaining.begin(), remaining.end(), size_t{0});
    const size_t given = std::accumulate(share.begin(), share.end(), size_t{0});
    EXPECT_EQ(given, std::min(budget, wanted));
    for (size_t i = 0; i < share.size(); ++i) EXPECT_LE(share[i], remaining[i]);
  }
}

}  // namespace
}  // namespace pm

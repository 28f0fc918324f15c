// A pool that is too small is said, and leaves everything as it was.
#include <gtest/gtest.h>

#include "engines/llama/paged/testing_session.h"
#include "kv/memory_stats.h"

namespace pm::llama::testing {
namespace {

size_t page_bytes(const llama_model* model) {
  const auto shape = paged_shape(*model);
  size_t bytes = 0;
  for (size_t g = 0; g < shape.value().groups.size(); ++g) {
    bytes += shape.value().page_bytes(g, KvType::kBf16, KvType::kBf16);
  }
  return bytes;
}

class SmallPool : public ::testing::TestWithParam<RandomModelSpec> {
 protected:
  SmallPool() : model_(make_random_model(GetParam())) {}
  // Room for about `pages` pages in every layer group.
  SessionOptions options(size_t pages) const {
    return {.sequences = 4, .context = 512, .budget_bytes = pages * page_bytes(model_.get())};
  }
  ModelPtr model_;
};

TEST_P(SmallPool, ABatchThatDoesNotFitChangesNothing) {
  const Scenario before = [](Session& session) {
    session.feed(0, 40);
    session.feed(1, 9);
  };
  const Scenario after = [](Session& session) {
    session.restart_recording(3);
    session.generate({0, 1}, 10);
  };
  Session undisturbed(model_.get(), kPaged, options(8));
  before(undisturbed);
  after(undisturbed);

  Session session(model_.get(), kPaged, options(8));
  before(session);
  const size_t pages = session.cache().stats().kv.pages_used;
  for (int attempt = 0; attempt < 3; ++attempt) {
    Batch large;
    session.append(large, 0, 5);
    session.append(large, 2, 400);
    EXPECT_EQ(large.decode(session.context()), 1);
    EXPECT_EQ(session.next(0), 40);
    EXPECT_EQ(session.next(2), 0);
    EXPECT_EQ(session.cache().stats().kv.pages_used, pages);
  }
  after(session);
  EXPECT_EQ(session.logits(), undisturbed.logits());
}

TEST_P(SmallPool, RoomComesBack) {
  Session session(model_.get(), kPaged, options(8));
  for (int round = 0; round < 5; ++round) {
    session.feed(0, 60);
    session.feed(1, 60);
    Batch more;
    session.append(more, 2, 300);
    EXPECT_EQ(more.decode(session.context()), 1);
    session.clear();
  }
  EXPECT_EQ(session.cache().stats().kv.pages_used, 0u);
}

TEST_P(SmallPool, BudgetBelowAPageIsRefused) {
  auto shape = paged_shape(*model_);
  ASSERT_TRUE(shape.ok());
  PagedConfig config;
  config.k_type = config.v_type = KvType::kBf16;
  config.context_tokens = 512;
  for (const size_t budget : {size_t{0}, size_t{1}, page_bytes(model_.get()) - 1}) {
    config.budget_bytes = budget;
    const auto cache = PagedCache::create(shape.value(), config);
    ASSERT_FALSE(cache.ok());
    EXPECT_EQ(cache.error().code, ErrorCode::kInvalidRequest);
    EXPECT_NE(cache.error().message.find("budget_bytes"), std::string::npos);
  }
}

INSTANTIATE_TEST_SUITE_P(Paged, SmallPool,
                         ::testing::Values(random_model("llama_80"), random_model("gemma2")),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace pm::llama::testing

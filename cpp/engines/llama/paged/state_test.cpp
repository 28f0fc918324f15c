// State of sequences through llama_state_…: what continues from it continues bit for bit.
#include <gtest/gtest.h>

#include "engines/llama/paged/testing_session.h"

namespace pm::llama::testing {
namespace {

constexpr uint64_t kSeed = 7;

// Tokens, a window that has slid, two-dimensional positions.
void fill(Session& session, bool images) {
  session.feed(0, 70);
  session.feed(1, 33);
  if (images) {
    Batch image;
    session.append_image(image, 0, 4, 5);
    session.decode(image);
    Batch text;
    session.append_at(text, session.next(0) + 4, {0}, 3);
    session.decode(text);
  }
  session.generate({0, 1}, 45);
}

class SavedState : public ::testing::TestWithParam<RandomModelSpec> {
 protected:
  SavedState() : model_(make_random_model(GetParam())) {}

  Session fresh(const MemoryKind& kind = kPaged) { return Session(model_.get(), kind, {}); }

  static std::vector<uint8_t> save(Session& session, llama_seq_id seq) {
    std::vector<uint8_t> bytes(llama_state_seq_get_size(session.context(), seq));
    EXPECT_EQ(llama_state_seq_get_data(session.context(), bytes.data(), bytes.size(), seq),
              bytes.size());
    return bytes;
  }
  static bool restore(Session& session, const std::vector<uint8_t>& bytes, llama_seq_id seq) {
    return llama_state_seq_set_data(session.context(), bytes.data(), bytes.size(), seq) != 0;
  }
  static std::vector<float> go_on(Session& session, const std::vector<llama_seq_id>& seqs) {
    session.restart_recording(kSeed);
    session.generate(seqs, 12);
    session.feed(seqs[0], 40);
    return session.logits();
  }

  ModelPtr model_;
};

TEST_P(SavedState, OneSequenceGoesOnAsIfNothingHappened) {
  Session session = fresh();
  fill(session, GetParam().two_dimensional);
  const auto bytes = save(session, 0);
  const auto expected = go_on(session, {0});

  Session other = fresh();
  other.feed(2, 21);  // somebody else's pages come first
  ASSERT_TRUE(restore(other, bytes, 5));
  EXPECT_EQ(go_on(other, {5}), expected);
  // The same context, over what the sequence holds now.
  ASSERT_TRUE(restore(session, bytes, 0));
  EXPECT_EQ(go_on(session, {0}), expected);
}

TEST_P(SavedState, EightBitPagesKeepTheirScales) {
  for (const KvType type : {KvType::kInt8, KvType::kFp8}) {
    const MemoryKind kind{.paged = true, .k_type = type, .v_type = type};
    Session session = fresh(kind);
    session.feed(0, 53);
    const auto bytes = save(session, 0);
    const auto expected = go_on(session, {0});
    Session other = fresh(kind);
    ASSERT_TRUE(restore(other, bytes, 1));
    EXPECT_EQ(go_on(other, {1}), expected);
  }
}

TEST_P(SavedState, AllSequencesGoOnAsIfNothingHappened) {
  Session session = fresh();
  fill(session, GetParam().two_dimensional);
  std::vector<uint8_t> bytes(llama_state_get_size(session.context()));
  ASSERT_EQ(llama_state_get_data(session.context(), bytes.data(), bytes.size()), bytes.size());
  const auto expected = go_on(session, {0, 1});

  Session other = fresh();
  other.feed(4, 21);
  ASSERT_NE(llama_state_set_data(other.context(), bytes.data(), bytes.size()), 0u);
  EXPECT_EQ(other.next(4), 0);
  EXPECT_EQ(go_on(other, {0, 1}), expected);
}

// Restored tokens lie closer together: sums are taken in another order, nothing else changes.
TEST_P(SavedState, HolesAreClosed) {
  Session session = fresh();
  session.feed(0, 70);
  session.remove(0, 40, 45);
  session.feed(0, 20);
  const auto bytes = save(session, 0);
  const auto expected = go_on(session, {0});
  Session other = fresh();
  ASSERT_TRUE(restore(other, bytes, 0));
  EXPECT_EQ(other.next(0), 90);
  const Divergence distance = divergence(expected, go_on(other, {0}));
  EXPECT_LE(distance.max, 1e-5) << describe(distance);
}

TEST_P(SavedState, DamagedOrForeignBytesAreRefused) {
  Session session = fresh();
  fill(session, GetParam().two_dimensional);
  const auto bytes = save(session, 0);

  Session other = fresh();
  other.feed(1, 40);
  for (const size_t length :
       {size_t{3}, size_t{20}, size_t{100}, bytes.size() / 2, bytes.size() - 1}) {
    SCOPED_TRACE(length);
    const std::vector<uint8_t> cut(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(length));
    EXPECT_FALSE(restore(other, cut, 0));
    EXPECT_EQ(other.next(0), 0);
  }
  EXPECT_EQ(other.next(1), 40);
  Session narrow = fresh({.paged = true, .k_type = KvType::kInt8, .v_type = KvType::kInt8});
  EXPECT_FALSE(restore(narrow, bytes, 0));
  ASSERT_TRUE(restore(other, bytes, 0));
  EXPECT_EQ(go_on(other, {0}), go_on(session, {0}));
}

INSTANTIATE_TEST_SUITE_P(Paged, SavedState,
                         ::testing::Values(random_model("llama_80"), random_model("gemma3"),
                                           random_model("qwen2vl")),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace pm::llama::testing

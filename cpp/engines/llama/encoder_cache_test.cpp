#include <gtest/gtest.h>

#include "engines/llama/media_encoder.h"

namespace pm::llama {
namespace {

std::shared_ptr<const MediaEmbedding> embedding(size_t floats) {
  auto made = std::make_shared<MediaEmbedding>();
  made->values.resize(floats);
  return made;
}

TEST(EncoderCache, DropsTheLeastRecentlyUsed) {
  EncoderCache cache(3 * 10 * sizeof(float));
  for (const char* key : {"a", "b", "c"}) cache.insert(key, embedding(10));
  EXPECT_NE(cache.find("a"), nullptr);  // now the most recent
  cache.insert("d", embedding(10));
  EXPECT_EQ(cache.find("b"), nullptr);
  EXPECT_NE(cache.find("a"), nullptr);
  EXPECT_NE(cache.find("c"), nullptr);
  EXPECT_NE(cache.find("d"), nullptr);
  const auto counters = cache.counters();
  EXPECT_EQ(counters.hits, 4);
  EXPECT_EQ(counters.misses, 1);
  EXPECT_EQ(counters.bytes, static_cast<int64_t>(3 * 10 * sizeof(float)));
}

TEST(EncoderCache, AnEntryLargerThanTheCacheIsNotKeptAndEvictsNothing) {
  EncoderCache cache(10 * sizeof(float));
  cache.insert("small", embedding(10));
  cache.insert("large", embedding(11));
  EXPECT_EQ(cache.find("large"), nullptr);
  EXPECT_NE(cache.find("small"), nullptr);
  cache.insert("small", embedding(10));  // again: counted once
  EXPECT_EQ(cache.counters().bytes, static_cast<int64_t>(10 * sizeof(float)));
}

TEST(EncoderCache, AnEmbeddingInUseSurvivesEviction) {
  EncoderCache cache(10 * sizeof(float));
  cache.insert("a", embedding(10));
  const auto held = cache.find("a");
  cache.insert("b", embedding(10));
  EXPECT_EQ(cache.find("a"), nullptr);
  EXPECT_EQ(held->values.size(), 10u);
}

}  // namespace
}  // namespace pm::llama

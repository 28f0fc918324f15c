#include "kv/memory_stats.h"

#include <gtest/gtest.h>

namespace pm {
namespace {

TEST(PoolPictureTest, TellsFreeUsedSharedAndCachedPagesApart) {
  PagePool pool(6, nullptr, 0);
  PageTables tables(pool, 2);
  ASSERT_TRUE(pool.commit(6));
  tables.begin_step();
  std::vector<PageCopy> copies;
  const SeqId first = 0;
  for (Pos pos = 0; pos < 2 * kPageTokens; ++pos) tables.append({&first, 1}, {pos}, copies);
  const PageId cached = *pool.take();  // held by nobody's table
  EXPECT_EQ(picture_of(pool, tables, 64).states, "uuc...");
  tables.fork(0, 1, 0, kPageTokens);
  EXPECT_EQ(picture_of(pool, tables, 64).states, "suc...");
  EXPECT_EQ(picture_of(pool, tables, 64).page_bytes, 64u);
  tables.clear();
  pool.release(cached);
  EXPECT_EQ(picture_of(pool, tables, 64).states, "......");
}

}  // namespace
}  // namespace pm

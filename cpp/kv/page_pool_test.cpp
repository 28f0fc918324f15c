#include "kv/page_pool.h"

#include <gtest/gtest.h>

#include <set>

#include "kv/kv_test_support.h"

namespace pm {
namespace {

TEST(PagePool, TakesTheLowestFreePageOfCommittedSlabs) {
  FakeSlabs slabs;
  {
    PagePool pool(10, &slabs, 2);
    EXPECT_EQ(pool.take(), std::nullopt);  // nothing is committed yet
    ASSERT_TRUE(pool.commit(1));
    EXPECT_EQ(slabs.live, (std::set<size_t>{0}));
    for (PageId id = 0; id < 4; ++id) EXPECT_EQ(pool.take(), id);
    EXPECT_EQ(pool.take(), std::nullopt);
    pool.release(2);
    pool.release(1);
    ASSERT_TRUE(pool.commit(3));
    EXPECT_EQ(slabs.live, (std::set<size_t>{0, 1}));
    EXPECT_EQ(pool.take(), 1u);
    EXPECT_EQ(pool.take(), 2u);
    EXPECT_EQ(pool.take(), 4u);
    EXPECT_EQ(pool.used(), 5u);
    EXPECT_EQ(pool.free(), 5u);
    EXPECT_EQ(pool.ready(), 3u);
    EXPECT_FALSE(pool.commit(6));  // the pool has five
    EXPECT_EQ(slabs.live.size(), 2u);
    ASSERT_TRUE(pool.commit(5));  // the third slab is cut short: pages 8 and 9
    EXPECT_EQ(pool.committed(), 10u);
    for (PageId id = 5; id < 10; ++id) EXPECT_EQ(pool.take(), id);
    EXPECT_EQ(pool.take(), std::nullopt);
  }
  EXPECT_TRUE(slabs.live.empty());
}

TEST(PagePool, CountsHolders) {
  PagePool pool(3, nullptr, 6);
  ASSERT_TRUE(pool.commit(3));
  const PageId a = *pool.take();
  const PageId b = *pool.take();
  EXPECT_EQ(pool.shared(), 0u);
  pool.retain(a);
  pool.retain(a);
  pool.retain(b);
  EXPECT_EQ(pool.references(a), 3u);
  EXPECT_EQ(pool.shared(), 2u);
  pool.release(a);
  EXPECT_EQ(pool.shared(), 2u);
  pool.release(a);
  EXPECT_EQ(pool.shared(), 1u);
  EXPECT_EQ(pool.used(), 2u);
  pool.release(a);
  EXPECT_EQ(pool.references(a), 0u);
  EXPECT_EQ(pool.used(), 1u);
  EXPECT_EQ(pool.take(), a);
}

TEST(PagePool, FindsFreePagesAcrossWords) {
  PagePool pool(200, nullptr, 3);
  ASSERT_TRUE(pool.commit(200));
  for (PageId id = 0; id < 200; ++id) ASSERT_EQ(pool.take(), id);
  for (const PageId id : {199u, 64u, 63u, 130u}) pool.release(id);
  for (const PageId id : {63u, 64u, 130u, 199u}) EXPECT_EQ(pool.take(), id);
  EXPECT_EQ(pool.take(), std::nullopt);
}

TEST(PagePool, TrimGivesBackFreeSlabsAtTheEnd) {
  FakeSlabs slabs;
  PagePool pool(16, &slabs, 2);
  ASSERT_TRUE(pool.commit(16));
  for (int i = 0; i < 16; ++i) pool.take();
  for (PageId id = 4; id < 16; ++id) pool.release(id);
  pool.retain(0);
  pool.trim(5);  // 12 free, 4 a slab: one may go, then 8 are left and another would leave 4
  EXPECT_EQ(slabs.live, (std::set<size_t>{0, 1, 2}));
  pool.trim();
  EXPECT_EQ(slabs.live, (std::set<size_t>{0}));
  pool.release(3);
  pool.trim();  // slab 0 still holds pages
  EXPECT_EQ(slabs.live, (std::set<size_t>{0}));
  ASSERT_TRUE(pool.commit(2));
  EXPECT_EQ(slabs.live, (std::set<size_t>{0, 1}));
}

TEST(PagePool, AFailedAllocationChangesNothing) {
  for (size_t n = 0; n < 4; ++n) {
    FakeSlabs slabs;
    slabs.fail_at = n;
    PagePool pool(16, &slabs, 2);
    EXPECT_FALSE(pool.commit(16));
    EXPECT_EQ(slabs.live.size(), n);
    EXPECT_EQ(pool.ready(), n * 4);
    for (size_t i = 0; i < n * 4; ++i) EXPECT_EQ(pool.take(), i);
    EXPECT_EQ(pool.take(), std::nullopt);
    ASSERT_TRUE(pool.commit(16 - n * 4));  // the next attempt finds memory
    EXPECT_EQ(pool.take(), n * 4);
  }
}

}  // namespace
}  // namespace pm

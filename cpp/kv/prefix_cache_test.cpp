#include "kv/prefix_cache.h"

#include <gtest/gtest.h>

#include "kv/page_tables.h"

namespace pm {
namespace {

using Pages = std::vector<PageId>;

// The chain of page contents, one letter a page.
std::vector<Digest> chain(const std::string& letters) {
  DigestChain digests(chain_root({}));
  for (const char letter : letters) {
    for (int i = 0; i < kPageTokens; ++i) digests.add_token(letter);
  }
  return {digests.pages().begin(), digests.pages().end()};
}

class PrefixCacheTest : public ::testing::Test {
 protected:
  PrefixCacheTest() { EXPECT_TRUE(pool.commit(64)); }

  // A run that computes what the cache does not know of `letters` and offers it.
  PrefixCache::Lease compute(const std::string& letters) {
    PrefixCache::Lease lease;
    const auto digests = chain(letters);
    cache.match(lease, digests);
    while (lease.depth() < digests.size()) {
      const PageId page = *pool.take();
      const Pos last = static_cast<Pos>(lease.depth() + 1) * kPageTokens - 1;
      EXPECT_TRUE(cache.insert(lease, digests[lease.depth()], {&page, 1}, last));
      pool.release(page);
    }
    return lease;
  }
  std::string evict_one() {
    evicted.clear();
    cache.evict(0, 1);
    return evicted;
  }

  PagePool pool{64, nullptr, 6};
  PrefixCache cache{{{&pool, std::nullopt}}};
  std::string evicted;
};

TEST_F(PrefixCacheTest, ContinuesFromTheLongestKnownPrefix) {
  compute("abc");
  PrefixCache::Lease lease;
  auto runs = cache.match(lease, chain("abx"));
  EXPECT_EQ(lease.depth(), 2u);
  EXPECT_EQ(runs[0].first, 0u);
  EXPECT_EQ(runs[0].pages, (Pages{0, 1}));
  EXPECT_EQ(cache.peek(chain("abcd")), 3u);
  EXPECT_EQ(cache.peek(chain("b")), 0u);
  EXPECT_EQ(cache.peek({}), 0u);
  PrefixCache::Lease none;
  EXPECT_TRUE(cache.match(none, chain("xbc"))[0].pages.empty());
  EXPECT_EQ(none.depth(), 0u);
  // abc missed, abx hit two of three, xbc missed.
  EXPECT_EQ(cache.stats().lookup_tokens, 9u * 32);
  EXPECT_EQ(cache.stats().hit_tokens, 2u * 32);
}

TEST_F(PrefixCacheTest, CatchesUpWithARunningOwner) {
  PrefixCache::Lease owner = compute("ab");
  PrefixCache::Lease follower;
  cache.match(follower, chain("abcd"));
  EXPECT_EQ(follower.depth(), 2u);
  const PageId page = *pool.take();
  ASSERT_TRUE(cache.insert(owner, chain("abc")[2], {&page, 1}, 95));
  pool.release(page);
  const auto runs = cache.match(follower, chain("abcd"));
  EXPECT_EQ(runs[0].first, 2u);
  EXPECT_EQ(runs[0].pages, (Pages{2}));
  EXPECT_EQ(follower.depth(), 3u);
  EXPECT_TRUE(cache.match(follower, chain("abcd"))[0].pages.empty());
  EXPECT_EQ(cache.stats().lookup_tokens, (2u + 4) * 32);
}

TEST_F(PrefixCacheTest, TwoRunsThatComputeTheSamePageShareTheFirstOnes) {
  PrefixCache::Lease first, second;
  const auto digests = chain("a");
  const PageId one = *pool.take(), two = *pool.take();
  ASSERT_TRUE(cache.insert(first, digests[0], {&one, 1}, 31));
  ASSERT_TRUE(cache.insert(second, digests[0], {&two, 1}, 31));
  EXPECT_EQ(pool.references(one), 2u);
  EXPECT_EQ(pool.references(two), 1u);
  EXPECT_EQ(cache.nodes(), 1u);
  EXPECT_EQ(second.depth(), 1u);
  pool.release(one);
  pool.release(two);
}

TEST_F(PrefixCacheTest, RefusesADigestUnderAnotherParent) {
  compute("ab");
  PrefixCache::Lease lease = compute("x");
  const PageId page = *pool.take();
  EXPECT_FALSE(cache.insert(lease, chain("ab")[1], {&page, 1}, 63));
  EXPECT_EQ(lease.depth(), 1u);
  EXPECT_EQ(pool.references(page), 1u);
  pool.release(page);
  const std::vector<Digest> mixed{chain("x")[0], chain("ab")[1]};
  EXPECT_EQ(cache.peek(mixed), 1u);
}

TEST_F(PrefixCacheTest, EvictsLeavesLeastRecentlyUsedFirst) {
  cache.set_eviction_listener([this](const Digest& digest, std::span<const PageId> pages) {
    EXPECT_GT(pool.references(pages[0]), 0u);
    for (const char* path : {"a", "ab", "abc", "abd", "x", "xy"}) {
      if (chain(path).back() == digest) evicted = path;
    }
  });
  compute("abc");
  compute("abd");
  compute("xy");
  compute("abc");  // used again
  EXPECT_EQ(evict_one(), "abd");
  EXPECT_EQ(evict_one(), "xy");
  {
    const PrefixCache::Lease user = compute("x");
    EXPECT_EQ(evict_one(), "abc");
    EXPECT_EQ(evict_one(), "ab");
    EXPECT_EQ(evict_one(), "a");
    EXPECT_EQ(evict_one(), "");  // x is in use
    EXPECT_EQ(pool.used(), 1u);
  }
  EXPECT_EQ(evict_one(), "x");
  EXPECT_EQ(pool.used(), 0u);
  EXPECT_EQ(cache.stats().evictions, 6u);
  EXPECT_EQ(cache.nodes(), 0u);
}

TEST_F(PrefixCacheTest, LeasesKeepTheWholePath) {
  const PrefixCache::Lease deep = compute("abc");
  PrefixCache::Lease moved = compute("abd");
  PrefixCache::Lease other = std::move(moved);
  EXPECT_EQ(cache.evict(0, 10), 0u);
  other = PrefixCache::Lease();
  EXPECT_EQ(cache.evict(0, 10), 1u);
  EXPECT_EQ(cache.peek(chain("abc")), 3u);
  cache.clear();
  EXPECT_EQ(cache.nodes(), 3u);
}

TEST_F(PrefixCacheTest, LeasesFollowForksAndTruncations) {
  PrefixCache::Lease lease = compute("abcd");
  PrefixCache::Lease fork = lease.share();
  EXPECT_EQ(fork.depth(), 4u);
  fork.retreat(9);
  EXPECT_EQ(fork.depth(), 4u);
  lease.retreat(1);
  EXPECT_EQ(lease.depth(), 1u);
  EXPECT_EQ(cache.evict(0, 10), 0u);
  fork.retreat(2);
  EXPECT_EQ(cache.evict(0, 10), 2u);
  fork.retreat(0);
  EXPECT_EQ(fork.depth(), 0u);
  EXPECT_EQ(cache.evict(0, 10), 1u);
  EXPECT_EQ(cache.peek(chain("ab")), 1u);
  lease.reset();
  EXPECT_EQ(cache.evict(0, 10), 1u);
}

TEST_F(PrefixCacheTest, CountsOnlyPagesThatBecomeFree) {
  compute("a");
  compute("b");
  pool.retain(0);  // a sequence still has page 0
  EXPECT_EQ(cache.evict(0, 1), 1u);
  EXPECT_EQ(cache.nodes(), 0u);
  EXPECT_EQ(pool.used(), 1u);
  pool.release(0);
}

// Two groups: one sees everything, one the last 40 positions.
class WindowedCacheTest : public ::testing::Test {
 protected:
  static constexpr Pos kWindow = 40;
  WindowedCacheTest() {
    EXPECT_TRUE(global.commit(64));
    EXPECT_TRUE(windowed.commit(64));
  }

  // As PrefixCacheTest::compute(); the sequence is gone afterwards.
  void compute(const std::string& letters) {
    PrefixCache::Lease lease;
    const auto digests = chain(letters);
    cache.match(lease, digests);
    while (lease.depth() < digests.size()) {
      const PageId pages[] = {*global.take(), *windowed.take()};
      const Pos last = static_cast<Pos>(lease.depth() + 1) * kPageTokens - 1;
      EXPECT_TRUE(cache.insert(lease, digests[lease.depth()], pages, last));
      global.release(pages[0]);
      windowed.release(pages[1]);
    }
  }

  PagePool global{64, nullptr, 6};
  PagePool windowed{64, nullptr, 6};
  PrefixCache cache{{{&global, std::nullopt}, {&windowed, kWindow}}};
};

TEST_F(WindowedCacheTest, HandsOutTheLastWindowOnly) {
  compute("abcdef");
  PrefixCache::Lease lease;
  const auto runs = cache.match(lease, chain("abcdex"));
  EXPECT_EQ(runs[0].first, 0u);
  EXPECT_EQ(runs[0].pages, (Pages{0, 1, 2, 3, 4}));
  // The token at 160 sees 121 … 160: pages 3 and 4.
  EXPECT_EQ(runs[1].first, 3u);
  EXPECT_EQ(runs[1].pages, (Pages{3, 4}));

  PageTables tables(windowed, 1, kWindow);
  const std::vector<TokenPlace> places(kPageTokens);
  for (const PageId page : runs[1].pages) tables.set_places(page, places);
  ASSERT_TRUE(tables.adopt(0, runs[1].first, runs[1].pages));
  EXPECT_EQ(tables.full_pages(0).first, 3u);
}

TEST_F(WindowedCacheTest, LetsGoOfWindowPagesBeforeTheEndAndForksFirst) {
  compute("abcdefgh");
  compute("abcdxyz");
  EXPECT_EQ(windowed.used(), 11u);
  // Needed: g h, y z, and c d before the fork. Spare: a b, e f, x.
  EXPECT_EQ(cache.evict(1, 5), 5u);
  EXPECT_EQ(windowed.used(), 6u);
  EXPECT_EQ(global.used(), 11u);
  EXPECT_EQ(cache.stats().evictions, 0u);
  EXPECT_EQ(cache.peek(chain("abcdefgh")), 8u);
  EXPECT_EQ(cache.peek(chain("abcdxyz")), 7u);
  EXPECT_EQ(cache.peek(chain("abcdnew")), 4u);
  EXPECT_EQ(cache.peek(chain("abcdefnew")), 4u);  // f could not see e
  EXPECT_EQ(cache.peek(chain("abnew")), 0u);
  // Now leaves go.
  EXPECT_EQ(cache.evict(1, 1), 1u);
  EXPECT_EQ(cache.stats().evictions, 1u);
  EXPECT_EQ(cache.peek(chain("abcdefgh")), 4u);
  EXPECT_EQ(cache.peek(chain("abcdxyz")), 7u);
}

TEST_F(WindowedCacheTest, AForkThatLosesABranchIsSpare) {
  compute("abcdefgh");
  compute("abcdxyz");
  EXPECT_EQ(cache.evict(1, 5), 5u);
  {
    PrefixCache::Lease user;
    cache.match(user, chain("abcdxyz"));
    EXPECT_EQ(cache.evict(0, 4), 4u);  // h g f e
  }
  EXPECT_EQ(windowed.used(), 4u);  // c d y z
  EXPECT_EQ(cache.evict(1, 2), 2u);
  EXPECT_EQ(cache.peek(chain("abcdxyz")), 7u);
  EXPECT_EQ(cache.peek(chain("abcd")), 0u);
}

TEST_F(WindowedCacheTest, FillsInWhatItLetGo) {
  compute("abcdef");
  EXPECT_EQ(cache.evict(1, 4), 4u);
  EXPECT_EQ(cache.peek(chain("abx")), 0u);
  compute("abx");  // computes a and b again
  EXPECT_EQ(global.used(), 7u);
  EXPECT_EQ(windowed.used(), 5u);
  EXPECT_EQ(cache.peek(chain("aby")), 2u);
  EXPECT_EQ(cache.peek(chain("abcdef")), 6u);
}

TEST_F(WindowedCacheTest, WhatWasFilledInBeforeAForkIsSpare) {
  compute("abcdef");
  EXPECT_EQ(cache.evict(1, 4), 4u);
  compute("abcx");
  EXPECT_EQ(cache.evict(1, 1), 1u);  // a
  EXPECT_EQ(cache.stats().evictions, 0u);
  EXPECT_EQ(cache.peek(chain("abcy")), 3u);
}

// A running sequence must not lock up what slid out of its window.
TEST_F(WindowedCacheTest, SparePagesOfLeasedNodesCanBeEvicted) {
  compute("abcdef");
  PrefixCache::Lease runner;
  cache.match(runner, chain("abcdef"));
  EXPECT_EQ(cache.evictable(0), 0u);
  EXPECT_EQ(cache.evictable(1), 4u);
  EXPECT_EQ(cache.evict(1, 10), 4u);
  EXPECT_EQ(cache.evictable(1), 0u);
  EXPECT_EQ(cache.peek(chain("abcdef")), 6u);
}

TEST_F(WindowedCacheTest, ReturnsEveryPage) {
  compute("abcdef");
  compute("abxyz");
  cache.evict(1, 3);
  cache.evict(0, 2);
  cache.clear();
  EXPECT_EQ(global.used(), 0u);
  EXPECT_EQ(windowed.used(), 0u);
  EXPECT_EQ(cache.pages(0), 0u);
  EXPECT_EQ(cache.pages(1), 0u);
  EXPECT_EQ(cache.nodes(), 0u);
}

}  // namespace
}  // namespace pm

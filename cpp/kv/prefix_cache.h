// Prefixes that were computed once and can be continued by anyone: a tree of full pages keyed by
// chained digests (kv/digest.h). A node holds one page of every layer group. Pages may be added
// while the sequence that computes them still runs.
//
// Who uses a path holds a lease on it: leased nodes stay. Of the others, the leaf whose last lease
// ended longest ago goes first.
//
// A windowed group needs only the pages of one window before the place where a sequence goes on.
// Under pressure it first lets go of those that no leaf and no fork needs: a chain can then be
// continued at its end and where it branches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "kv/digest.h"
#include "kv/page_pool.h"
#include "kv/sequence_memory.h"

namespace pm {

struct PrefixCacheStats {
  uint64_t lookup_tokens = 0;  // of the full pages of new sequences
  uint64_t hit_tokens = 0;     // of those, not to be computed
  uint64_t evictions = 0;      // nodes
};

class PrefixCache {
  struct Node;

 public:
  struct Group {
    PagePool* pool;
    std::optional<Pos> window;  // as in PageTables
  };

  // A place in the tree, which stays as long as the lease. Starts at the root (no page). The cache
  // outlives it.
  class Lease {
   public:
    Lease() = default;
    Lease(Lease&& other) noexcept;
    Lease& operator=(Lease&& other) noexcept;
    ~Lease() { reset(); }
    void reset();
    // A second lease on the same place: for a fork of the sequence.
    Lease share() const;
    // Goes back to at most `depth` pages: for a sequence that was truncated.
    void retreat(size_t depth);
    // Pages from the start of the sequence to here.
    size_t depth() const;

   private:
    friend class PrefixCache;
    PrefixCache* cache_ = nullptr;
    Node* node_ = nullptr;
  };

  // Pages of one group: page first, first + 1, … of the sequence, as PageTables::adopt() wants
  // them. To be adopted before the cache is asked to evict.
  struct Run {
    size_t first = 0;
    std::vector<PageId> pages;
  };

  // Told what goes before its pages are released (kNoPage: the group has let go of it).
  using EvictionListener = std::function<void(const Digest&, std::span<const PageId>)>;

  explicit PrefixCache(std::vector<Group> groups);
  ~PrefixCache();
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  void set_eviction_listener(EvictionListener listener) { listener_ = std::move(listener); }

  // Follows `chain` (digests of the sequence's pages, from its start) beyond lease.depth() as far
  // as it can be continued from, moves the lease there, and returns per group the pages that a
  // sequence with lease.depth() pages now needs in addition. No progress: every run is empty.
  std::vector<Run> match(Lease& lease, std::span<const Digest> chain);
  // The same without moving anything: how many pages of `chain` are there.
  size_t peek(std::span<const Digest> chain) const;

  // The page after the lease's is computed and written: the cache retains `pages` (one a group;
  // kNoPage: slid out already) and the lease moves on. `last` is the highest position in the page.
  // If the page is known already, what it lacks is filled in, and the rest of `pages` is not
  // retained. False if the digest names a page with another parent (never, unless digests collide).
  bool insert(Lease& lease, const Digest& digest, std::span<const PageId> pages, Pos last);

  // Makes the pool of `group` gain `pages` free pages by letting go of what was used least
  // recently. Returns how many it gained: fewer if leases or sequences hold the rest.
  size_t evict(size_t group, size_t pages);
  // Pages that evict() could gain: without a lease or spare, and held by nobody else.
  size_t evictable(size_t group) const;
  // Lets go of everything that is not leased.
  void clear();

  size_t nodes() const { return nodes_.size(); }
  // Pages of a group that the cache holds.
  size_t pages(size_t group) const { return held_[group]; }
  const PrefixCacheStats& stats() const { return stats_; }

 private:
  struct Node {
    Digest digest;
    Node* parent = nullptr;  // null: at the root
    std::vector<Node*> children;
    std::vector<PageId> pages;
    size_t depth = 1;  // pages from the start to here, this one included
    Pos last = 0;
    uint32_t leases = 0;  // on this node or below it
    std::list<Node*>::iterator recency;
  };

  std::vector<Node*> follow(const Node* from, std::span<const Digest> chain) const;
  size_t resumable(std::span<Node* const> path, std::vector<size_t>& starts) const;
  bool needs(size_t group, const Node& end, const Node& node) const;
  void release_lease(Node* node, const Node* until);

  Node* add_node(Node* parent, const Digest& digest, Pos last);
  void remove(Node& node);
  bool let_go(Node& node, size_t group);
  size_t evict_spare(size_t group, size_t pages);
  bool is_spare(const Node& node, size_t group) const;
  void note_spare(Node* end, const Node* next);

  std::vector<Group> groups_;
  std::unordered_map<Digest, std::unique_ptr<Node>, DigestHash> nodes_;
  std::list<Node*> recency_;  // least recently used first; unleased children before their parents
  // Per windowed group: nodes that may be spare (see is_spare()), in the order they became so.
  std::vector<std::deque<Digest>> spare_;
  std::vector<size_t> held_;
  EvictionListener listener_;
  PrefixCacheStats stats_;
};

}  // namespace pm

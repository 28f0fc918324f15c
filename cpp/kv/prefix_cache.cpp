#include "kv/prefix_cache.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace pm {

PrefixCache::Lease::Lease(Lease&& other) noexcept
    : cache_(std::exchange(other.cache_, nullptr)), node_(std::exchange(other.node_, nullptr)) {}

PrefixCache::Lease& PrefixCache::Lease::operator=(Lease&& other) noexcept {
  if (this != &other) {
    reset();
    cache_ = std::exchange(other.cache_, nullptr);
    node_ = std::exchange(other.node_, nullptr);
  }
  return *this;
}

void PrefixCache::Lease::reset() {
  if (node_) cache_->release_lease(node_, nullptr);
  cache_ = nullptr;
  node_ = nullptr;
}

PrefixCache::Lease PrefixCache::Lease::share() const {
  Lease copy;
  copy.cache_ = cache_;
  copy.node_ = node_;
  for (Node* node = node_; node; node = node->parent) ++node->leases;
  return copy;
}

void PrefixCache::Lease::retreat(size_t depth) {
  Node* target = node_;
  while (target && target->depth > depth) target = target->parent;
  if (target != node_) cache_->release_lease(node_, target);
  node_ = target;
}

size_t PrefixCache::Lease::depth() const { return node_ ? node_->depth : 0; }

PrefixCache::PrefixCache(std::vector<Group> groups)
    : groups_(std::move(groups)), spare_(groups_.size()), held_(groups_.size(), 0) {}

PrefixCache::~PrefixCache() {
  clear();
  assert(nodes_.empty() && "a lease outlives the cache");
}

// Nodes that continue `from` along the chain.
std::vector<PrefixCache::Node*> PrefixCache::follow(const Node* from,
                                                    std::span<const Digest> chain) const {
  std::vector<Node*> path;
  for (size_t depth = from ? from->depth : 0; depth < chain.size(); ++depth) {
    const auto found = nodes_.find(chain[depth]);
    if (found == nodes_.end() || found->second->parent != from) break;
    path.push_back(found->second.get());
    from = path.back();
  }
  return path;
}

// Does the token after `end` see anything of `node`, which is `end` or lies before it?
bool PrefixCache::needs(size_t group, const Node& end, const Node& node) const {
  const auto& window = groups_[group].window;
  return !window || node.last > end.last + 1 - *window;
}

// How many nodes of the path a sequence can take over and go on; per group, from which on.
size_t PrefixCache::resumable(std::span<Node* const> path, std::vector<size_t>& starts) const {
  size_t best = 0;
  std::vector<size_t> first(groups_.size(), 0);     // needed at the current length
  std::vector<size_t> complete(groups_.size(), 0);  // from here on no page is missing
  for (size_t length = 1; length <= path.size(); ++length) {
    const Node& end = *path[length - 1];
    bool whole = true;
    for (size_t group = 0; group < groups_.size(); ++group) {
      if (end.pages[group] == kNoPage) complete[group] = length;
      while (first[group] < length && !needs(group, end, *path[first[group]])) ++first[group];
      whole &= complete[group] <= first[group];
    }
    if (!whole) continue;
    best = length;
    starts = first;
  }
  return best;
}

std::vector<PrefixCache::Run> PrefixCache::match(Lease& lease, std::span<const Digest> chain) {
  const size_t depth = lease.depth();
  const std::vector<Node*> path = follow(lease.node_, chain);
  std::vector<size_t> starts(groups_.size(), 0);
  const size_t length = resumable(path, starts);
  // A sequence that catches up with another one looks for the same tokens again.
  if (depth == 0) stats_.lookup_tokens += chain.size() * kPageTokens;
  stats_.hit_tokens += length * kPageTokens;

  std::vector<Run> runs(groups_.size());
  for (size_t group = 0; group < groups_.size(); ++group) {
    runs[group].first = depth + starts[group];
    for (size_t i = starts[group]; i < length; ++i) {
      runs[group].pages.push_back(path[i]->pages[group]);
    }
  }
  if (length > 0) {
    for (size_t i = 0; i < length; ++i) ++path[i]->leases;
    lease.cache_ = this;
    lease.node_ = path[length - 1];
  }
  return runs;
}

size_t PrefixCache::peek(std::span<const Digest> chain) const {
  std::vector<size_t> starts;
  return resumable(follow(nullptr, chain), starts);
}

// `until`, an ancestor, and what is above it stay leased.
void PrefixCache::release_lease(Node* node, const Node* until) {
  // From the end to the root, so that children stay before their parents.
  for (bool held = true; node; node = node->parent) {
    held = held && node != until;
    if (held) --node->leases;
    recency_.splice(recency_.end(), recency_, node->recency);
  }
}

PrefixCache::Node* PrefixCache::add_node(Node* parent, const Digest& digest, Pos last) {
  auto& node = nodes_[digest];
  node = std::make_unique<Node>();
  node->digest = digest;
  node->parent = parent;
  node->pages.assign(groups_.size(), kNoPage);
  node->depth = parent ? parent->depth + 1 : 1;
  node->last = last;
  // Leased at once: it gets its place before its parents when the lease ends.
  node->recency = recency_.insert(recency_.end(), node.get());
  if (parent) {
    parent->children.push_back(node.get());
    if (parent->children.size() == 1) note_spare(parent, node.get());
  }
  return node.get();
}

bool PrefixCache::insert(Lease& lease, const Digest& digest, std::span<const PageId> pages,
                         Pos last) {
  const auto found = nodes_.find(digest);
  const bool known = found != nodes_.end();
  Node* node = known ? found->second.get() : add_node(lease.node_, digest, last);
  if (node->parent != lease.node_) return false;
  for (size_t group = 0; group < groups_.size(); ++group) {
    if (node->pages[group] != kNoPage || pages[group] == kNoPage) continue;
    node->pages[group] = pages[group];
    groups_[group].pool->retain(pages[group]);
    ++held_[group];
    // The page was let go of once: nothing below needs it unless the tree branches here.
    if (known && groups_[group].window) spare_[group].push_back(digest);
  }
  ++node->leases;
  lease.cache_ = this;
  lease.node_ = node;
  return true;
}

// True: the pool gained a page.
bool PrefixCache::let_go(Node& node, size_t group) {
  const PageId page = std::exchange(node.pages[group], kNoPage);
  if (page == kNoPage) return false;
  --held_[group];
  PagePool& pool = *groups_[group].pool;
  pool.release(page);
  return pool.references(page) == 0;
}

void PrefixCache::remove(Node& node) {
  assert(node.children.empty() && node.leases == 0);
  for (size_t group = 0; group < groups_.size(); ++group) let_go(node, group);
  recency_.erase(node.recency);
  Node* parent = node.parent;
  if (parent) {
    std::erase(parent->children, &node);
    // No fork any more.
    if (parent->children.size() == 1) note_spare(parent, nullptr);
  }
  nodes_.erase(Digest(node.digest));
}

// `end` is no longer a place to go on from. Its window may have become spare, but for what `next`
// (if any) needs as well.
void PrefixCache::note_spare(Node* end, const Node* next) {
  for (size_t group = 0; group < groups_.size(); ++group) {
    if (!groups_[group].window) continue;
    std::vector<Digest> noted;
    for (const Node* node = end; node && needs(group, *end, *node); node = node->parent) {
      const bool kept = next && needs(group, *next, *node);
      if (!kept && node->pages[group] != kNoPage) noted.push_back(node->digest);
    }
    // The start of the sequence first.
    spare_[group].insert(spare_[group].end(), noted.rbegin(), noted.rend());
  }
}

// Holds a page that is needed neither at a leaf nor at a fork.
bool PrefixCache::is_spare(const Node& node, size_t group) const {
  if (node.pages[group] == kNoPage) return false;
  const Node* end = &node;
  while (end->children.size() == 1 && needs(group, *end, node)) end = end->children.front();
  return !needs(group, *end, node);
}

size_t PrefixCache::evict_spare(size_t group, size_t pages) {
  size_t gained = 0;
  auto& spare = spare_[group];
  while (gained < pages && !spare.empty()) {
    const auto found = nodes_.find(spare.front());
    spare.pop_front();
    // Whether or not it is spare now: when it becomes so again, it will be noted again.
    if (found == nodes_.end() || !is_spare(*found->second, group)) continue;
    gained += let_go(*found->second, group);
  }
  return gained;
}

size_t PrefixCache::evict(size_t group, size_t pages) {
  size_t gained = evict_spare(group, pages);
  for (auto next = recency_.begin(); gained < pages && next != recency_.end();) {
    Node& node = **next++;
    if (node.leases > 0) continue;
    if (listener_) listener_(node.digest, node.pages);
    gained += let_go(node, group);
    remove(node);
    ++stats_.evictions;
  }
  return gained;
}

size_t PrefixCache::evictable(size_t group) const {
  size_t pages = 0;
  for (const auto& [digest, node] : nodes_) {
    const PageId page = node->pages[group];
    if (page == kNoPage || groups_[group].pool->references(page) > 1) continue;
    // A long sequence leaves pages behind that slid out of its window: leased, and yet spare.
    if (node->leases == 0 || (groups_[group].window && is_spare(*node, group))) ++pages;
  }
  return pages;
}

void PrefixCache::clear() {
  for (auto next = recency_.begin(); next != recency_.end();) {
    Node& node = **next++;
    if (node.leases == 0) remove(node);
  }
}

}  // namespace pm

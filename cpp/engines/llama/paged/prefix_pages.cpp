#include "engines/llama/paged/prefix_pages.h"

#include <algorithm>

namespace pm::llama {

uint32_t PrefixPages::groups_of(std::span<const PageId> pages) {
  uint32_t groups = 0;
  for (size_t g = 0; g < pages.size(); ++g) {
    if (pages[g] != kNoPage) groups |= 1u << g;
  }
  return groups;
}

size_t PrefixPages::bytes_of(std::span<const PageId> pages) const {
  return layout_.payload_bytes(groups_of(pages));
}

std::vector<KvRecord> PrefixPages::capture(std::span<const Digest> chain) {
  PrefixCache::Lease lease;
  const auto runs = prefixes_.match(lease, chain);
  std::vector<KvRecord> records;
  std::vector<PageId> pages(runs.size());
  for (size_t depth = 0; depth < lease.depth(); ++depth) {
    for (size_t g = 0; g < runs.size(); ++g) {
      // What slid out of a window is not needed to go on.
      pages[g] = depth < runs[g].first ? kNoPage : runs[g].pages[depth - runs[g].first];
    }
    records.push_back(capture_one(chain[depth], pages));
  }
  return records;
}

size_t PrefixPages::restore(std::span<const KvRecord> pages) {
  PrefixCache::Lease lease;
  for (const KvRecord& record : pages) {
    if (!restore_one(lease, record)) break;
  }
  return lease.depth();
}

bool PrefixPages::restore_one(PrefixCache::Lease& lease, const KvRecord& record) {
  if (record.live != kAllSlots) return false;  // prefixes are whole pages
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (!(record.groups >> g & 1)) continue;
    if (unpromised_(g) == 0) prefixes_.evict(g, 1);
    if (unpromised_(g) == 0 || !groups_[g].pool->commit(1)) return false;
  }
  const auto pages = place_record(record, groups_, memory_);
  if (!pages) return false;
  Pos last = 0;
  for (size_t g = 0; g < groups_.size(); ++g) {
    if ((*pages)[g] == kNoPage) continue;
    for (const TokenPlace& place : groups_[g].tables->places((*pages)[g])) {
      last = std::max(last, place.pos);
    }
  }
  const bool inserted = prefixes_.insert(lease, record.digest, *pages, last);
  // The cache holds them now; what it did not want goes.
  for (size_t g = 0; g < groups_.size(); ++g) {
    if ((*pages)[g] != kNoPage) groups_[g].pool->release((*pages)[g]);
  }
  return inserted;
}

}  // namespace pm::llama

#include "engines/llama/paged/spill.h"

#include <algorithm>

namespace pm::llama {

Result<std::unique_ptr<PrefixSpill>> PrefixSpill::open(const SpillOptions& options,
                                                       RecordLayout layout, PrefixCache& prefixes,
                                                       std::vector<pm::LayerGroup> groups,
                                                       PageBytes& memory) {
  auto file = SpillFile::open(options, std::move(layout));
  if (!file) return file.error();
  return std::unique_ptr<PrefixSpill>(
      new PrefixSpill(std::move(file).value(), prefixes, std::move(groups), memory));
}

PrefixSpill::PrefixSpill(std::unique_ptr<SpillFile> file, PrefixCache& prefixes,
                         std::vector<pm::LayerGroup> groups, PageBytes& memory)
    : file_(std::move(file)), prefixes_(prefixes), groups_(std::move(groups)), memory_(memory) {
  prefixes_.set_eviction_listener(
      [this](const Digest& digest, std::span<const PageId> pages) { store(digest, pages); });
}

PrefixSpill::~PrefixSpill() { prefixes_.set_eviction_listener(nullptr); }

void PrefixSpill::store(const Digest& digest, std::span<const PageId> pages) {
  uint32_t there = 0;
  size_t bytes = 0;
  for (size_t g = 0; g < pages.size(); ++g) {
    if (pages[g] == kNoPage) continue;
    there |= 1u << g;
    bytes += memory_.page_bytes(g);
  }
  const bool known = (there & ~file_->find(digest)) == 0;
  if (known || !file_->accepts(bytes)) return;
  file_->store(capture_page(digest, kAllSlots, pages, groups_, memory_));
}

bool PrefixSpill::fetch(std::span<const Digest> chain) {
  take_answers();
  const size_t known = prefixes_.peek(chain);
  if (known == chain.size() || file_->find(chain[known]) == 0) return false;
  // Somebody else's prefix is being read: this one is next.
  return fetch_.has_value() || start(chain, known);
}

bool PrefixSpill::start(std::span<const Digest> chain, size_t known) {
  Fetch fetch;
  prefixes_.match(fetch.lease, chain.first(known));
  if (fetch.lease.depth() != known) return false;  // cannot be continued from there
  fetch.chain.assign(chain.begin(), chain.end());
  fetch.wanted = known;
  while (fetch.wanted < chain.size() && file_->find(chain[fetch.wanted]) != 0 &&
         file_->fetch(chain[fetch.wanted])) {
    ++fetch.wanted;
  }
  if (fetch.wanted == known) return false;  // the disk is busy: computing is quicker than waiting
  fetch_ = std::move(fetch);
  return true;
}

void PrefixSpill::take_answers() {
  for (const SpillFile::Fetched& answer : file_->poll()) {
    if (!fetch_) continue;  // given up before
    const size_t depth = fetch_->lease.depth();
    const bool expected = depth < fetch_->wanted && fetch_->chain[depth] == answer.digest;
    if (!expected || !answer.record || !restore(*answer.record)) {
      fetch_.reset();
    } else if (fetch_->lease.depth() == fetch_->wanted) {
      fetch_.reset();
    }
  }
}

bool PrefixSpill::restore(const KvRecord& record) {
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (!(record.groups >> g & 1)) continue;
    PagePool& pool = *groups_[g].pool;
    if (pool.free() == 0) prefixes_.evict(g, 1);
    if (!pool.commit(1)) return false;
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
  const bool inserted = prefixes_.insert(fetch_->lease, record.digest, *pages, last);
  // The cache holds them now; what it did not want goes.
  for (size_t g = 0; g < groups_.size(); ++g) {
    if ((*pages)[g] != kNoPage) groups_[g].pool->release((*pages)[g]);
  }
  return inserted;
}

}  // namespace pm::llama

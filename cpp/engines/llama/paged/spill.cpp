#include "engines/llama/paged/spill.h"

#include <new>

namespace pm::llama {

Result<std::unique_ptr<PrefixSpill>> PrefixSpill::open(const SpillOptions& options,
                                                       PrefixPages& pages) {
  auto file = SpillFile::open(options, pages.layout());
  if (!file) return file.error();
  return std::unique_ptr<PrefixSpill>(new PrefixSpill(std::move(file).value(), pages));
}

PrefixSpill::PrefixSpill(std::unique_ptr<SpillFile> file, PrefixPages& pages)
    : file_(std::move(file)), pages_(pages) {
  pages_.prefixes().set_eviction_listener(
      [this](const Digest& digest, std::span<const PageId> gone) { store(digest, gone); });
}

PrefixSpill::~PrefixSpill() { pages_.prefixes().set_eviction_listener(nullptr); }

void PrefixSpill::store(const Digest& digest, std::span<const PageId> pages) {
  const bool known = (PrefixPages::groups_of(pages) & ~file_->find(digest)) == 0;
  if (known || !file_->accepts(pages_.bytes_of(pages))) return;
  try {
    if (file_->store(pages_.capture_one(digest, pages))) in_vain_.clear();
  } catch (const std::bad_alloc&) {
    // Evicting happens when memory is short: the page is then simply gone.
  }
}

bool PrefixSpill::fetch(std::span<const Digest> chain) {
  take_answers();
  const size_t known = pages_.prefixes().peek(chain);
  if (known == chain.size() || file_->find(chain[known]) == 0) return false;
  if (in_vain_.contains(chain[known])) return false;
  // Somebody else's prefix is being read: this one is next.
  return fetch_.has_value() || start(chain, known);
}

bool PrefixSpill::start(std::span<const Digest> chain, size_t known) {
  Fetch fetch;
  pages_.prefixes().match(fetch.lease, chain.first(known));
  if (fetch.lease.depth() != known) return false;  // cannot be continued from there
  fetch.chain.assign(chain.begin(), chain.end());
  fetch.known = fetch.wanted = known;
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
    const bool back =
        expected && answer.record && pages_.restore_one(fetch_->lease, *answer.record);
    if (!back || fetch_->lease.depth() == fetch_->wanted) finish_fetch();
  }
}

void PrefixSpill::finish_fetch() {
  const Fetch fetch = std::move(*fetch_);
  fetch_.reset();
  if (pages_.prefixes().peek(fetch.chain) > fetch.known) return;
  in_vain_.insert(fetch.chain[fetch.known]);
}

}  // namespace pm::llama

#include "kv/page_pool.h"

#include <algorithm>
#include <bit>
#include <cassert>

namespace pm {

PagePool::PagePool(size_t capacity, SlabSource* slabs, uint32_t slab_shift)
    : slabs_(slabs),
      slab_shift_(slab_shift),
      references_(capacity, 0),
      free_((capacity + 63) / 64, ~uint64_t{0}) {
  if (capacity % 64 != 0) free_.back() = (uint64_t{1} << (capacity % 64)) - 1;
}

PagePool::~PagePool() {
  if (!slabs_) return;
  while (slab_count_ > 0) slabs_->release(--slab_count_);
}

size_t PagePool::committed() const { return std::min(slab_count_ << slab_shift_, capacity()); }

std::optional<PageId> PagePool::take() {
  while (first_word_ < free_.size() && free_[first_word_] == 0) ++first_word_;
  if (first_word_ == free_.size()) return std::nullopt;
  const int bit = std::countr_zero(free_[first_word_]);
  const size_t page = first_word_ * 64 + static_cast<size_t>(bit);
  if (page >= committed()) return std::nullopt;
  free_[first_word_] &= free_[first_word_] - 1;
  references_[page] = 1;
  ++used_;
  return static_cast<PageId>(page);
}

void PagePool::retain(PageId page) {
  assert(references_[page] > 0);
  if (++references_[page] == 2) ++shared_;
}

void PagePool::release(PageId page) {
  assert(references_[page] > 0);
  const uint32_t left = --references_[page];
  if (left == 1) --shared_;
  if (left > 0) return;
  --used_;
  const size_t word = page / 64;
  free_[word] |= uint64_t{1} << (page % 64);
  first_word_ = std::min(first_word_, word);
}

bool PagePool::commit(size_t pages) {
  if (pages > free()) return false;
  while (ready() < pages) {
    if (slabs_ && !slabs_->allocate(slab_count_)) return false;
    ++slab_count_;
  }
  return true;
}

bool PagePool::slab_is_free(size_t slab) const {
  const size_t end = std::min((slab + 1) << slab_shift_, capacity());
  for (size_t page = slab << slab_shift_; page < end; ++page) {
    if (references_[page] > 0) return false;
  }
  return true;
}

void PagePool::trim(size_t spare) {
  while (slab_count_ > 0 && slab_is_free(slab_count_ - 1)) {
    const size_t left = std::min((slab_count_ - 1) << slab_shift_, capacity());
    if (left < used_ + spare) return;
    --slab_count_;
    if (slabs_) slabs_->release(slab_count_);
  }
}

}  // namespace pm

// Counts references to the pages of one layer group (layers with the same attention span) and
// decides which of them are backed by memory. Holds no bytes itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "kv/page_format.h"

namespace pm {

// Not a page. Stands for what a sliding-window group has let go.
inline constexpr PageId kNoPage = UINT32_MAX;

// The memory behind a pool, taken in slabs of 2^slab_shift pages.
class SlabSource {
 public:
  virtual ~SlabSource() = default;
  // Makes the pages of slab `index` usable. False: no memory, and nothing changed.
  virtual bool allocate(size_t index) = 0;
  // The slab holds no page that is in use.
  virtual void release(size_t index) = 0;
};

// Deterministic: the same calls give the same ids. Not thread-safe; one thread owns it.
class PagePool {
 public:
  // `slabs` outlives the pool; null: every slab is there without being asked for. The last slab may
  // hold more pages than `capacity` needs.
  PagePool(size_t capacity, SlabSource* slabs, uint32_t slab_shift);
  // Gives every slab back.
  ~PagePool();
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;

  // The lowest free page with one reference, so that memory follows use. Nothing if no page of a
  // committed slab is free: taking never allocates.
  std::optional<PageId> take();
  void retain(PageId page);
  void release(PageId page);
  // 0: the page is free.
  uint32_t references(PageId page) const { return references_[page]; }

  // Makes sure that `pages` can be taken without allocating. Called before a step, off the decode
  // path. False if the pool is too full or memory is short; slabs got so far stay.
  bool commit(size_t pages);
  // Gives wholly free slabs at the end back, as long as `spare` committed pages stay free.
  void trim(size_t spare = 0);

  size_t capacity() const { return references_.size(); }
  size_t used() const { return used_; }
  // May be taken, once committed.
  size_t free() const { return capacity() - used_; }
  // May be taken now.
  size_t ready() const { return committed() - used_; }
  // Pages with more than one holder.
  size_t shared() const { return shared_; }
  // Pages backed by memory.
  size_t committed() const;
  uint32_t slab_shift() const { return slab_shift_; }

 private:
  bool slab_is_free(size_t slab) const;

  SlabSource* slabs_;
  uint32_t slab_shift_;
  size_t slab_count_ = 0;  // committed: slabs 0 … slab_count_-1
  size_t used_ = 0;
  size_t shared_ = 0;
  std::vector<uint32_t> references_;
  std::vector<uint64_t> free_;  // bit set = page free, committed or not
  size_t first_word_ = 0;       // no free page lies in a word before
};

}  // namespace pm

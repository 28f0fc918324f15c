#include "engines/llama/paged/slab_store.h"

#include <cstring>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace pm::llama {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

}  // namespace

void SlabStore::FreeBytes::operator()(uint8_t* bytes) const {
  ::operator delete(bytes, std::align_val_t{kHugePage});
}

SlabStore::Slab SlabStore::make_slab(size_t bytes) {
  auto* base =
      static_cast<uint8_t*>(::operator new(bytes, std::align_val_t{kHugePage}, std::nothrow));
  if (base == nullptr) return nullptr;
#if defined(MADV_HUGEPAGE)
  // Fewer address translations while a head's pages stream by. Small slabs stay exact.
  if (bytes >= kHugePage) madvise(base, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  std::memset(base, 0, bytes);
  return Slab(base);
}

SlabStore::SlabStore(size_t slab_bytes, size_t max_slabs)
    : slab_bytes_(slab_bytes), slabs_(max_slabs), bases_(max_slabs, nullptr) {}

SlabStore::~SlabStore() { worker_.stop(); }

bool SlabStore::allocate(size_t index) {
  Slab slab;
  {
    std::lock_guard lock(mutex_);
    slab = std::move(spare_);
  }
  if (!slab) slab = make_slab(slab_bytes_);
  if (!slab) return false;
  bases_[index] = slab.get();
  slabs_[index] = std::move(slab);
  if (index + 1 < slabs_.size()) prepare_spare();
  return true;
}

void SlabStore::release(size_t index) {
  bases_[index] = nullptr;
  slabs_[index].reset();
}

void SlabStore::prepare_spare() {
  {
    std::lock_guard lock(mutex_);
    if (spare_ || preparing_) return;
    preparing_ = true;
  }
  worker_.post([this] {
    Slab slab = make_slab(slab_bytes_);
    std::lock_guard lock(mutex_);
    spare_ = std::move(slab);
    preparing_ = false;
  });
}

}  // namespace pm::llama

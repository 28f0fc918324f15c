// The bytes behind one page pool: slabs of pages, allocated one ahead of use so that no decode step
// waits for the operating system to hand out and clear memory.
#pragma once

#include <cstdlib>
#include <memory>
#include <mutex>
#include <vector>

#include "core/worker.h"
#include "kv/page_pool.h"

namespace pm::llama {

class SlabStore final : public SlabSource {
 public:
  SlabStore(size_t slab_bytes, size_t max_slabs);
  ~SlabStore() override;

  bool allocate(size_t index) override;
  void release(size_t index) override;

  // Slab index → base; stays where it is. Null: not allocated.
  uint8_t* const* table() const { return bases_.data(); }
  size_t slab_bytes() const { return slab_bytes_; }

 private:
  struct FreeBytes {
    void operator()(uint8_t* bytes) const;
  };
  using Slab = std::unique_ptr<uint8_t, FreeBytes>;

  // Cleared: attention multiplies masked slots by zero, which only hides finite numbers.
  static Slab make_slab(size_t bytes);
  void prepare_spare();

  const size_t slab_bytes_;
  std::vector<Slab> slabs_;
  std::vector<uint8_t*> bases_;
  std::mutex mutex_;
  Slab spare_;
  bool preparing_ = false;
  Worker worker_{"mm-kv-slabs"};
};

}  // namespace pm::llama

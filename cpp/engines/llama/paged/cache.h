// The paged KV cache of one context: for every layer group a pool of pages, the tables of the
// sequences and the bytes; over all groups the prefix cache and the promises to sequences.
//
// One thread, the engine's, owns it. llama.cpp reaches it through memory.h while it decodes, the
// scheduler through SequenceMemory between two steps.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engines/llama/paged/slab_store.h"
#include "engines/llama/paged/spill.h"
#include "engines/llama/paged/support.h"
#include "kv/kv_stats.h"
#include "kv/page_tables.h"
#include "kv/prefix_cache.h"
#include "kv/sequence_memory.h"

namespace pm::llama {

struct PagedConfig {
  KvType k_type = KvType::kInt8;
  KvType v_type = KvType::kInt8;
  size_t budget_bytes = 0;
  size_t sequences = 1;
  size_t context_tokens = 0;  // one sequence may hold
  size_t step_tokens = 512;   // one step may append
  bool prefix_cache = true;
  std::optional<SpillOptions> spill;  // prefixes that leave memory go there
  // Names the weights and settings that keys and values depend on.
  Digest model;
};

class PagedCache final : public SequenceMemory, private PageBytes {
 public:
  // kInvalidRequest if the budget is smaller than what one sequence needs to take a step.
  static Result<std::shared_ptr<PagedCache>> create(PagedShape shape, const PagedConfig& config);

  struct Group {
    Group(const LayerGroup& layers, size_t page_bytes, size_t capacity, uint32_t slab_shift,
          size_t sequences);
    size_t page_bytes;  // all layers and KV heads
    SlabStore slabs;
    PagePool pool;
    PageTables tables;
  };

  // ---- what llama.cpp's memory interface needs ----
  const PagedShape& shape() const { return shape_; }
  const PageFormat& format() const { return format_; }
  size_t group_count() const { return groups_.size(); }
  Group& group(size_t index) { return *groups_[index]; }
  const Group& group(size_t index) const { return *groups_[index]; }
  // Pages of one layer and KV head.
  HeadPages head_pages(int32_t layer, int32_t kv_head) const;

  // Backs what the tokens of a step need with memory. False: no room.
  bool prepare(std::span<const TokenGroup> tokens);
  void begin_step();
  // Takes a slot for a token in every group; `slots`: [groups]. False: no page was ready.
  bool append(std::span<const SeqId> owners, const TokenPlace& place, std::span<SlotId> slots);

  void remove(SeqId seq, Pos from, Pos to);
  void fork(SeqId from_seq, SeqId to_seq, Pos from, Pos to);
  void keep_only(SeqId seq);
  void clear();

  // ---- SequenceMemory ----
  size_t capacity() const override { return capacity_tokens_; }
  size_t reserved() const override;
  bool grows() const override { return true; }
  bool reserve(SeqId seq, size_t tokens) override;
  void truncate(SeqId seq, Pos from) override;
  void release(SeqId seq) override;
  bool caches_prefixes() const override { return prefixes_ != nullptr; }
  Digest chain_root() const override { return root_; }
  size_t find_prefix(std::span<const Digest> chain) const override;
  bool fetch_prefix(std::span<const Digest> chain) override {
    return spill_ && spill_->fetch(chain);
  }
  void set_wake(std::function<void()> wake) override {
    if (spill_) spill_->set_wake(std::move(wake));
  }
  size_t adopt_prefix(SeqId seq, std::span<const Digest> chain) override;
  void publish_prefix(SeqId seq, std::span<const Digest> chain) override;
  PrefixStore* prefix_store() override { return prefix_pages_.get(); }
  void on_idle() override;
  MemoryStats stats() const override;
  std::vector<PoolPicture> pictures() const override;

 private:
  PagedCache(PagedShape shape, const PagedConfig& config);
  Status init(const PagedConfig& config);
  Status init_prefixes(const PagedConfig& config);
  template <typename Each>
  void for_each_head(size_t group, Each each) const;

  // ---- PageBytes ----
  size_t page_bytes(size_t group) const override { return groups_[group]->page_bytes; }
  void read(size_t group, PageId page, std::span<uint8_t> to) const override;
  void write(size_t group, PageId page, std::span<const uint8_t> from) override;
  size_t pages_for(size_t group, size_t tokens) const;
  size_t promised_beyond_held(size_t group) const;
  // The layer group that remembers everything, if there is one.
  const Group& longest_group() const;
  void copy_pages(size_t group);

  PagedShape shape_;
  PageFormat format_;
  std::vector<std::unique_ptr<Group>> groups_;
  // Per layer and KV head: bytes from the start of a slab.
  std::vector<std::vector<size_t>> offsets_;
  std::vector<PageCopy> copies_;
  // [sequences][groups]: pages the sequence may hold in all.
  std::vector<std::vector<size_t>> promises_;
  std::unique_ptr<PrefixCache> prefixes_;
  std::unique_ptr<PrefixPages> prefix_pages_;
  std::unique_ptr<PrefixSpill> spill_;
  std::vector<PrefixCache::Lease> leases_;
  Digest root_;
  size_t capacity_tokens_ = 0;
  size_t step_tokens_ = 0;
};

}  // namespace pm::llama

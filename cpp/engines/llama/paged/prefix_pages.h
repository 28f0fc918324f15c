// Pages of the prefix cache as records, and records as pages of the prefix cache.
#pragma once

#include <functional>
#include <vector>

#include "kv/page_bytes.h"
#include "kv/prefix_cache.h"
#include "kv/prefix_store.h"

namespace pm::llama {

class PrefixPages final : public PrefixStore {
 public:
  // All references outlive it. `groups`: pools and tables of the layer groups.
  // `unpromised`: free pages of a group that no sequence was promised.
  PrefixPages(PrefixCache& prefixes, std::vector<pm::LayerGroup> groups, PageBytes& memory,
              RecordLayout layout, std::function<size_t(size_t group)> unpromised)
      : prefixes_(prefixes),
        groups_(std::move(groups)),
        memory_(memory),
        layout_(std::move(layout)),
        unpromised_(std::move(unpromised)) {}

  const RecordLayout& layout() const override { return layout_; }
  std::vector<KvRecord> capture(std::span<const Digest> chain) override;
  size_t restore(std::span<const KvRecord> pages) override;

  PrefixCache& prefixes() { return prefixes_; }
  // Bytes of the pages that are not kNoPage, and which groups those are.
  size_t bytes_of(std::span<const PageId> pages) const;
  static uint32_t groups_of(std::span<const PageId> pages);
  KvRecord capture_one(const Digest& digest, std::span<const PageId> pages) const {
    return capture_page(digest, kAllSlots, pages, groups_, memory_);
  }
  // Adds the page that follows the lease and moves it on. False: no room, and nothing changed.
  bool restore_one(PrefixCache::Lease& lease, const KvRecord& record);

 private:
  PrefixCache& prefixes_;
  std::vector<pm::LayerGroup> groups_;
  PageBytes& memory_;
  RecordLayout layout_;
  std::function<size_t(size_t)> unpromised_;
};

}  // namespace pm::llama

// Prefixes that leave memory go to a file and come back when somebody asks for them. The engine
// thread copies bytes and asks; the disk belongs to another thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <unordered_set>
#include <vector>

#include "engines/llama/paged/prefix_pages.h"
#include "kv/spill_file.h"

namespace pm::llama {

class PrefixSpill {
 public:
  // `pages` outlives it.
  static Result<std::unique_ptr<PrefixSpill>> open(const SpillOptions& options, PrefixPages& pages);
  ~PrefixSpill();

  // Asks for pages of `chain` that continue what the prefix cache holds of it. True: some are on
  // their way, ask again when woken.
  bool fetch(std::span<const Digest> chain);
  // Called on another thread whenever fetch() may have something new.
  void set_wake(std::function<void()> wake) { file_->set_wake(std::move(wake)); }
  SpillStats stats() const { return file_->stats(); }

 private:
  // One prefix at a time is read back, page by page in order.
  struct Fetch {
    std::vector<Digest> chain;
    size_t known = 0;          // pages of it that were in memory before
    size_t wanted = 0;         // and those that were asked for
    PrefixCache::Lease lease;  // at the last page that is back
  };

  PrefixSpill(std::unique_ptr<SpillFile> file, PrefixPages& pages);
  void store(const Digest& digest, std::span<const PageId> pages);
  void take_answers();
  void finish_fetch();
  bool start(std::span<const Digest> chain, size_t known);

  std::unique_ptr<SpillFile> file_;
  PrefixPages& pages_;
  std::optional<Fetch> fetch_;
  // Pages from which reading back led nowhere: the end of a window is missing, or there is no room.
  std::unordered_set<Digest, DigestHash> in_vain_;
};

}  // namespace pm::llama

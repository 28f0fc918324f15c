// Moves known prefixes between the prefix cache and files of the user's choice.
#pragma once

#include <span>
#include <vector>

#include "kv/kv_record.h"

namespace pm {

class PrefixStore {
 public:
  virtual ~PrefixStore() = default;
  virtual const RecordLayout& layout() const = 0;
  // Copies of the leading pages of `chain` that the cache holds and can be continued from.
  virtual std::vector<KvRecord> capture(std::span<const Digest> chain) = 0;
  // Puts a prefix, page after page from its start, into the cache. Returns the pages that are there
  // now: fewer if the pool has no room.
  virtual size_t restore(std::span<const KvRecord> pages) = 0;
};

}  // namespace pm

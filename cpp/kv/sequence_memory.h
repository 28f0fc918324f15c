// The KV cache as the scheduler sees it: token slots from which sequences reserve.
//
// Two kinds implement it. llama.cpp's own memory (engines/llama/stock_memory.h) is a fixed buffer:
// a sequence is promised all it may ever hold before it starts. The paged cache
// (engines/llama/paged/cache.h) grows with its sequences: a promise covers the next step, and when
// none can be given the scheduler makes room by preempting a sequence.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kv/digest.h"

namespace pm {

using SeqId = int32_t;
using Pos = int32_t;

struct MemoryStats;
struct PoolPicture;
class PrefixStore;

class SequenceMemory {
 public:
  virtual ~SequenceMemory() = default;

  // Tokens that fit into the pool, all sequences together.
  virtual size_t capacity() const = 0;
  // Tokens promised to sequences; never more than capacity().
  virtual size_t reserved() const = 0;
  // True: reserve() what the next step needs. False: reserve() the most a sequence may ever need.
  virtual bool grows() const { return false; }

  // Promises `seq` room for `tokens` in all (or what it holds, if that is more). False, and nothing
  // changed, if the pool cannot give that much now.
  virtual bool reserve(SeqId seq, size_t tokens) = 0;

  // Forgets every token of `seq` from position `from` on; the reservation stays.
  virtual void truncate(SeqId seq, Pos from) = 0;

  // Forgets `seq` and gives its reservation back.
  virtual void release(SeqId seq) = 0;

  // ---- prefixes that were computed before; without a prefix cache nothing is ever found ----

  virtual bool caches_prefixes() const { return false; }
  // Where chains of page digests start.
  virtual Digest chain_root() const { return {}; }
  // Leading pages of `chain` that need not be computed.
  virtual size_t find_prefix(std::span<const Digest> /*chain*/) const { return 0; }
  // Asks for pages of `chain` that have left memory for the disk. True: some are on their way; ask
  // again when woken.
  virtual bool fetch_prefix(std::span<const Digest> /*chain*/) { return false; }
  // `wake` is called on another thread when asking again may help.
  virtual void set_wake(std::function<void()> /*wake*/) {}
  // `seq`, which is empty, starts with as many of those pages as it can continue from. Returns
  // their number.
  virtual size_t adopt_prefix(SeqId /*seq*/, std::span<const Digest> /*chain*/) { return 0; }
  // Offers the full pages of `seq` to others; `chain`: its digests so far.
  virtual void publish_prefix(SeqId /*seq*/, std::span<const Digest> /*chain*/) {}

  // No sequence runs: a moment to give memory back.
  virtual void on_idle() {}
  // Saves prefixes to files and brings them back; null without a prefix cache.
  virtual PrefixStore* prefix_store() { return nullptr; }

  virtual MemoryStats stats() const = 0;
  // One for each pool of pages; none without pages.
  virtual std::vector<PoolPicture> pictures() const;
};

// Counts reservations for implementations whose storage is one shared buffer.
class ReservationLedger {
 public:
  explicit ReservationLedger(size_t capacity, size_t sequences);
  size_t capacity() const { return capacity_; }
  size_t reserved() const { return reserved_; }
  bool reserve(SeqId seq, size_t tokens);
  void release(SeqId seq);

 private:
  size_t capacity_;
  size_t reserved_ = 0;
  size_t sequences_;
  static constexpr size_t kMaxSequences = 256;
  size_t per_sequence_[kMaxSequences] = {};
};

}  // namespace pm

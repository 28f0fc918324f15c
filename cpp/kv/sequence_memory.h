// The KV cache as the scheduler sees it: a pool of token slots from which sequences reserve.
// llama.cpp's own memory implements it today (engines/llama/stock_memory.h); the paged cache will.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pm {

using SeqId = int32_t;
using Pos = int32_t;

class SequenceMemory {
 public:
  virtual ~SequenceMemory() = default;

  // Tokens that fit into the pool, all sequences together.
  virtual size_t capacity() const = 0;
  // Tokens promised to sequences; never more than capacity().
  virtual size_t reserved() const = 0;

  // Grows the promise to `seq` to `tokens` in all. False, and nothing changed, if the pool cannot
  // give that much now.
  virtual bool reserve(SeqId seq, size_t tokens) = 0;

  // Forgets every token of `seq` from position `from` on; the reservation stays.
  virtual void truncate(SeqId seq, Pos from) = 0;

  // Forgets `seq` and gives its reservation back.
  virtual void release(SeqId seq) = 0;
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

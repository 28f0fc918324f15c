#include "kv/sequence_memory.h"

#include <algorithm>

#include "kv/memory_stats.h"

namespace pm {

std::vector<PoolPicture> SequenceMemory::pictures() const { return {}; }

ReservationLedger::ReservationLedger(size_t capacity, size_t sequences)
    : capacity_(capacity), sequences_(std::min(sequences, kMaxSequences)) {}

bool ReservationLedger::reserve(SeqId seq, size_t tokens) {
  if (seq < 0 || static_cast<size_t>(seq) >= sequences_) return false;
  size_t& held = per_sequence_[seq];
  if (tokens <= held) return true;
  const size_t extra = tokens - held;
  if (extra > capacity_ - reserved_) return false;
  held = tokens;
  reserved_ += extra;
  return true;
}

void ReservationLedger::release(SeqId seq) {
  if (seq < 0 || static_cast<size_t>(seq) >= sequences_) return;
  reserved_ -= per_sequence_[seq];
  per_sequence_[seq] = 0;
}

}  // namespace pm

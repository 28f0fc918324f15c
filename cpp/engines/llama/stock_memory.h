// llama.cpp's own KV memory: one stream of equal size for each sequence.
#pragma once

#include "kv/memory_stats.h"
#include "kv/sequence_memory.h"
#include "llama.h"

namespace pm::llama {

class StockMemory final : public SequenceMemory {
 public:
  StockMemory(llama_context* context, size_t sequences, size_t tokens_per_sequence,
              size_t bytes_per_token)
      : context_(context),
        tokens_per_sequence_(tokens_per_sequence),
        bytes_per_token_(bytes_per_token),
        ledger_(sequences * tokens_per_sequence, sequences) {}

  size_t capacity() const override { return ledger_.capacity(); }
  size_t reserved() const override { return ledger_.reserved(); }
  bool reserve(SeqId seq, size_t tokens) override {
    return tokens <= tokens_per_sequence_ && ledger_.reserve(seq, tokens);
  }
  MemoryStats stats() const override {
    MemoryStats stats;
    stats.kv.pages_total = ledger_.capacity();
    stats.kv.pages_used = ledger_.reserved();
    stats.kv.pages_free = ledger_.capacity() - ledger_.reserved();
    stats.kv.bytes_committed = ledger_.capacity() * bytes_per_token_;
    stats.kv.bytes_used = stats.kv.bytes_committed;  // one buffer, taken at load
    return stats;
  }
  void truncate(SeqId seq, Pos from) override {
    llama_memory_seq_rm(llama_get_memory(context_), seq, from, -1);
  }
  void release(SeqId seq) override {
    llama_memory_seq_rm(llama_get_memory(context_), seq, -1, -1);
    ledger_.release(seq);
  }

 private:
  llama_context* context_;
  size_t tokens_per_sequence_;
  size_t bytes_per_token_;
  ReservationLedger ledger_;
};

}  // namespace pm::llama

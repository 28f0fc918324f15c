// llama.cpp's own KV memory: one stream of equal size for each sequence.
#pragma once

#include "kv/sequence_memory.h"
#include "llama.h"

namespace pm::llama {

class StockMemory final : public SequenceMemory {
 public:
  StockMemory(llama_context* context, size_t sequences, size_t tokens_per_sequence)
      : context_(context),
        tokens_per_sequence_(tokens_per_sequence),
        ledger_(sequences * tokens_per_sequence, sequences) {}

  size_t capacity() const override { return ledger_.capacity(); }
  size_t reserved() const override { return ledger_.reserved(); }
  bool reserve(SeqId seq, size_t tokens) override {
    return tokens <= tokens_per_sequence_ && ledger_.reserve(seq, tokens);
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
  ReservationLedger ledger_;
};

}  // namespace pm::llama

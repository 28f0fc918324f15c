// Test support: one context of a random model, on llama.cpp's own memory or on the paged cache,
// fed by a scenario. The same scenario feeds the same tokens whatever the memory, so that the
// recorded logits can be compared row by row.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engines/llama/paged/memory.h"
#include "engines/llama/paged/testing_random_models.h"
#include "ggml.h"

namespace pm::llama::testing {

// Which memory computes attention.
struct MemoryKind {
  bool paged = false;
  // Stock memory.
  bool flash_attention = false;
  ggml_type stock_type = GGML_TYPE_F16;
  // Paged cache.
  KvType k_type = KvType::kBf16;
  KvType v_type = KvType::kBf16;
};

inline constexpr MemoryKind kStock{};
inline constexpr MemoryKind kStockFlash{.flash_attention = true};
inline constexpr MemoryKind kPaged{.paged = true};

struct SessionOptions {
  int sequences = 16;
  int context = 1024;  // tokens of all sequences together
  int ubatch = 512;
  int threads = 1;
  size_t budget_bytes = size_t{64} << 20;
};

// Tokens of one llama_decode() call; every one asks for logits.
class Batch {
 public:
  void add(llama_token token, llama_pos pos, std::vector<llama_seq_id> owners);
  // An embedding at (pos, y, x) instead of a token: M-RoPE.
  void add_embedding(std::span<const float> embedding, llama_pos pos, llama_pos y, llama_pos x,
                     llama_seq_id owner);
  size_t size() const { return places_.size(); }
  int decode(llama_context* context);

 private:
  struct Place {
    llama_pos pos, y, x;
  };
  std::vector<llama_token> tokens_;
  std::vector<float> embeddings_;
  std::vector<Place> places_;
  std::vector<std::vector<llama_seq_id>> owners_;
};

class Session {
 public:
  // Ends the test program if llama.cpp refuses: nothing could be compared.
  Session(llama_model* model, const MemoryKind& kind, const SessionOptions& options);
  ~Session();

  llama_context* context() const { return context_.get(); }
  llama_memory_t memory() const { return llama_get_memory(context_.get()); }
  PagedCache& cache() { return *cache_; }

  // Random tokens that continue a sequence; the same in every session.
  void append(Batch& batch, llama_seq_id seq, int count);
  void append_at(Batch& batch, llama_pos first, const std::vector<llama_seq_id>& owners, int count);
  void append_shared(Batch& batch, const std::vector<llama_seq_id>& owners, int count);
  // Random embeddings of a grid of height x width, all at the sequence's next position (M-RoPE).
  void append_image(Batch& batch, llama_seq_id seq, int height, int width);
  // Decodes and records the logits of all its tokens. A failure is a test failure.
  void decode(Batch& batch);
  // append() and decode() in one.
  void feed(llama_seq_id seq, int count);
  // `steps` single tokens for each of the sequences, together.
  void generate(const std::vector<llama_seq_id>& seqs, int steps);

  // False: tokens of one call see each other whatever their order.
  void set_causal(bool causal) { llama_set_causal_attn(context(), causal); }

  // llama_memory_seq_…
  void truncate(llama_seq_id seq, llama_pos from);
  void remove(llama_seq_id seq, llama_pos from, llama_pos to);
  void fork(llama_seq_id from, llama_seq_id to, llama_pos begin = -1, llama_pos end = -1);
  void keep(llama_seq_id seq);
  void clear();

  llama_pos next(llama_seq_id seq) const;
  // [tokens fed][vocabulary]
  const std::vector<float>& logits() const { return logits_; }
  // From here on: random tokens as from the start of another session, no logits so far.
  void restart_recording(uint64_t seed);

 private:
  llama_token random_token();
  float random_unit();

  SessionOptions options_;
  std::shared_ptr<PagedCache> cache_;
  std::shared_ptr<PagedAttention> attention_;
  struct FreeContext {
    void operator()(llama_context* context) const { llama_free(context); }
  };
  std::unique_ptr<llama_context, FreeContext> context_;
  int width_;
  uint64_t random_ = 1;
  std::vector<float> logits_;
};

using Scenario = std::function<void(Session&)>;

// Kullback-Leibler divergence of the next-token distributions, row by row.
struct Divergence {
  double mean = 0;
  double max = 0;
  size_t rows = 0;
};
Divergence divergence(const std::vector<float>& reference, const std::vector<float>& other);
// Logits that `scenario` yields on that memory.
std::vector<float> logits_of(llama_model* model, const MemoryKind& kind,
                             const SessionOptions& options, const Scenario& scenario);

std::string describe(const Divergence& divergence);

}  // namespace pm::llama::testing

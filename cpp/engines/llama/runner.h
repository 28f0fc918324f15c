// ModelRunner over a llama_context with llama.cpp's own KV memory.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engines/llama/media_encoder.h"
#include "engines/llama/model.h"
#include "engines/llama/paged/attention.h"
#include "engines/llama/paged/cache.h"
#include "engines/llama/stock_memory.h"

struct ggml_threadpool;

namespace pm::llama {

struct Layout;

// Which memory a runner has, and why.
struct KvInfo {
  bool paged = false;
  std::string dtype;    // "f16", "int8", "fp8/int8" (K/V), …
  std::string kernels;  // paged: which instruction set's
  std::string reason;   // stock: why
  size_t bytes_per_token = 0;
  size_t budget_bytes = 0;
};

class Runner final : public ModelRunner {
 public:
  // `encoder` may be null (text only).
  static Result<std::unique_ptr<Runner>> create(std::shared_ptr<Model> model,
                                                std::shared_ptr<MediaEncoder> encoder,
                                                const LoadOptions& options);
  ~Runner() override;

  SequenceMemory& memory() override {
    return paged_ ? static_cast<SequenceMemory&>(*paged_) : *stock_;
  }
  size_t sequence_count() const override { return sequence_count_; }
  size_t context_tokens() const override { return context_tokens_; }
  Status decode(std::span<const TokenSpan> spans) override;
  std::span<float> logits(size_t span_index) override;
  Result<MediaStep> decode_media(SeqId seq, const MediaEmbedding& media, size_t offset, Pos pos,
                                 size_t budget) override;
  bool is_end(Token token) const override { return model_->is_end(token); }
  std::string piece(Token token) const override { return model_->piece(token); }
  void interrupt() override { interrupted_.store(true, std::memory_order_release); }

  // Evaluates `count` tokens of `seq` and copies the output of each: its logits [vocabulary] or,
  // with `embeddings`, its last hidden state [embedding width]. At most max_outputs() tokens.
  Status decode_all_outputs(SeqId seq, Pos pos, const Token* tokens, size_t count, bool embeddings,
                            std::vector<float>& out);
  size_t max_outputs() const { return max_outputs_; }
  const KvInfo& kv_info() const { return kv_; }

 private:
  Runner(std::shared_ptr<Model> model, std::shared_ptr<MediaEncoder> encoder);
  Status init(const LoadOptions& options);
  Status choose_memory(const LoadOptions& options);
  Status init_context(const LoadOptions& options, const Layout& layout);
  Status run_batch();
  void clear_batch();
  void add_token(Token token, Pos pos, SeqId seq, bool output);

  struct FreeContext {
    void operator()(llama_context* context) const { llama_free(context); }
  };
  struct FreeThreadpool {
    void operator()(ggml_threadpool* pool) const;
  };

  std::shared_ptr<Model> model_;
  std::shared_ptr<MediaEncoder> encoder_;
  // The pool outlives the context that uses it: members are destroyed in reverse order.
  std::unique_ptr<ggml_threadpool, FreeThreadpool> threadpool_;
  // One of the two. The cache and its attention outlive the context, which computes through them.
  std::optional<PagedShape> paged_shape_;
  std::shared_ptr<PagedCache> paged_;
  std::shared_ptr<PagedAttention> attention_;
  std::unique_ptr<llama_context, FreeContext> context_;
  std::unique_ptr<StockMemory> stock_;
  llama_batch batch_{};
  std::vector<int32_t> output_rows_;  // span → row of its last token in the batch
  size_t sequence_count_ = 0;
  size_t context_tokens_ = 0;
  size_t max_outputs_ = 0;
  KvInfo kv_;
  std::atomic<bool> interrupted_{false};
};

}  // namespace pm::llama

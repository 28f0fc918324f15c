#include "engines/llama/runner.h"

#include <algorithm>
#include <cstring>

#include "core/system.h"
#include "engines/llama/backend.h"
#include "engines/llama/paged/memory.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"

namespace pm::llama {
namespace {

// What a request may use when nobody said: enough for a long chat, small enough that eight
// sequences of a 3 B model fit into a laptop.
constexpr size_t kDefaultContext = 8192;
constexpr size_t kDefaultPagedContext = 32768;
constexpr size_t kMinContext = 512;

// Function of the CPU backend that is in use; null if it does not offer it.
template <typename Fn>
Fn cpu_function(const char* name) {
  ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  if (device == nullptr) return nullptr;
  ggml_backend_reg_t registry = ggml_backend_dev_backend_reg(device);
  return reinterpret_cast<Fn>(ggml_backend_reg_get_proc_address(registry, name));
}

// Bytes of one token's keys and values in f16, all layers. An estimate for architectures that do
// not keep a plain K and V for each layer; used for budgeting only.
size_t estimate_kv_bytes(const Model& model) {
  const llama_model* m = model.get();
  const auto heads = std::max(1, llama_model_n_head(m));
  size_t head_size = static_cast<size_t>(llama_model_n_embd(m) / heads);
  const std::string key_length =
      model.metadata(model.metadata("general.architecture") + ".attention.key_length");
  if (!key_length.empty())
    head_size = static_cast<size_t>(std::strtoul(key_length.c_str(), nullptr, 10));
  return 2 * sizeof(uint16_t) * static_cast<size_t>(llama_model_n_layer(m)) *
         static_cast<size_t>(std::max(1, llama_model_n_head_kv(m))) * head_size;
}

const char* name_of(KvType type) {
  switch (type) {
    case KvType::kBf16:
      return "bf16";
    case KvType::kInt8:
      return "int8";
    case KvType::kFp8:
      return "fp8";
  }
  return "?";
}

// Chosen by measured quality on a trained model: docs/kv-cache.md.
constexpr KvType kDefaultType = KvType::kInt8;

}  // namespace

struct Layout {
  size_t context_tokens;
  size_t sequences;
  size_t budget_bytes;
};

namespace {

size_t trained_context(const Model& model) {
  return static_cast<size_t>(std::max(1, llama_model_n_ctx_train(model.get())));
}

// Asked-for sizes are honoured; sizes left open shrink until the KV cache fits its budget.
Layout plan_stock(const Model& model, const LoadOptions& options, size_t bytes_per_token) {
  Layout layout{options.context_tokens, std::max<size_t>(1, options.max_requests), 0};
  layout.budget_bytes =
      options.kv.budget_bytes > 0 ? options.kv.budget_bytes : physical_memory_bytes() / 4;
  const size_t budget_tokens = layout.budget_bytes / std::max<size_t>(1, bytes_per_token);
  if (layout.context_tokens == 0) {
    layout.context_tokens = std::min(trained_context(model), kDefaultContext);
    const size_t fair = budget_tokens / layout.sequences;
    layout.context_tokens = std::min(layout.context_tokens, std::max(fair, kMinContext));
  }
  while (layout.sequences > 1 && layout.sequences * layout.context_tokens > budget_tokens) {
    --layout.sequences;
  }
  return layout;
}

// Pages follow use: every sequence may grow to the whole pool, and the pool's limit costs nothing
// until it is reached.
Layout plan_paged(const Model& model, const LoadOptions& options, size_t bytes_per_token) {
  Layout layout{options.context_tokens, std::max<size_t>(1, options.max_requests), 0};
  layout.budget_bytes =
      options.kv.budget_bytes > 0 ? options.kv.budget_bytes : physical_memory_bytes() / 4;
  const size_t budget_tokens = layout.budget_bytes / std::max<size_t>(1, bytes_per_token);
  if (layout.context_tokens == 0) {
    layout.context_tokens = std::min(trained_context(model), kDefaultPagedContext);
  }
  layout.context_tokens = std::min(layout.context_tokens, std::max<size_t>(1, budget_tokens));
  return layout;
}

bool abort_requested(void* data) {
  return static_cast<std::atomic<bool>*>(data)->load(std::memory_order_acquire);
}

}  // namespace

void Runner::FreeThreadpool::operator()(ggml_threadpool* pool) const {
  if (const auto free_pool =
          cpu_function<decltype(&ggml_threadpool_free)>("ggml_threadpool_free")) {
    free_pool(pool);
  }
}

Runner::Runner(std::shared_ptr<Model> model, std::shared_ptr<MediaEncoder> encoder)
    : model_(std::move(model)), encoder_(std::move(encoder)) {}

Runner::~Runner() {
  if (batch_.pos != nullptr) llama_batch_free(batch_);
}

Result<std::unique_ptr<Runner>> Runner::create(std::shared_ptr<Model> model,
                                               std::shared_ptr<MediaEncoder> encoder,
                                               const LoadOptions& options) {
  std::unique_ptr<Runner> runner(new Runner(std::move(model), std::move(encoder)));
  const Status status =
      guarded(ErrorCode::kModelInvalid, "context", [&] { return runner->init(options); });
  if (!status) return status.error();
  return runner;
}

// Paged if it can be, unless stock was asked for.
Status Runner::choose_memory(const LoadOptions& options) {
  kv_.dtype = "f16";
  kv_.bytes_per_token = estimate_kv_bytes(*model_);
  const bool types_asked = options.kv.k_type || options.kv.v_type;
  if (options.kv.memory == KvOptions::Memory::kStock) {
    kv_.reason = "asked for: kv.memory is 'stock'";
  } else {
    auto shape = paged_shape(*model_->get());
    if (shape) {
      paged_shape_ = std::move(shape).value();
      const KvType k = options.kv.k_type.value_or(kDefaultType);
      const KvType v = options.kv.v_type.value_or(kDefaultType);
      kv_.paged = true;
      kv_.dtype = k == v ? name_of(k) : std::string(name_of(k)) + "/" + name_of(v);
      kv_.bytes_per_token = 0;
      for (size_t g = 0; g < paged_shape_->groups.size(); ++g) {
        kv_.bytes_per_token += paged_shape_->page_bytes(g, k, v) / kPageTokens;
      }
      return {};
    }
    if (options.kv.memory == KvOptions::Memory::kPaged) return shape.error();
    kv_.reason = shape.error().message;
  }
  if (!types_asked) return {};
  return Error{
      ErrorCode::kEngineUnavailable,
      "kv.dtype is chosen with the paged KV cache, which this engine has not: " + kv_.reason};
}

Status Runner::init(const LoadOptions& options) {
  PM_TRY(choose_memory(options));
  const Layout layout = kv_.paged ? plan_paged(*model_, options, kv_.bytes_per_token)
                                  : plan_stock(*model_, options, kv_.bytes_per_token);
  kv_.budget_bytes = layout.budget_bytes;
  sequence_count_ = layout.sequences;
  max_outputs_ = std::max<size_t>(32, sequence_count_);
  PM_TRY(init_context(options, layout));
  // llama.cpp rounds a sequence's context up; what was asked for is what a request may use.
  context_tokens_ = std::min<size_t>(llama_n_ctx_seq(context_.get()), layout.context_tokens);

  const auto new_pool = cpu_function<decltype(&ggml_threadpool_new)>("ggml_threadpool_new");
  if (new_pool != nullptr && options.threads > 1) {
    // Without a pool of its own, ggml starts and joins its threads for every single step.
    ggml_threadpool_params pool_params = ggml_threadpool_params_default(options.threads);
    // Waiting threads poll through the few hundred microseconds between two steps, then sleep: the
    // default polls for a tenth of a second and takes that core from JavaScript.
    pool_params.poll = 1;
    threadpool_.reset(new_pool(&pool_params));
    if (threadpool_) llama_attach_threadpool(context_.get(), threadpool_.get(), threadpool_.get());
  }
  if (kv_.paged) {
    context_tokens_ = std::min(context_tokens_, paged_->capacity());
  } else {
    stock_ = std::make_unique<StockMemory>(context_.get(), sequence_count_,
                                           llama_n_ctx_seq(context_.get()), kv_.bytes_per_token);
  }
  batch_ = llama_batch_init(static_cast<int32_t>(llama_n_batch(context_.get())), 0, 1);
  return {};
}

Status Runner::init_context(const LoadOptions& options, const Layout& layout) {
  LogCapture log;
  // Every running sequence decodes in every step, however small a step was asked for.
  const size_t batch_tokens = std::max(options.tokens_per_step, max_outputs_);
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<uint32_t>(layout.context_tokens * layout.sequences);
  params.n_batch = static_cast<uint32_t>(batch_tokens);
  params.n_ubatch = static_cast<uint32_t>(std::min<size_t>(batch_tokens, 512));
  params.n_seq_max = static_cast<uint32_t>(layout.sequences);
  params.n_outputs_max = static_cast<uint32_t>(max_outputs_);
  params.n_outputs_max_per_seq = static_cast<uint32_t>(max_outputs_);
  params.n_threads = options.threads;
  params.n_threads_batch = options.threads;
  params.no_perf = true;
  // Token by token; embed() pools by itself.
  params.pooling_type = LLAMA_POOLING_TYPE_NONE;
  // A stream for each sequence: attention reads only its own tokens.
  params.kv_unified = false;
  params.abort_callback = abort_requested;
  params.abort_callback_data = &interrupted_;
  if (kv_.paged) {
    PagedConfig config;
    config.k_type = options.kv.k_type.value_or(kDefaultType);
    config.v_type = options.kv.v_type.value_or(kDefaultType);
    config.budget_bytes = layout.budget_bytes;
    config.sequences = layout.sequences;
    config.context_tokens = layout.context_tokens;
    config.step_tokens = batch_tokens;
    config.prefix_cache = options.kv.prefix_cache;
    config.model = model_->digest();
    if (!options.kv.spill_dir.empty()) {
      config.spill = SpillOptions{options.kv.spill_dir, options.kv.spill_bytes};
    }
    auto cache = PagedCache::create(*paged_shape_, config);
    if (!cache) return cache.error();
    paged_ = std::move(cache).value();
    attention_ = std::make_shared<PagedAttention>(paged_, static_cast<size_t>(options.threads));
    kv_.kernels = attention_->kernels().name;
    // One stream of tokens for llama.cpp; whose pages a token sees is our business.
    params.kv_unified = true;
    params.n_ctx = static_cast<uint32_t>(std::max(layout.context_tokens, batch_tokens));
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    context_.reset(new_paged_context(model_->get(), params, paged_, attention_));
  } else {
    context_.reset(llama_init_from_model(model_->get(), params));
  }
  if (context_) return {};
  return Error{ErrorCode::kModelInvalid,
               "llama.cpp could not create a context: " + log.reason("no reason given")};
}

void Runner::clear_batch() { batch_.n_tokens = 0; }

void Runner::add_token(Token token, Pos pos, SeqId seq, bool output) {
  const int32_t i = batch_.n_tokens++;
  batch_.token[i] = token;
  batch_.pos[i] = pos;
  batch_.n_seq_id[i] = 1;
  batch_.seq_id[i][0] = seq;
  batch_.logits[i] = output;
}

Status Runner::run_batch() {
  LogCapture log;
  int32_t code = 0;
  PM_TRY(caught(ErrorCode::kInternal, "decode", [&]() -> Status {
    code = llama_decode(context_.get(), batch_);
    return {};
  }));
  if (code == 0) return {};
  if (code == 2) return Error{ErrorCode::kDisposed, "the engine was disposed"};
  if (code == 1)
    return Error{ErrorCode::kOutOfMemory, "the KV cache has no free slot for the batch"};
  return Error{ErrorCode::kInternal, "llama_decode failed with code " + std::to_string(code) +
                                         ": " + log.reason("no reason given")};
}

Status Runner::decode(std::span<const TokenSpan> spans) {
  clear_batch();
  output_rows_.assign(spans.size(), -1);
  for (size_t s = 0; s < spans.size(); ++s) {
    const TokenSpan& span = spans[s];
    for (size_t i = 0; i < span.count; ++i) {
      const bool last = i + 1 == span.count;
      add_token(span.tokens[i], span.pos + static_cast<Pos>(i), span.seq,
                last && span.wants_logits);
    }
    if (span.wants_logits) output_rows_[s] = batch_.n_tokens - 1;
  }
  return run_batch();
}

std::span<float> Runner::logits(size_t span_index) {
  float* row = llama_get_logits_ith(context_.get(), output_rows_[span_index]);
  return {row, model_->vocab_size()};
}

Result<MediaStep> Runner::decode_media(SeqId seq, const MediaEmbedding& media, size_t offset,
                                       Pos pos, size_t budget) {
  return encoder_->decode(context_.get(), seq, media, offset, pos, budget);
}

Status Runner::decode_all_outputs(SeqId seq, Pos pos, const Token* tokens, size_t count,
                                  bool embeddings, std::vector<float>& out) {
  clear_batch();
  for (size_t i = 0; i < count; ++i) add_token(tokens[i], pos + static_cast<Pos>(i), seq, true);
  llama_set_embeddings(context_.get(), embeddings);
  const Status status = run_batch();
  if (status) {
    const size_t width = embeddings ? static_cast<size_t>(llama_model_n_embd_out(model_->get()))
                                    : model_->vocab_size();
    out.resize(count * width);
    for (size_t i = 0; i < count; ++i) {
      const auto row = static_cast<int32_t>(i);
      const float* values = embeddings ? llama_get_embeddings_ith(context_.get(), row)
                                       : llama_get_logits_ith(context_.get(), row);
      std::memcpy(out.data() + i * width, values, width * sizeof(float));
    }
  }
  llama_set_embeddings(context_.get(), false);
  return status;
}

}  // namespace pm::llama

#include "addon/engine_core.h"

#include <algorithm>

#include "addon/exit_guard.h"
#include "core/json_writer.h"
#include "engines/gguf/check.h"
#include "engines/llama/preparer.h"

namespace pm::addon {
namespace {

// llama.cpp trusts model files; nothing reaches it that these checks have not passed.
Status check_file(const std::string& path, gguf::ModelKind kind) {
  const auto file = gguf::read_gguf(path);
  if (!file) return file.error();
  return gguf::check_model(file.value(), kind);
}

}  // namespace

Result<std::shared_ptr<EngineCore>> EngineCore::open(const llama::LoadOptions& options) {
  std::shared_ptr<EngineCore> core(new EngineCore());
  core->options_ = options;
  // Callbacks belong to the loading only; kept, they would keep its way to JavaScript open.
  core->options_.on_progress = nullptr;
  core->options_.cancel = nullptr;
  PM_TRY(check_file(options.model, gguf::ModelKind::kText));
  if (!options.mmproj.empty()) PM_TRY(check_file(options.mmproj, gguf::ModelKind::kProjector));
  auto model = llama::Model::load(options);
  if (!model) return model.error();
  core->model_ = std::move(model).value();

  if (!options.mmproj.empty()) {
    auto encoder = llama::MediaEncoder::load(core->model_, options);
    if (!encoder) return encoder.error();
    core->encoder_ = std::move(encoder).value();
  }
  auto chat = llama::ChatPrompt::create(core->model_);
  if (!chat) return chat.error();
  core->chat_ = std::move(chat).value();
  auto runner = llama::Runner::create(core->model_, core->encoder_, options);
  if (!runner) return runner.error();
  core->runner_ = std::move(runner).value();
  core->info_json_ = core->describe();
  return core;
}

void EngineCore::start(EventSink sink) {
  EngineConfig config;
  config.max_requests = runner_->sequence_count();
  config.limits.tokens_per_step = options_.tokens_per_step;
  config.limits.prefill_while_decoding = std::max<size_t>(32, options_.tokens_per_step / 4);
  auto preparer = std::make_shared<llama::Preparer>(model_, encoder_, std::move(chat_),
                                                    runner_->context_tokens());
  auto engine =
      std::make_shared<Engine>(std::move(runner_), std::move(preparer), config, std::move(sink));
  stop_at_exit(engine);
  std::lock_guard lock(mutex_);
  engine_ = std::move(engine);
}

std::shared_ptr<Engine> EngineCore::engine() const {
  std::lock_guard lock(mutex_);
  return engine_;
}

std::shared_ptr<llama::Model> EngineCore::model() const {
  std::lock_guard lock(mutex_);
  return model_;
}

void EngineCore::shutdown() {
  std::shared_ptr<Engine> engine;
  {
    std::lock_guard lock(mutex_);
    engine = std::exchange(engine_, nullptr);
  }
  if (!engine) return;
  engine->stop({ErrorCode::kDisposed, "the engine was disposed"});
  std::lock_guard lock(mutex_);
  last_stats_ = engine->stats();
  if (encoder_) last_media_ = encoder_->cache().counters();
  encoder_.reset();
  model_.reset();
}

std::string EngineCore::describe() const {
  const llama_model* m = model_->get();
  char description[128] = "";
  llama_model_desc(m, description, sizeof description);
  JsonWriter json;
  json.begin_object();
  json.key("model").begin_object();
  json.field("name", model_->metadata("general.name"));
  json.field("architecture", model_->metadata("general.architecture"));
  json.field("description", std::string(description));
  json.field("parameters", llama_model_n_params(m));
  json.field("bytes", llama_model_size(m));
  json.field("context_trained", llama_model_n_ctx_train(m));
  json.field("vocabulary", model_->vocab_size());
  json.field("embedding_width", llama_model_n_embd(m));
  json.field("chat_template", chat_->has_template());
  json.end_object();
  json.key("modalities").begin_array().value("text");
  if (encoder_ && encoder_->supports_vision()) json.value("image");
  if (encoder_ && encoder_->supports_audio()) json.value("audio");
  json.end_array();
  json.field("context_tokens", runner_->context_tokens());
  json.field("max_requests", runner_->sequence_count());
  json.field("tokens_per_step", options_.tokens_per_step);
  json.field("threads", options_.threads);
  json.key("kv").begin_object();
  const llama::KvInfo& kv = runner_->kv_info();
  json.field("memory", kv.paged ? "paged" : "stock");
  json.field("dtype", kv.dtype);
  json.field("kernels", kv.kernels);
  json.field("bytes_per_token", kv.bytes_per_token);
  // Stock memory is taken at load; pages are taken as tokens arrive, up to the budget.
  json.field("bytes",
             kv.paged ? kv.budget_bytes : kv.bytes_per_token * runner_->memory().capacity());
  json.field("reason", kv.reason);
  json.end_object();
  json.key("gpu").raw("null");
  json.end_object();
  return json.str();
}

std::string EngineCore::stats_json() const {
  EngineStats stats;
  llama::EncoderCache::Counters media;
  {
    std::lock_guard lock(mutex_);
    stats = engine_ ? engine_->stats() : last_stats_;
    media = encoder_ ? encoder_->cache().counters() : last_media_;
  }

  JsonWriter json;
  json.begin_object();
  json.key("requests").begin_object();
  json.field("running", stats.running).field("waiting", stats.waiting);
  json.field("finished", stats.finished).field("cancelled", stats.cancelled);
  json.field("failed", stats.failed);
  json.end_object();
  const KvStats& kv = stats.memory.kv;
  json.key("kv").begin_object();
  json.field("page_tokens", stats.memory.page_tokens);
  json.field("pages_total", kv.pages_total).field("pages_used", kv.pages_used);
  json.field("pages_shared", kv.pages_shared).field("pages_cached", kv.pages_cached);
  json.field("bytes", kv.bytes_used).field("bytes_committed", kv.bytes_committed);
  json.field("waste_fraction", kv.waste_fraction());
  json.field("evictions", kv.evictions).field("spilled_pages", kv.spilled_pages);
  json.field("preemptions", stats.preemptions);
  json.end_object();
  json.key("prefix_cache").begin_object();
  json.field("hit_tokens", stats.prefix_hit_tokens);
  json.field("lookup_tokens", stats.prefix_lookup_tokens);
  json.end_object();
  json.key("media_cache").begin_object();
  json.field("hits", media.hits).field("misses", media.misses).field("bytes", media.bytes);
  json.end_object();
  json.key("speculative").begin_object();
  json.field("draft_tokens", 0).field("accepted_tokens", 0);
  json.end_object();
  json.field("steps", stats.steps);
  json.field("tokens", stats.prompt_tokens + stats.output_tokens);
  json.field("prompt_tokens", stats.prompt_tokens).field("output_tokens", stats.output_tokens);
  json.key("phases_ms").begin_object();
  json.field("queue", stats.queue_ms).field("encode", stats.encode_ms);
  json.field("prefill", stats.prefill_ms).field("decode", stats.decode_ms);
  json.field("sample", stats.sample_ms);
  json.end_object();
  json.end_object();
  return json.str();
}

}  // namespace pm::addon

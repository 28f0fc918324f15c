// Named *_test.cpp so that the build puts it into the tests and not into the product.
#include "engines/llama/paged/testing_session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace pm::llama::testing {
namespace {

[[noreturn]] void give_up(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::abort();
}

std::shared_ptr<PagedCache> make_cache(const llama_model& model, const MemoryKind& kind,
                                       const SessionOptions& options) {
  auto shape = paged_shape(model);
  if (!shape) give_up(shape.error().message);
  PagedConfig config;
  config.k_type = kind.k_type;
  config.v_type = kind.v_type;
  config.budget_bytes = options.budget_bytes;
  config.sequences = static_cast<size_t>(options.sequences);
  config.context_tokens = static_cast<size_t>(options.context);
  config.step_tokens = static_cast<size_t>(options.context);
  auto cache = PagedCache::create(std::move(shape).value(), config);
  if (!cache) give_up(cache.error().message);
  return std::move(cache).value();
}

// Log of the sum of exponentials, the largest first taken out.
double log_sum(std::span<const float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return largest + std::log(sum);
}

double row_divergence(std::span<const float> reference, std::span<const float> other) {
  const double reference_sum = log_sum(reference);
  const double other_sum = log_sum(other);
  double divergence = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double log_p = reference[i] - reference_sum;
    divergence += std::exp(log_p) * (log_p - (other[i] - other_sum));
  }
  return std::max(0.0, divergence);
}

}  // namespace

void Batch::add(llama_token token, llama_pos pos, std::vector<llama_seq_id> owners) {
  tokens_.push_back(token);
  places_.push_back({pos, 0, 0});
  owners_.push_back(std::move(owners));
}

void Batch::add_embedding(std::span<const float> embedding, llama_pos pos, llama_pos y, llama_pos x,
                          llama_seq_id owner) {
  embeddings_.insert(embeddings_.end(), embedding.begin(), embedding.end());
  places_.push_back({pos, y, x});
  owners_.push_back({owner});
}

int Batch::decode(llama_context* context) {
  const size_t count = places_.size();
  std::vector<llama_pos> pos;
  for (const Place& place : places_) pos.push_back(place.pos);
  if (!embeddings_.empty()) {
    for (const Place& place : places_) pos.push_back(place.y);
    for (const Place& place : places_) pos.push_back(place.x);
    pos.resize(4 * count, 0);
  }
  std::vector<int32_t> owner_counts;
  std::vector<llama_seq_id*> owners;
  for (auto& list : owners_) {
    owner_counts.push_back(static_cast<int32_t>(list.size()));
    owners.push_back(list.data());
  }
  std::vector<int8_t> outputs(count, 1);
  llama_batch batch{};
  batch.n_tokens = static_cast<int32_t>(count);
  batch.token = embeddings_.empty() ? tokens_.data() : nullptr;
  batch.embd = embeddings_.empty() ? nullptr : embeddings_.data();
  batch.pos = pos.data();
  batch.n_seq_id = owner_counts.data();
  batch.seq_id = owners.data();
  batch.logits = outputs.data();
  return llama_decode(context, batch);
}

Session::Session(llama_model* model, const MemoryKind& kind, const SessionOptions& options)
    : options_(options), width_(llama_model_n_embd(model)) {
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<uint32_t>(options.context);
  params.n_batch = static_cast<uint32_t>(options.context);
  params.n_ubatch = static_cast<uint32_t>(options.ubatch);
  params.n_seq_max = static_cast<uint32_t>(options.sequences);
  params.n_threads = options.threads;
  params.n_threads_batch = options.threads;
  params.no_perf = true;
  // Ubatches are then cut the same way for both memories.
  params.kv_unified = true;
  // Stock memory keeps what slid out, so that a sequence can be cut anywhere.
  params.swa_full = true;
  params.flash_attn_type =
      kind.flash_attention ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
  params.type_k = kind.stock_type;
  params.type_v = kind.stock_type;
  if (kind.paged) {
    cache_ = make_cache(*model, kind, options);
    attention_ = std::make_shared<PagedAttention>(cache_, static_cast<size_t>(options.threads));
    context_.reset(new_paged_context(model, params, cache_, attention_));
  } else {
    context_.reset(llama_init_from_model(model, params));
  }
  if (!context_) give_up("llama.cpp could not create a context");
}

Session::~Session() = default;

llama_token Session::random_token() {
  return static_cast<llama_token>(static_cast<int>(random_unit() * kRandomVocabulary) %
                                  kRandomVocabulary);
}

float Session::random_unit() {
  random_ = random_ * 6364136223846793005u + 1442695040888963407u;
  return static_cast<float>(random_ >> 40) * 0x1p-24f;
}

llama_pos Session::next(llama_seq_id seq) const {
  return llama_memory_seq_pos_max(memory(), seq) + 1;
}

void Session::append(Batch& batch, llama_seq_id seq, int count) {
  append_shared(batch, {seq}, count);
}

void Session::append_shared(Batch& batch, const std::vector<llama_seq_id>& owners, int count) {
  append_at(batch, next(owners[0]), owners, count);
}

void Session::append_at(Batch& batch, llama_pos first, const std::vector<llama_seq_id>& owners,
                        int count) {
  for (int i = 0; i < count; ++i) batch.add(random_token(), first + i, owners);
}

void Session::append_image(Batch& batch, llama_seq_id seq, int height, int width) {
  const llama_pos pos = next(seq);
  std::vector<float> embedding(static_cast<size_t>(width_));
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (float& value : embedding) value = random_unit() - 0.5f;
      batch.add_embedding(embedding, pos, pos + y, pos + x, seq);
    }
  }
}

void Session::decode(Batch& batch) {
  ASSERT_EQ(batch.decode(context()), 0);
  for (size_t i = 0; i < batch.size(); ++i) {
    const float* row = llama_get_logits_ith(context(), static_cast<int32_t>(i));
    ASSERT_NE(row, nullptr);
    logits_.insert(logits_.end(), row, row + kRandomVocabulary);
  }
}

void Session::feed(llama_seq_id seq, int count) {
  Batch batch;
  append(batch, seq, count);
  decode(batch);
}

void Session::generate(const std::vector<llama_seq_id>& seqs, int steps) {
  for (int step = 0; step < steps; ++step) {
    Batch batch;
    for (const llama_seq_id seq : seqs) append(batch, seq, 1);
    decode(batch);
  }
}

void Session::truncate(llama_seq_id seq, llama_pos from) { remove(seq, from, -1); }

void Session::remove(llama_seq_id seq, llama_pos from, llama_pos to) {
  ASSERT_TRUE(llama_memory_seq_rm(memory(), seq, from, to));
}

void Session::fork(llama_seq_id from, llama_seq_id to, llama_pos begin, llama_pos end) {
  llama_memory_seq_cp(memory(), from, to, begin, end);
}

void Session::keep(llama_seq_id seq) { llama_memory_seq_keep(memory(), seq); }

void Session::clear() { llama_memory_clear(memory(), true); }

void Session::restart_recording(uint64_t seed) {
  random_ = seed;
  logits_.clear();
}

Divergence divergence(const std::vector<float>& reference, const std::vector<float>& other) {
  Divergence total;
  if (reference.size() != other.size()) give_up("scenarios of different length");
  for (size_t i = 0; i < reference.size(); i += kRandomVocabulary) {
    const double row = row_divergence(std::span(reference).subspan(i, kRandomVocabulary),
                                      std::span(other).subspan(i, kRandomVocabulary));
    // What is not a number must not pass a comparison.
    total.max = std::isnan(row) ? row : std::max(total.max, row);
    total.mean += row;
    ++total.rows;
  }
  total.mean /= static_cast<double>(total.rows);
  return total;
}

std::vector<float> logits_of(llama_model* model, const MemoryKind& kind,
                             const SessionOptions& options, const Scenario& scenario) {
  Session session(model, kind, options);
  scenario(session);
  return session.logits();
}

std::string describe(const Divergence& divergence) {
  char text[96];
  std::snprintf(text, sizeof text, "KL mean %.3g, max %.3g over %zu positions", divergence.mean,
                divergence.max, divergence.rows);
  return text;
}

}  // namespace pm::llama::testing

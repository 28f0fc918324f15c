#include "engines/llama/paged/memory.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <stdexcept>

#include "engines/llama/paged/state.h"
#include "llama-batch.h"
#include "llama-memory.h"
#include "llama.h"

namespace pm::llama {
namespace {

constexpr Pos kEnd = std::numeric_limits<Pos>::max();

Pos from_of(llama_pos p0) { return p0 < 0 ? 0 : p0; }
Pos to_of(llama_pos p1) { return p1 < 0 ? kEnd : p1; }

struct Shared {
  std::shared_ptr<PagedCache> cache;
  std::shared_ptr<PagedAttention> attention;
};

std::vector<SeqId> owners_of(const llama_ubatch& ubatch, uint32_t token) {
  return {ubatch.seq_id[token], ubatch.seq_id[token] + ubatch.n_seq_id[token]};
}

TokenPlace place_of(const llama_ubatch& ubatch, uint32_t token) {
  TokenPlace place;
  place.pos = ubatch.pos[token];
  if (ubatch.is_pos_2d()) {
    place.y = ubatch.pos[token + ubatch.n_tokens];
    place.x = ubatch.pos[token + ubatch.n_tokens * 2];
  }
  return place;
}

// Consecutive tokens with the same owners, gathered over ubatches.
class TokenGroups {
 public:
  void add(const llama_ubatch& ubatch) {
    for (uint32_t i = 0; i < ubatch.n_tokens; ++i) {
      std::vector<SeqId> owners = owners_of(ubatch, i);
      if (!groups_.empty() && owners == owners_.back()) {
        ++groups_.back().count;
        continue;
      }
      owners_.push_back(std::move(owners));
      groups_.push_back({owners_.back(), 1});
    }
  }
  std::span<const TokenGroup> all() const { return groups_; }

 private:
  std::deque<std::vector<SeqId>> owners_;  // a deque: the groups' spans stay valid
  std::vector<TokenGroup> groups_;
};

// Pages that no token from the ubatch on can see.
void release_what_slid_out(PagedCache& cache, const llama_ubatch& ubatch) {
  for (uint32_t u = 0; u < ubatch.n_seqs_unq; ++u) {
    const SeqId seq = ubatch.seq_id_unq[u];
    Pos first = kEnd;
    for (uint32_t i = 0; i < ubatch.n_tokens; ++i) {
      const auto* owners = ubatch.seq_id[i];
      const auto* end = owners + ubatch.n_seq_id[i];
      if (std::find(owners, end, seq) != end) first = std::min<Pos>(first, ubatch.pos[i]);
    }
    for (size_t g = 0; g < cache.group_count(); ++g) cache.group(g).tables.slide(seq, first);
  }
}

// The ubatches of one llama_decode() and the step that each becomes.
class PagedContext final : public llama_memory_context_i {
 public:
  PagedContext(const Shared& shared, llama_memory_status status)
      : shared_(shared), status_(status) {}
  PagedContext(const Shared& shared, std::vector<llama_ubatch> ubatches)
      : shared_(shared),
        status_(LLAMA_MEMORY_STATUS_SUCCESS),
        ubatches_(std::move(ubatches)),
        slots_(shared.cache->group_count()) {}

  bool next() override { return ++index_ < ubatches_.size(); }
  const llama_ubatch& get_ubatch() const override { return ubatches_[index_]; }
  llama_memory_status get_status() const override { return status_; }

  bool apply() override {
    if (ubatches_.empty()) return true;  // nothing to do: an update, or a graph being measured
    const llama_ubatch& ubatch = ubatches_[index_];
    PagedCache& cache = *shared_.cache;
    release_what_slid_out(cache, ubatch);
    TokenGroups groups;
    groups.add(ubatch);
    if (!cache.prepare(groups.all())) return false;
    cache.begin_step();
    tokens_.clear();
    for (auto& slots : slots_) slots.clear();
    std::vector<SlotId> slot(slots_.size());
    for (uint32_t i = 0; i < ubatch.n_tokens; ++i) {
      const TokenPlace place = place_of(ubatch, i);
      const std::vector<SeqId> owners = owners_of(ubatch, i);
      if (!cache.append(owners, place, slot)) return false;
      for (size_t g = 0; g < slots_.size(); ++g) slots_[g].push_back(slot[g]);
      tokens_.push_back({owners[0], place});
    }
    return true;
  }

  bool owns_attention() const override { return true; }

  ggml_tensor* build_attention(ggml_context* context, ggml_cgraph* graph, ggml_tensor* q,
                               ggml_tensor* k, ggml_tensor* v, ggml_tensor* sinks, float scale,
                               int layer) const override {
    return shared_.attention->build(context, graph, q, k, v, sinks, scale, layer);
  }

  void set_attention_input(const llama_ubatch*, bool causal) const override {
    shared_.attention->plan(tokens_, slots_, causal);
  }

 private:
  Shared shared_;
  llama_memory_status status_;
  std::vector<llama_ubatch> ubatches_;
  size_t index_ = 0;
  std::vector<std::vector<SlotId>> slots_;  // [groups][tokens] of the current ubatch
  std::vector<StepToken> tokens_;
};

class PagedMemory final : public llama_memory_i {
 public:
  explicit PagedMemory(Shared shared) : shared_(std::move(shared)) {}

  llama_memory_context_ptr init_batch(llama_batch_allocr& batch, uint32_t n_ubatch, bool) override {
    batch.split_reset();
    std::vector<llama_ubatch> ubatches;
    for (;;) {
      llama_ubatch ubatch = batch.split_simple(n_ubatch);
      if (ubatch.n_tokens == 0) break;
      ubatches.push_back(std::move(ubatch));
    }
    if (batch.get_n_used() < batch.get_n_tokens() || !fits(ubatches)) {
      return std::make_unique<PagedContext>(shared_, LLAMA_MEMORY_STATUS_FAILED_PREPARE);
    }
    return std::make_unique<PagedContext>(shared_, std::move(ubatches));
  }
  llama_memory_context_ptr init_full() override {
    return std::make_unique<PagedContext>(shared_, LLAMA_MEMORY_STATUS_SUCCESS);
  }
  llama_memory_context_ptr init_update(llama_context*, bool) override {
    return std::make_unique<PagedContext>(shared_, LLAMA_MEMORY_STATUS_NO_UPDATE);
  }

  // Keys are stored rotated to their positions and shared between sequences: they do not move.
  bool get_can_shift() const override { return false; }
  void seq_add(llama_seq_id, llama_pos, llama_pos, llama_pos shift) override {
    if (shift != 0) refuse_shift();
  }
  void seq_div(llama_seq_id, llama_pos, llama_pos, int d) override {
    if (d != 1) refuse_shift();
  }

  void clear(bool) override { shared_.cache->clear(); }
  bool seq_rm(llama_seq_id seq, llama_pos p0, llama_pos p1) override {
    for (SeqId s = seq < 0 ? 0 : seq; s <= (seq < 0 ? last_seq() : seq); ++s) {
      shared_.cache->remove(s, from_of(p0), to_of(p1));
    }
    return true;
  }
  void seq_cp(llama_seq_id from, llama_seq_id to, llama_pos p0, llama_pos p1) override {
    if (from != to) shared_.cache->fork(from, to, from_of(p0), to_of(p1));
  }
  void seq_keep(llama_seq_id seq) override { shared_.cache->keep_only(seq); }
  llama_pos seq_pos_min(llama_seq_id seq) const override {
    // The sliding-window group remembers least.
    llama_pos least = -1;
    for (size_t g = 0; g < shared_.cache->group_count(); ++g) {
      least = std::max(least, shared_.cache->group(g).tables.pos_min(seq));
    }
    return least;
  }
  llama_pos seq_pos_max(llama_seq_id seq) const override {
    return shared_.cache->group(0).tables.pos_max(seq);
  }

  // Pages are ours, not ggml buffers'.
  std::map<ggml_backend_buffer_type_t, size_t> memory_breakdown() const override { return {}; }

  void state_write(llama_io_write_i& io, llama_seq_id seq, llama_state_seq_flags) const override {
    write_state(*shared_.cache, io, seq);
  }
  void state_read(llama_io_read_i& io, llama_seq_id seq, llama_state_seq_flags) override {
    read_state(*shared_.cache, io, seq);
  }

 private:
  SeqId last_seq() const {
    return static_cast<SeqId>(shared_.cache->group(0).tables.sequences()) - 1;
  }

  // Room for all ubatches together, before the first of them changes anything.
  bool fits(const std::vector<llama_ubatch>& ubatches) {
    if (!ubatches.empty()) release_what_slid_out(*shared_.cache, ubatches[0]);
    TokenGroups groups;
    for (const llama_ubatch& ubatch : ubatches) groups.add(ubatch);
    return shared_.cache->prepare(groups.all());
  }

  [[noreturn]] static void refuse_shift() {
    throw std::runtime_error("the paged KV cache cannot shift positions");
  }

  Shared shared_;
};

llama_memory_i* create_memory(void* user, const llama_model&, const llama_memory_params&,
                              const llama_cparams&) {
  return new PagedMemory(*static_cast<Shared*>(user));
}

// The factory belongs to the thread only while a context is being made.
class FactoryScope {
 public:
  explicit FactoryScope(Shared& shared) {
    llama_memory_factory_of_thread() = {create_memory, &shared};
  }
  ~FactoryScope() { llama_memory_factory_of_thread() = {}; }
};

}  // namespace

llama_context* new_paged_context(llama_model* model, const llama_context_params& params,
                                 std::shared_ptr<PagedCache> cache,
                                 std::shared_ptr<PagedAttention> attention) {
  Shared shared{std::move(cache), std::move(attention)};
  const FactoryScope scope(shared);
  return llama_init_from_model(model, params);
}

}  // namespace pm::llama

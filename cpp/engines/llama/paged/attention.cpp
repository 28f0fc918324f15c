#include "engines/llama/paged/attention.h"

#include <algorithm>
#include <cassert>
#include <new>

#include "ggml.h"

namespace pm::llama {
namespace {

constexpr size_t kCacheLine = 64;
// Tokens that one thread stores before it takes the next: a page.
constexpr size_t kStoreTokens = kPageTokens;

size_t floats(size_t bytes) { return bytes / sizeof(float); }

// Heads next to each other, elements next to each other; tokens at any distance.
ggml_tensor* dense_heads(ggml_context* context, ggml_tensor* t) {
  const bool dense = t->type == GGML_TYPE_F32 && t->nb[0] == sizeof(float) &&
                     t->nb[1] == static_cast<size_t>(t->ne[0]) * sizeof(float);
  if (dense) return t;
  return ggml_cont(context, t->type == GGML_TYPE_F32 ? t : ggml_cast(context, t, GGML_TYPE_F32));
}

}  // namespace

struct PagedAttention::Layer {
  PagedAttention* owner;
  int32_t index;
  const LayerShape* shape;
  float scale = 1;
  // Next unit of this step to be taken by a thread.
  std::atomic<uint32_t> next{0};
};

// One step of one layer group, shared by its layers.
struct PagedAttention::Group {
  AttentionPlan plan;
  AttentionRules rules;
  size_t kv_heads = 0;    // most of any layer
  size_t head_group = 0;  // most query heads of a KV head of any layer
  const std::vector<SlotId>* slots = nullptr;
  size_t partial_floats = 0;    // of one KV head
  std::vector<float> partials;  // [kv_heads][partial_floats]
  // [kv_heads][combines]: partial results still missing.
  std::vector<std::atomic<uint32_t>> pending;
  size_t pending_size = 0;
  std::vector<PlannedRun> runs;
  std::vector<PlannedPage> pages;
  std::vector<TokenPlace> queries;
};

void PagedAttention::FreeScratch::operator()(uint8_t* bytes) const {
  ::operator delete(bytes, std::align_val_t{kCacheLine});
}

PagedAttention::PagedAttention(std::shared_ptr<PagedCache> cache, size_t threads)
    : cache_(std::move(cache)),
      kernels_(best_kernels(cache_->format())),
      threads_(std::max<size_t>(1, threads)) {
  const PagedShape& shape = cache_->shape();
  for (const LayerGroup& layers : shape.groups) {
    auto group = std::make_unique<Group>();
    group->rules.window = layers.window;
    group->rules.chunked = layers.chunked;
    group->rules.two_dimensional = shape.two_dimensional;
    groups_.push_back(std::move(group));
  }
  size_t widest = 1;
  for (size_t il = 0; il < shape.layers.size(); ++il) {
    auto layer = std::make_unique<Layer>();
    layer->owner = this;
    layer->index = static_cast<int32_t>(il);
    layer->shape = &shape.layers[il];
    Group& group = *groups_[static_cast<size_t>(layer->shape->group)];
    const auto kv_heads = static_cast<size_t>(layer->shape->kv_heads);
    const size_t head_group = static_cast<size_t>(layer->shape->query_heads) / kv_heads;
    group.kv_heads = std::max(group.kv_heads, kv_heads);
    group.head_group = std::max(group.head_group, head_group);
    widest = std::max(widest, head_group);
    layers_.push_back(std::move(layer));
  }
  const size_t bytes = kernels_.scratch_bytes(cache_->format(), static_cast<int>(widest));
  scratch_bytes_ = (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
  scratch_.reset(static_cast<uint8_t*>(
      ::operator new(scratch_bytes_ * threads_ + kCacheLine, std::align_val_t{kCacheLine})));
}

PagedAttention::~PagedAttention() = default;

ggml_tensor* PagedAttention::build(ggml_context* context, ggml_cgraph* graph, ggml_tensor* q,
                                   ggml_tensor* k, ggml_tensor* v, ggml_tensor* sinks, float scale,
                                   int layer) {
  Layer& data = *layers_[static_cast<size_t>(layer)];
  data.scale = scale;
  ggml_tensor* args[3] = {dense_heads(context, q)};
  int count = 1;
  if (k != nullptr) {
    ggml_tensor* rows[] = {dense_heads(context, k), dense_heads(context, v)};
    // Its value is never read: it makes attending wait until every thread has stored.
    args[count++] =
        ggml_custom_4d(context, GGML_TYPE_F32, 1, 1, 1, 1, rows, 2, store, GGML_N_TASKS_MAX, &data);
  }
  if (sinks != nullptr) args[count++] = sinks;
  const int64_t width = int64_t{cache_->shape().head_v} * data.shape->query_heads;
  ggml_tensor* out = ggml_custom_4d(context, GGML_TYPE_F32, width, q->ne[2], 1, 1, args, count,
                                    attend, GGML_N_TASKS_MAX, &data);
  ggml_build_forward_expand(graph, out);
  return out;
}

// ---- planning ----

void PagedAttention::plan(std::span<const StepToken> tokens,
                          const std::vector<std::vector<SlotId>>& slots, bool causal) {
  for (size_t g = 0; g < groups_.size(); ++g) {
    groups_[g]->slots = &slots[g];
    plan_group(g, tokens, causal);
  }
  for (auto& layer : layers_) layer->next.store(0, std::memory_order_relaxed);
}

void PagedAttention::plan_group(size_t index, std::span<const StepToken> tokens, bool causal) {
  Group& group = *groups_[index];
  const PageTables& tables = cache_->group(index).tables;
  group.rules.causal = causal;

  group.queries.clear();
  for (const StepToken& token : tokens) group.queries.push_back(token.place);

  // Pages first, spans into them after: the vector moves while it grows.
  struct Stretch {
    size_t first, count, pages, page_count;
  };
  std::vector<Stretch> stretches;
  group.pages.clear();
  for (size_t i = 0; i < tokens.size();) {
    size_t end = i + 1;
    while (end < tokens.size() && tokens[end].seq == tokens[i].seq) ++end;
    const size_t pages = group.pages.size();
    for (const TableEntry& entry : tables.table(tokens[i].seq)) {
      const EntrySpan span = tables.span(entry);
      group.pages.push_back(
          {entry.page, entry.live, span.pos_min, span.pos_max, tables.places(entry.page).data()});
    }
    stretches.push_back({i, end - i, pages, group.pages.size() - pages});
    i = end;
  }
  group.runs.clear();
  for (const Stretch& s : stretches) {
    group.runs.push_back({static_cast<uint32_t>(s.first),
                          std::span(group.queries).subspan(s.first, s.count),
                          std::span(group.pages).subspan(s.pages, s.page_count)});
  }
  PlanLimits limits;
  limits.threads = threads_;
  limits.kv_heads = group.kv_heads;
  group.plan.build(group.runs, group.rules, limits);

  group.partial_floats = group.plan.partials() *
                         pm::partial_floats(cache_->format(), static_cast<int>(group.head_group));
  const size_t wanted = group.partial_floats * group.kv_heads;
  if (group.partials.size() < wanted) group.partials.resize(wanted);
  const auto combines = group.plan.combines();
  const size_t counters = combines.size() * group.kv_heads;
  if (group.pending_size < counters) {
    group.pending = std::vector<std::atomic<uint32_t>>(counters);
    group.pending_size = counters;
  }
  for (size_t i = 0; i < counters; ++i) {
    group.pending[i].store(combines[i % combines.size()].count, std::memory_order_relaxed);
  }
}

// ---- computing, on ggml's threads ----

void PagedAttention::store(ggml_tensor* dst, int thread, int threads, void* user_data) {
  const Layer& layer = *static_cast<Layer*>(user_data);
  PagedAttention& self = *layer.owner;
  const ggml_tensor* k = dst->src[0];
  const ggml_tensor* v = dst->src[1];
  const PageFormat& format = self.cache_->format();
  const std::span<const SlotId> slots =
      *self.groups_[static_cast<size_t>(layer.shape->group)]->slots;
  const auto heads = static_cast<size_t>(layer.shape->kv_heads);
  const size_t chunks = (slots.size() + kStoreTokens - 1) / kStoreTokens;
  for (auto unit = static_cast<size_t>(thread); unit < heads * chunks;
       unit += static_cast<size_t>(threads)) {
    const size_t head = unit / chunks;
    const size_t first = unit % chunks * kStoreTokens;
    KvWrite write;
    write.k_stride = floats(k->nb[2]);
    write.v_stride = floats(v->nb[2]);
    write.k = static_cast<const float*>(k->data) + first * write.k_stride +
              head * static_cast<size_t>(format.head_k);
    write.v = static_cast<const float*>(v->data) + first * write.v_stride +
              head * static_cast<size_t>(format.head_v);
    write.slots = slots.subspan(first, std::min(kStoreTokens, slots.size() - first));
    self.kernels_.write(format, self.cache_->head_pages(layer.index, static_cast<int32_t>(head)),
                        write);
  }
}

void PagedAttention::attend(ggml_tensor* dst, int thread, int, void* user_data) {
  Layer& layer = *static_cast<Layer*>(user_data);
  PagedAttention& self = *layer.owner;
  assert(static_cast<size_t>(thread) < self.threads_);
  const Group& group = *self.groups_[static_cast<size_t>(layer.shape->group)];
  const PageFormat& format = self.cache_->format();
  const ggml_tensor* q = dst->src[0];
  const ggml_tensor* last = dst->src[2] != nullptr ? dst->src[2] : dst->src[1];
  // Sinks are one number a query head; what the store returns is a single number.
  const bool has_sinks =
      last != nullptr && last->op != GGML_OP_CUSTOM && last->ne[0] == layer.shape->query_heads;

  const auto kv_heads = static_cast<size_t>(layer.shape->kv_heads);
  AttentionHead head;
  head.group = layer.shape->query_heads / layer.shape->kv_heads;
  head.scale = layer.scale;
  head.softcap = self.cache_->shape().softcap;
  head.q_stride = floats(q->nb[2]);
  head.out_stride = floats(dst->nb[1]);
  void* scratch = self.scratch_.get() + static_cast<size_t>(thread) * self.scratch_bytes_;

  const size_t tasks = group.plan.tasks().size();
  for (;;) {
    const size_t unit = layer.next.fetch_add(1, std::memory_order_relaxed);
    if (unit >= tasks * kv_heads) return;
    // A head's tasks one after the other: its pages lie next to each other.
    const size_t kv_head = unit / tasks;
    const size_t first_head = kv_head * static_cast<size_t>(head.group);
    head.pages = self.cache_->head_pages(layer.index, static_cast<int32_t>(kv_head));
    head.q = static_cast<const float*>(q->data) + first_head * static_cast<size_t>(format.head_k);
    head.out = static_cast<float*>(dst->data) + first_head * static_cast<size_t>(format.head_v);
    if (has_sinks) head.sinks = static_cast<const float*>(last->data) + first_head;
    self.run_unit(layer, head, kv_head, unit % tasks, scratch);
  }
}

// Whoever delivers the last partial result of a query combines them: no barrier is needed.
void PagedAttention::run_unit(const Layer& layer, AttentionHead head, size_t kv_head, size_t index,
                              void* scratch) {
  Group& group = *groups_[static_cast<size_t>(layer.shape->group)];
  const PageFormat& format = cache_->format();
  const AttentionTask& task = group.plan.tasks()[index];
  float* partials = group.partials.data() + kv_head * group.partial_floats;
  kernels_.run(format, head, task, partials, scratch);
  if (task.partial < 0) return;
  const auto combines = group.plan.combines();
  for (const uint32_t fed : group.plan.feeds(index)) {
    std::atomic<uint32_t>& pending = group.pending[kv_head * combines.size() + fed];
    if (pending.fetch_sub(1, std::memory_order_acq_rel) != 1) continue;
    const AttentionPlan::Combine& combine = combines[fed];
    kernels_.combine(format, head, combine.query, partials, group.plan.parts(combine));
    pending.store(combine.count, std::memory_order_relaxed);  // for the next layer
  }
}

}  // namespace pm::llama

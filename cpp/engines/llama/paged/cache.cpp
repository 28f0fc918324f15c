#include "engines/llama/paged/cache.h"

#include <algorithm>
#include <cstring>

#include "kernels/attention.h"
#include "kv/memory_stats.h"

namespace pm::llama {
namespace {

constexpr size_t kSlabBytes = size_t{16} << 20;
constexpr uint32_t kMaxSlabShift = 6;
// A sequence needs at least a page to stand on and one to grow into.
constexpr size_t kMinPages = 2;

size_t pages_of(size_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

// Slabs of about kSlabBytes, at most 64 pages.
uint32_t slab_shift_for(size_t page_bytes) {
  uint32_t shift = 0;
  while (shift < kMaxSlabShift && (page_bytes << (shift + 1)) <= kSlabBytes) ++shift;
  return shift;
}

std::optional<Pos> window_of(const LayerGroup& group) {
  // Chunks end together for all: nothing slides.
  if (group.window == 0 || group.chunked) return std::nullopt;
  return group.window;
}

size_t held(const PageTables& tables, SeqId seq) { return tables.table(seq).size(); }

}  // namespace

PagedCache::Group::Group(const LayerGroup& layers, size_t bytes, size_t capacity,
                         uint32_t slab_shift, size_t sequences)
    : page_bytes(bytes),
      slabs(bytes << slab_shift, (capacity + (size_t{1} << slab_shift) - 1) >> slab_shift),
      pool(capacity, &slabs, slab_shift),
      tables(pool, sequences, window_of(layers)) {}

PagedCache::PagedCache(PagedShape shape, const PagedConfig& config)
    : shape_(std::move(shape)),
      format_{config.k_type, config.v_type, shape_.head_k, shape_.head_v},
      promises_(config.sequences),
      leases_(config.sequences),
      step_tokens_(config.step_tokens) {}

Result<std::shared_ptr<PagedCache>> PagedCache::create(PagedShape shape,
                                                       const PagedConfig& config) {
  std::shared_ptr<PagedCache> cache(new PagedCache(std::move(shape), config));
  PM_TRY(cache->init(config));
  return cache;
}

Status PagedCache::init(const PagedConfig& config) {
  const size_t count = shape_.groups.size();
  std::vector<size_t> bytes(count);
  for (size_t g = 0; g < count; ++g) bytes[g] = shape_.page_bytes(g, config.k_type, config.v_type);

  // A window needs so much and no more, twice over for cached prefixes; what is left of the budget
  // goes to the layers that see everything.
  std::vector<size_t> pages(count, 0);
  size_t left = config.budget_bytes;
  for (size_t g = 0; g < count && count > 1; ++g) {
    if (!window_of(shape_.groups[g])) continue;
    pages[g] = std::min(2 * config.sequences * pages_for(g, config.context_tokens),
                        config.budget_bytes / 2 / bytes[g]);
    left -= pages[g] * bytes[g];
  }
  for (size_t g = 0; g < count; ++g) {
    if (pages[g] == 0) pages[g] = left / bytes[g];
    if (pages[g] < kMinPages) {
      return Error{ErrorCode::kInvalidRequest,
                   "options.kv.budget_bytes: expected room for at least " +
                       std::to_string(kMinPages) + " pages of " + std::to_string(bytes[g]) +
                       " bytes, found " + std::to_string(config.budget_bytes) + " bytes"};
    }
  }

  offsets_.resize(shape_.layers.size());
  capacity_tokens_ = config.sequences * config.context_tokens;
  for (size_t g = 0; g < count; ++g) {
    const LayerGroup& layers = shape_.groups[g];
    const uint32_t shift = slab_shift_for(bytes[g]);
    groups_.push_back(std::make_unique<Group>(layers, bytes[g], pages[g], shift, config.sequences));
    size_t offset = 0;
    for (const int32_t layer : layers.layers) {
      const auto il = static_cast<size_t>(layer);
      for (int32_t head = 0; head < shape_.layers[il].kv_heads; ++head) {
        offsets_[il].push_back(offset);
        offset += format_.bytes() << shift;
      }
    }
    // A window's pool suffices for any length once it holds a whole window.
    if (pages[g] < pages_for(g, config.context_tokens) || !window_of(layers)) {
      capacity_tokens_ = std::min(capacity_tokens_, pages[g] * kPageTokens);
    }
  }
  for (auto& promise : promises_) promise.assign(count, 0);
  const bool long_context = config.context_tokens > shape_.trained_context;
  const std::string format = std::to_string(static_cast<int>(config.k_type)) + "/" +
                             std::to_string(static_cast<int>(config.v_type)) +
                             (long_context ? "/long" : "");
  const std::string_view model(reinterpret_cast<const char*>(config.model.bytes.data()),
                               config.model.bytes.size());
  root_ = pm::chain_root({model, format, "", ""});
  return init_prefixes(config);
}

Status PagedCache::init_prefixes(const PagedConfig& config) {
  if (!config.prefix_cache) return {};
  RecordLayout layout;
  layout.model = config.model;
  layout.config = root_;
  std::vector<pm::LayerGroup> groups;
  std::vector<PrefixCache::Group> cached;
  for (size_t g = 0; g < groups_.size(); ++g) {
    Group& group = *groups_[g];
    layout.page_bytes.push_back(group.page_bytes);
    groups.push_back({&group.pool, &group.tables});
    cached.push_back({&group.pool, window_of(shape_.groups[g])});
  }
  prefixes_ = std::make_unique<PrefixCache>(std::move(cached));
  prefix_pages_ =
      std::make_unique<PrefixPages>(*prefixes_, std::move(groups), static_cast<PageBytes&>(*this),
                                    std::move(layout), [this](size_t g) {
                                      const size_t free = groups_[g]->pool.free();
                                      return free - std::min(free, promised_beyond_held(g));
                                    });
  if (!config.spill) return {};
  auto spill = PrefixSpill::open(*config.spill, *prefix_pages_);
  if (!spill) return spill.error();
  spill_ = std::move(spill).value();
  return {};
}

// Every layer and KV head of the group, in the order in which they lie in a slab.
template <typename Each>
void PagedCache::for_each_head(size_t group, Each each) const {
  for (const int32_t layer : shape_.groups[group].layers) {
    for (int32_t head = 0; head < shape_.layers[static_cast<size_t>(layer)].kv_heads; ++head) {
      each(head_pages(layer, head));
    }
  }
}

void PagedCache::read(size_t group, PageId page, std::span<uint8_t> to) const {
  for_each_head(group, [&](const HeadPages& pages) {
    std::memcpy(to.data(), pages.page(page), format_.bytes());
    to = to.subspan(format_.bytes());
  });
}

void PagedCache::write(size_t group, PageId page, std::span<const uint8_t> from) {
  for_each_head(group, [&](const HeadPages& pages) {
    std::memcpy(pages.page(page), from.data(), format_.bytes());
    from = from.subspan(format_.bytes());
  });
}

HeadPages PagedCache::head_pages(int32_t layer, int32_t kv_head) const {
  const auto il = static_cast<size_t>(shape_.layers[static_cast<size_t>(layer)].source);
  const Group& group = *groups_[static_cast<size_t>(shape_.layers[il].group)];
  return {group.slabs.table(), offsets_[il][static_cast<size_t>(kv_head)], group.pool.slab_shift(),
          format_.bytes()};
}

bool PagedCache::prepare(std::span<const TokenGroup> tokens) {
  for (size_t g = 0; g < groups_.size(); ++g) {
    Group& group = *groups_[g];
    const size_t needed = group.tables.pages_needed(tokens);
    if (group.pool.free() < needed && prefixes_) prefixes_->evict(g, needed - group.pool.free());
    if (!group.pool.commit(needed)) return false;
  }
  return true;
}

void PagedCache::begin_step() {
  for (auto& group : groups_) group->tables.begin_step();
}

bool PagedCache::append(std::span<const SeqId> owners, const TokenPlace& place,
                        std::span<SlotId> slots) {
  for (size_t g = 0; g < groups_.size(); ++g) {
    copies_.clear();
    const auto slot = groups_[g]->tables.append(owners, place, copies_);
    if (!slot) return false;
    slots[g] = *slot;
    copy_pages(g);
  }
  return true;
}

// At once: a copied page holds tokens of earlier steps only, so their bytes are there.
void PagedCache::copy_pages(size_t group) {
  for (const PageCopy& copy : copies_) {
    for_each_head(group, [&](const HeadPages& pages) {
      copy_page_prefix(format_, pages.page(copy.from), pages.page(copy.to), copy.count);
    });
  }
}

void PagedCache::remove(SeqId seq, Pos from, Pos to) {
  for (auto& group : groups_) group->tables.remove(seq, from, to);
  PrefixCache::Lease& lease = leases_[static_cast<size_t>(seq)];
  if (longest_group().tables.tokens(seq) < lease.depth() * kPageTokens) lease.reset();
}

const PagedCache::Group& PagedCache::longest_group() const {
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (!window_of(shape_.groups[g])) return *groups_[g];
  }
  return *groups_[0];
}

void PagedCache::fork(SeqId from_seq, SeqId to_seq, Pos from, Pos to) {
  for (auto& group : groups_) group->tables.fork(from_seq, to_seq, from, to);
}

void PagedCache::keep_only(SeqId seq) {
  for (size_t s = 0; s < leases_.size(); ++s) {
    if (static_cast<SeqId>(s) != seq) leases_[s].reset();
  }
  for (auto& group : groups_) group->tables.keep_only(seq);
}

void PagedCache::clear() {
  for (auto& lease : leases_) lease.reset();
  for (auto& group : groups_) group->tables.clear();
  if (prefixes_) prefixes_->clear();
}

// ---- SequenceMemory ----

// Pages of a group that a sequence of so many tokens holds at most, while a step runs.
size_t PagedCache::pages_for(size_t group, size_t tokens) const {
  const auto window = window_of(shape_.groups[group]);
  if (!window) return pages_of(tokens);
  return std::min(pages_of(tokens), pages_of(static_cast<size_t>(*window) + step_tokens_) + 1);
}

size_t PagedCache::promised_beyond_held(size_t group) const {
  size_t pages = 0;
  for (size_t s = 0; s < promises_.size(); ++s) {
    const size_t has = held(groups_[group]->tables, static_cast<SeqId>(s));
    if (promises_[s][group] > has) pages += promises_[s][group] - has;
  }
  return pages;
}

size_t PagedCache::reserved() const {
  size_t tokens = 0;
  for (const auto& promise : promises_) {
    tokens += *std::max_element(promise.begin(), promise.end()) * kPageTokens;
  }
  return std::min(tokens, capacity_tokens_);
}

bool PagedCache::reserve(SeqId seq, size_t tokens) {
  auto& promise = promises_[static_cast<size_t>(seq)];
  for (size_t g = 0; g < groups_.size(); ++g) {
    Group& group = *groups_[g];
    const size_t has = std::max(promise[g], held(group.tables, seq));
    const size_t wanted = pages_for(g, tokens);
    if (wanted <= has) continue;
    const size_t needed = promised_beyond_held(g) + (wanted - has);
    const size_t missing = needed - std::min(needed, group.pool.free());
    if (missing > 0) {
      // Only if it helps: a request that waits must not wipe out what others may continue from.
      if (!prefixes_ || prefixes_->evictable(g) < missing) return false;
      prefixes_->evict(g, missing);
    }
    // Memory is taken here, not in the middle of a step.
    if (!group.pool.commit(needed)) return false;
  }
  for (size_t g = 0; g < groups_.size(); ++g) {
    promise[g] = pages_for(g, tokens);
  }
  return true;
}

void PagedCache::truncate(SeqId seq, Pos from) {
  remove(seq, from, std::numeric_limits<Pos>::max());
}

void PagedCache::release(SeqId seq) {
  remove(seq, 0, std::numeric_limits<Pos>::max());
  leases_[static_cast<size_t>(seq)].reset();
  auto& promise = promises_[static_cast<size_t>(seq)];
  std::fill(promise.begin(), promise.end(), 0);
}

size_t PagedCache::find_prefix(std::span<const Digest> chain) const {
  return prefixes_ ? prefixes_->peek(chain) : 0;
}

size_t PagedCache::adopt_prefix(SeqId seq, std::span<const Digest> chain) {
  if (!prefixes_ || chain.empty()) return 0;
  PrefixCache::Lease& lease = leases_[static_cast<size_t>(seq)];
  const auto runs = prefixes_->match(lease, chain);
  for (size_t g = 0; g < groups_.size(); ++g) {
    if (groups_[g]->tables.adopt(seq, runs[g].first, runs[g].pages)) continue;
    release(seq);
    return 0;
  }
  return lease.depth();
}

void PagedCache::publish_prefix(SeqId seq, std::span<const Digest> chain) {
  if (!prefixes_) return;
  PrefixCache::Lease& lease = leases_[static_cast<size_t>(seq)];
  std::vector<FullPages> full;
  for (const auto& group : groups_) full.push_back(group->tables.full_pages(seq));
  std::vector<PageId> pages(groups_.size());
  while (lease.depth() < chain.size()) {
    const size_t depth = lease.depth();
    Pos last = -1;
    for (size_t g = 0; g < groups_.size(); ++g) {
      pages[g] = kNoPage;
      if (depth < full[g].first) continue;                          // slid out of the window
      if (depth - full[g].first >= full[g].entries.size()) return;  // not full yet
      const TableEntry& entry = full[g].entries[depth - full[g].first];
      pages[g] = entry.page;
      last = std::max(last, groups_[g]->tables.span(entry).pos_max);
    }
    if (last < 0 || !prefixes_->insert(lease, chain[depth], pages, last)) return;
  }
}

void PagedCache::on_idle() {
  for (auto& group : groups_) group->pool.trim(size_t{1} << group->pool.slab_shift());
}

std::vector<PoolPicture> PagedCache::pictures() const {
  std::vector<PoolPicture> pictures;
  for (const auto& group : groups_) {
    pictures.push_back(picture_of(group->pool, group->tables, group->page_bytes));
  }
  return pictures;
}

MemoryStats PagedCache::stats() const {
  MemoryStats stats;
  stats.page_tokens = kPageTokens;
  for (const auto& group : groups_) {
    add_group(stats.kv, group->pool, group->tables, group->page_bytes);
  }
  if (prefixes_) stats.kv.evictions = prefixes_->stats().evictions;
  if (spill_) stats.kv.spilled_pages = spill_->stats().pages;
  return stats;
}

}  // namespace pm::llama

#include "kernels/attention_plan.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace pm {
namespace {

constexpr uint32_t kNoCombine = ~0u;
// Runs of more queries than this are prefill: they read a page for many rows anyway.
constexpr uint32_t kMaxSharingQueries = 8;

// First position a query at `pos` may see.
Pos lower_bound_of(Pos pos, const AttentionRules& rules) {
  if (rules.window <= 0) return 0;
  if (rules.chunked) return pos / rules.window * rules.window;
  return pos - rules.window + 1;
}

bool stands_after(const TokenPlace& key, const TokenPlace& query) {
  return key.y > query.y || (key.y == query.y && key.x > query.x);
}

}  // namespace

AttentionPlan::Sight AttentionPlan::sight(const Tile& tile, const PlannedPage& page) const {
  if (page.last < lower_bound_of(tile.lowest, rules_)) return Sight::kNone;
  if (rules_.causal && page.first > tile.highest) return Sight::kNone;
  // In 2-D, tokens of one position are told apart by y and x: only earlier positions are safe.
  const Pos past = rules_.two_dimensional ? tile.lowest - 1 : tile.lowest;
  const bool whole = page.live == kAllSlots && (!rules_.causal || page.last <= past) &&
                     page.first >= lower_bound_of(tile.highest, rules_);
  return whole ? Sight::kWhole : Sight::kPart;
}

uint32_t AttentionPlan::mask_of(const TokenPlace& query, const PlannedPage& page) const {
  const Pos lower = lower_bound_of(query.pos, rules_);
  uint32_t mask = 0;
  for (uint32_t rest = page.live; rest != 0; rest &= rest - 1) {
    const int slot = std::countr_zero(rest);
    const TokenPlace& key = page.places[slot];
    if (key.pos < lower) continue;
    if (rules_.causal) {
      if (key.pos > query.pos) continue;
      if (rules_.two_dimensional && key.pos == query.pos && stands_after(key, query)) continue;
    }
    mask |= 1u << slot;
  }
  return mask;
}

void AttentionPlan::make_tiles(std::span<const PlannedRun> runs, size_t tile_queries) {
  tiles_.clear();
  for (const PlannedRun& run : runs) {
    for (size_t first = 0; first < run.queries.size(); first += tile_queries) {
      Tile tile{};
      tile.run = &run;
      tile.first = static_cast<uint32_t>(first);
      tile.count = static_cast<uint32_t>(std::min(tile_queries, run.queries.size() - first));
      const auto queries = run.queries.subspan(first, tile.count);
      const auto [low, high] = std::minmax_element(
          queries.begin(), queries.end(),
          [](const TokenPlace& a, const TokenPlace& b) { return a.pos < b.pos; });
      tile.lowest = low->pos;
      tile.highest = high->pos;
      tiles_.push_back(tile);
    }
  }
}

// How many leading pages, from `depth` on, all tiles have in common and see wholly.
size_t AttentionPlan::shared_depth(std::span<Tile*> tiles, size_t depth) const {
  const auto lead = tiles[0]->run->pages;
  size_t to = depth;
  for (; to < lead.size(); ++to) {
    const bool common = std::all_of(tiles.begin(), tiles.end(), [&](const Tile* tile) {
      const auto pages = tile->run->pages;
      return to < pages.size() && pages[to].page == lead[to].page &&
             sight(*tile, pages[to]) == Sight::kWhole;
    });
    if (!common) break;
  }
  return to;
}

void AttentionPlan::emit_shared(std::span<Tile*> tiles, size_t from, size_t to) {
  const auto lead = tiles[0]->run->pages.subspan(from, to - from);
  full_.clear();
  for (const PlannedPage& page : lead) full_.push_back(page.page);
  for (size_t i = 0; i < tiles.size();) {
    const size_t queries = queries_.size();
    for (; i < tiles.size(); ++i) {
      const Tile& tile = *tiles[i];
      if (queries_.size() - queries + tile.count > limits_.tile_queries) break;
      for (uint32_t q = 0; q < tile.count; ++q) {
        queries_.push_back(tile.run->first_query + tile.first + q);
      }
    }
    const size_t count = queries_.size() - queries;
    for (size_t at = 0; at < full_.size(); at += limits_.part_pages) {
      const size_t size = std::min(limits_.part_pages, full_.size() - at);
      add_task(queries, count, std::span(full_).subspan(at, size), {}, nullptr, true);
    }
  }
  for (Tile* tile : tiles) {
    tile->done_pages = to;
    tile->split = true;
  }
}

// Tiles whose sequences hold the same leading pages read those together: the pages of a common
// prefix cross the memory bus once a step, not once a sequence.
void AttentionPlan::share(std::span<Tile*> tiles, size_t depth) {
  const auto page_at = [depth](const Tile* tile) {
    const auto pages = tile->run->pages;
    return depth < pages.size() ? static_cast<int64_t>(pages[depth].page) : -1;
  };
  std::stable_sort(tiles.begin(), tiles.end(),
                   [&](const Tile* a, const Tile* b) { return page_at(a) < page_at(b); });
  for (size_t first = 0; first < tiles.size();) {
    size_t end = first + 1;
    while (end < tiles.size() && page_at(tiles[end]) == page_at(tiles[first])) ++end;
    const auto group = tiles.subspan(first, end - first);
    first = end;
    if (group.size() < 2 || page_at(group[0]) < 0) continue;
    const size_t to = shared_depth(group, depth);
    if (to == depth) continue;  // the page is seen in part: nobody shares it
    // Too short to pay for combining: the pages stay with each sequence.
    if (to - depth < limits_.shared_pages) continue;
    emit_shared(group, depth, to);
    share(group, to);
  }
}

void AttentionPlan::emit_own(Tile& tile, size_t part_pages) {
  full_.clear();
  masked_.clear();
  const auto pages = tile.run->pages;
  for (size_t i = tile.done_pages; i < pages.size(); ++i) {
    const Sight seen = sight(tile, pages[i]);
    if (seen == Sight::kWhole) full_.push_back(pages[i].page);
    if (seen == Sight::kPart) masked_.push_back(&pages[i]);
  }
  const size_t total = full_.size() + masked_.size();
  const size_t parts = std::max<size_t>(1, (total + part_pages - 1) / part_pages);
  const bool partial = tile.split || parts > 1;
  tile.split = partial;

  const size_t queries = queries_.size();
  for (uint32_t q = 0; q < tile.count; ++q) {
    queries_.push_back(tile.run->first_query + tile.first + q);
  }
  for (size_t part = 0; part < parts; ++part) {
    const size_t from = total * part / parts;
    const size_t to = total * (part + 1) / parts;
    const auto cut = [&](auto all, size_t begin) {
      const size_t a = std::min(std::max(from, begin), begin + all.size()) - begin;
      const size_t b = std::min(std::max(to, begin), begin + all.size()) - begin;
      return all.subspan(a, b - a);
    };
    add_task(queries, tile.count, cut(std::span<const PageId>(full_), 0),
             cut(std::span<const PlannedPage* const>(masked_), full_.size()), &tile, partial);
  }
}

void AttentionPlan::add_task(size_t queries, size_t query_count, std::span<const PageId> full,
                             std::span<const PlannedPage* const> masked, const Tile* tile,
                             bool partial) {
  Draft draft{};
  draft.queries = queries;
  draft.query_count = query_count;
  draft.full = pages_.size();
  draft.full_count = full.size();
  pages_.insert(pages_.end(), full.begin(), full.end());
  draft.masked = pages_.size();
  draft.masked_count = masked.size();
  draft.masks = masks_.size();
  for (const PlannedPage* page : masked) {
    pages_.push_back(page->page);
    for (uint32_t q = 0; q < tile->count; ++q) {
      masks_.push_back(mask_of(tile->run->queries[tile->first + q], *page));
    }
  }
  draft.partial = partial;
  drafts_.push_back(draft);
}

// Resolves spans, hands out partial results and lists who combines what.
void AttentionPlan::finish() {
  // Heavy tasks first, so that the last ones to run are small and threads end together.
  std::stable_sort(drafts_.begin(), drafts_.end(), [](const Draft& a, const Draft& b) {
    return (a.full_count + a.masked_count) * a.query_count >
           (b.full_count + b.masked_count) * b.query_count;
  });
  tasks_.clear();
  partials_ = 0;
  for (const Draft& d : drafts_) {
    AttentionTask task;
    task.queries = std::span(queries_).subspan(d.queries, d.query_count);
    task.full = std::span(pages_).subspan(d.full, d.full_count);
    task.masked = std::span(pages_).subspan(d.masked, d.masked_count);
    task.masks = masks_.data() + d.masks;
    if (d.partial) {
      task.partial = static_cast<int32_t>(partials_);
      partials_ += d.query_count;
    }
    tasks_.push_back(task);
  }

  // combine_of_: query → its combine. Counted, then filled in task order: a fixed order of
  // combination, whichever thread does it.
  const uint32_t rows = queries_.empty() ? 0 : *std::max_element(queries_.begin(), queries_.end());
  combine_of_.assign(rows + 1, kNoCombine);
  combines_.clear();
  for (const AttentionTask& task : tasks_) {
    if (task.partial < 0) continue;
    for (const uint32_t query : task.queries) {
      if (combine_of_[query] == kNoCombine) {
        combine_of_[query] = static_cast<uint32_t>(combines_.size());
        combines_.push_back({query, 0, 0});
      }
      ++combines_[combine_of_[query]].count;
    }
  }
  uint32_t start = 0;
  for (Combine& combine : combines_) {
    combine.first_part = start;
    start += std::exchange(combine.count, 0);
  }
  parts_.assign(start, 0);
  feeds_.clear();
  feed_starts_.assign(1, 0);
  for (const AttentionTask& task : tasks_) {
    for (size_t i = 0; task.partial >= 0 && i < task.queries.size(); ++i) {
      const uint32_t index = combine_of_[task.queries[i]];
      Combine& combine = combines_[index];
      parts_[combine.first_part + combine.count++] =
          static_cast<uint32_t>(task.partial) + static_cast<uint32_t>(i);
      feeds_.push_back(index);
    }
    feed_starts_.push_back(static_cast<uint32_t>(feeds_.size()));
  }
}

std::span<const uint32_t> AttentionPlan::feeds(size_t task) const {
  return std::span(feeds_).subspan(feed_starts_[task], feed_starts_[task + 1] - feed_starts_[task]);
}

void AttentionPlan::build(std::span<const PlannedRun> runs, const AttentionRules& rules,
                          const PlanLimits& limits) {
  rules_ = rules;
  limits_ = limits;
  drafts_.clear();
  queries_.clear();
  pages_.clear();
  masks_.clear();
  make_tiles(runs, std::min(limits.tile_queries, kMaxTaskQueries));

  // Even parts: about four for each thread, so that one slow thread does not hold up the rest.
  size_t work = 0;
  for (const Tile& tile : tiles_) work += tile.run->pages.size();
  const size_t even = limits.threads < 2 ? work : work * limits.kv_heads / (4 * limits.threads);
  limits_.part_pages = std::max(limits.part_pages, even + 1);

  std::vector<Tile*> sharing;
  for (Tile& tile : tiles_) {
    if (tile.count <= kMaxSharingQueries) sharing.push_back(&tile);
  }
  if (sharing.size() > 1) share(sharing, 0);
  for (Tile& tile : tiles_) emit_own(tile, limits_.part_pages);
  finish();
}

}  // namespace pm

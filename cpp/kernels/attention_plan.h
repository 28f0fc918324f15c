// Plans one step's attention over pages: which queries read which pages, under which masks, cut
// into tasks of even size. Planned once per step and layer group, run by every layer and KV head.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/attention.h"
#include "kv/page_tables.h"

namespace pm {

// One page of a sequence as the planner sees it.
struct PlannedPage {
  PageId page = 0;
  uint32_t live = 0;  // slots the sequence holds; never 0
  Pos first = 0;      // smallest and largest position among them
  Pos last = 0;
  const TokenPlace* places = nullptr;  // [kPageTokens]
};

// Query tokens of one sequence that stand next to each other in the step.
struct PlannedRun {
  uint32_t first_query = 0;
  std::span<const TokenPlace> queries;
  // All pages of the sequence, the tokens of this step included.
  std::span<const PlannedPage> pages;
};

struct AttentionRules {
  bool causal = true;
  bool two_dimensional = false;  // M-RoPE: among equal positions (y, x) decides
  // Sliding window: a query at p sees positions > p - window. 0: everything.
  Pos window = 0;
  // Chunked attention: a query sees only its own chunk of `window` positions.
  bool chunked = false;
};

struct PlanLimits {
  size_t threads = 1;
  size_t kv_heads = 1;
  // Query rows of one task at most (tokens; at most kMaxTaskQueries).
  size_t tile_queries = kMaxTaskQueries;
  // Pages several sequences must share before they are read once for all of them.
  size_t shared_pages = 4;
  // A part of a split page list has at least that many pages.
  size_t part_pages = 16;
};

class AttentionPlan {
 public:
  void build(std::span<const PlannedRun> runs, const AttentionRules& rules,
             const PlanLimits& limits);

  struct Combine {
    uint32_t query;
    uint32_t first_part;  // in parts()
    uint32_t count;
  };

  std::span<const AttentionTask> tasks() const { return tasks_; }
  // Combines fed by tasks()[t]: combines()[i] for i in feeds(t).
  std::span<const uint32_t> feeds(size_t task) const;
  std::span<const Combine> combines() const { return combines_; }
  std::span<const uint32_t> parts(const Combine& combine) const {
    return std::span(parts_).subspan(combine.first_part, combine.count);
  }
  // Partial results of one KV head.
  size_t partials() const { return partials_; }

 private:
  // Up to tile_queries queries of one run.
  struct Tile {
    const PlannedRun* run;
    uint32_t first;  // in run->queries
    uint32_t count;
    size_t done_pages = 0;  // leading pages read by shared tasks
    bool split = false;     // has more than one task
    Pos lowest;
    Pos highest;
  };
  enum class Sight { kNone, kPart, kWhole };
  // Task before its spans can point into the final vectors.
  struct Draft {
    size_t queries, query_count, full, full_count, masked, masked_count, masks;
    bool partial;
  };

  Sight sight(const Tile& tile, const PlannedPage& page) const;
  uint32_t mask_of(const TokenPlace& query, const PlannedPage& page) const;
  void make_tiles(std::span<const PlannedRun> runs, size_t tile_queries);
  void share(std::span<Tile*> tiles, size_t depth);
  size_t shared_depth(std::span<Tile*> tiles, size_t depth) const;
  void emit_shared(std::span<Tile*> tiles, size_t from, size_t to);
  void emit_own(Tile& tile, size_t part_pages);
  void add_task(size_t queries, size_t query_count, std::span<const PageId> full,
                std::span<const PlannedPage* const> masked, const Tile* tile, bool partial);
  void finish();

  AttentionRules rules_;
  PlanLimits limits_;
  std::vector<Tile> tiles_;
  std::vector<Draft> drafts_;
  std::vector<uint32_t> queries_;
  std::vector<PageId> pages_;
  std::vector<uint32_t> masks_;
  std::vector<AttentionTask> tasks_;
  std::vector<Combine> combines_;
  std::vector<uint32_t> parts_;
  std::vector<uint32_t> feeds_;
  std::vector<uint32_t> feed_starts_;
  size_t partials_ = 0;
  // Working space, kept for its capacity.
  std::vector<PageId> full_;
  std::vector<const PlannedPage*> masked_;
  std::vector<uint32_t> combine_of_;
};

}  // namespace pm

// A step's attention plan as one flat array of words: what the host copies into a device tensor of
// fixed size before a step. Kernels find everything that changes between steps in there, so that a
// captured graph can be replayed.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "core/result.h"
#include "kernels/attention_plan.h"
#include "kernels/gpu/arguments.h"

namespace pm::gpu {

PlanLayout plan_layout(const PlanShape& shape);

// Which attention kernel a layer runs: `pm_attention_c<columns>_r<rows>`.
struct AttentionVariant {
  uint32_t columns;
  uint32_t rows;

  std::string name() const;
};
// The narrowest that holds the head, with as many rows as a task has use for. `head_v` is at most
// kMaxHead.
AttentionVariant attention_variant(uint32_t head_v, uint32_t group, uint32_t task_queries);

// Blocks of `variant` that the rows of one task take: the grid's third dimension.
uint32_t attention_row_tiles(const AttentionVariant& variant, uint32_t group,
                             uint32_t task_queries);

// Fills a plan section by section. What does not fit is refused as a whole: the plan is then empty,
// and running it does nothing.
class PlanWriter {
 public:
  // `words`: plan_layout(shape).words of them.
  PlanWriter(const PlanShape& shape, std::span<uint32_t> words);

  void add_task(const AttentionTask& task);
  void add_combine(uint32_t query, std::span<const uint32_t> parts);
  void add_slots(std::span<const SlotId> slots);

  // Publishes what was added.
  Status finish();

 private:
  struct Section {
    const char* name;
    uint32_t capacity;
    uint32_t entry_words;
    uint32_t first;     // word
    uint32_t used = 0;  // entries
  };

  // The next `count` entries of a section, or nothing if they do not fit.
  std::span<uint32_t> take(Section& section, size_t count);
  uint32_t append(Section& section, std::span<const uint32_t> entries);

  PlanShape shape_;
  std::span<uint32_t> words_;
  const char* full_ = nullptr;
  Section tasks_, queries_, pages_, masks_, combines_, parts_, slots_;
};

Status pack_plan(const AttentionPlan& plan, std::span<const SlotId> slots, const PlanShape& shape,
                 std::span<uint32_t> words);

}  // namespace pm::gpu

#include "kernels/gpu/device_plan.h"

#include <algorithm>
#include <array>

#include "kernels/gpu/number_formats.h"

namespace pm::gpu {
namespace {

// The variants that kernels.h defines.
constexpr std::array<uint32_t, 5> kColumns = {2, 3, 4, 6, 8};
constexpr std::array<uint32_t, 3> kRows = {1, 4, 8};

static_assert(kTypeBf16 == static_cast<uint32_t>(KvType::kBf16));
static_assert(kTypeInt8 == static_cast<uint32_t>(KvType::kInt8));
static_assert(kTypeFp8 == static_cast<uint32_t>(KvType::kFp8));
static_assert(kPageSlots == kPageTokens);
static_assert(kColumns.back() == kMaxHeadColumns && kMaxHead == kMaxHeadColumns * kWarpLanes);
static_assert(kAttentionThreads == kAttentionWarps * kWarpLanes && kRowThreads == kWarpLanes);

uint32_t smallest_of(std::span<const uint32_t> sizes, uint32_t needed) {
  const auto fits =
      std::find_if(sizes.begin(), sizes.end(), [needed](uint32_t size) { return size >= needed; });
  return fits == sizes.end() ? sizes.back() : *fits;
}

}  // namespace

PlanLayout plan_layout(const PlanShape& shape) {
  PlanLayout layout{};
  uint32_t next = kPlanHeaderWords;
  const auto section = [&next](uint32_t entries, uint32_t entry_words = 1) {
    const uint32_t first = next;
    next += entries * entry_words;
    return first;
  };
  layout.tasks = section(shape.tasks, kTaskWords);
  layout.queries = section(shape.queries);
  layout.pages = section(shape.pages);
  layout.masks = section(shape.masks);
  layout.combines = section(shape.combines, kCombineWords);
  layout.parts = section(shape.parts);
  layout.slots = section(shape.slots);
  layout.words = next;
  return layout;
}

std::string AttentionVariant::name() const {
  return "pm_attention_c" + std::to_string(columns) + "_r" + std::to_string(rows);
}

AttentionVariant attention_variant(uint32_t head_v, uint32_t group, uint32_t task_queries) {
  return {smallest_of(kColumns, (head_v + kWarpLanes - 1) / kWarpLanes),
          smallest_of(kRows, group * task_queries)};
}

uint32_t attention_row_tiles(const AttentionVariant& variant, uint32_t group,
                             uint32_t task_queries) {
  return (group * task_queries + variant.rows - 1) / variant.rows;
}

PlanWriter::PlanWriter(const PlanShape& shape, std::span<uint32_t> words)
    : shape_(shape), words_(words) {
  const PlanLayout layout = plan_layout(shape);
  tasks_ = {"tasks", shape.tasks, kTaskWords, layout.tasks};
  queries_ = {"queries", shape.queries, 1, layout.queries};
  pages_ = {"pages", shape.pages, 1, layout.pages};
  masks_ = {"masks", shape.masks, 1, layout.masks};
  combines_ = {"combines", shape.combines, kCombineWords, layout.combines};
  parts_ = {"parts", shape.parts, 1, layout.parts};
  slots_ = {"slots", shape.slots, 1, layout.slots};
  if (words.size() < layout.words) {
    full_ = "words";
    words_ = {};
    return;
  }
  std::fill_n(words_.begin(), size_t{kPlanHeaderWords}, 0u);
}

std::span<uint32_t> PlanWriter::take(Section& section, size_t count) {
  if (full_ == nullptr && count > section.capacity - section.used) full_ = section.name;
  if (full_ != nullptr) return {};
  const size_t first = section.first + size_t{section.used} * section.entry_words;
  section.used += static_cast<uint32_t>(count);
  return words_.subspan(first, count * section.entry_words);
}

uint32_t PlanWriter::append(Section& section, std::span<const uint32_t> entries) {
  const uint32_t at = section.used;
  const auto words = take(section, entries.size());
  std::copy_n(entries.begin(), words.size(), words.begin());
  return at;
}

void PlanWriter::add_task(const AttentionTask& task) {
  if (full_ == nullptr && task.queries.size() > shape_.task_queries) full_ = "queries of a task";
  const auto words = take(tasks_, 1);
  if (words.empty()) return;
  words[kTaskQueryCount] = static_cast<uint32_t>(task.queries.size());
  words[kTaskFullCount] = static_cast<uint32_t>(task.full.size());
  words[kTaskMaskedCount] = static_cast<uint32_t>(task.masked.size());
  words[kTaskQueries] = append(queries_, task.queries);
  words[kTaskPages] = append(pages_, task.full);
  append(pages_, task.masked);
  words[kTaskMasks] = append(masks_, {task.masks, task.masked.size() * task.queries.size()});
  words[kTaskPartial] = task.partial < 0 ? kNoPartial : static_cast<uint32_t>(task.partial);
  words[kTaskWords - 1] = 0;
}

void PlanWriter::add_combine(uint32_t query, std::span<const uint32_t> parts) {
  const auto words = take(combines_, 1);
  if (words.empty()) return;
  words[kCombineQuery] = query;
  words[kCombineParts] = append(parts_, parts);
  words[kCombineCount] = static_cast<uint32_t>(parts.size());
}

void PlanWriter::add_slots(std::span<const SlotId> slots) { append(slots_, slots); }

Status PlanWriter::finish() {
  if (full_ != nullptr) {
    return Error{ErrorCode::kInternal,
                 std::string("a step's attention plan has more ") + full_ +
                     " than the device tensor was made for",
                 {{"section", full_}}};
  }
  words_[kPlanTasks] = tasks_.used;
  words_[kPlanCombines] = combines_.used;
  words_[kPlanSlots] = slots_.used;
  return {};
}

Status pack_plan(const AttentionPlan& plan, std::span<const SlotId> slots, const PlanShape& shape,
                 std::span<uint32_t> words) {
  PlanWriter writer(shape, words);
  for (const AttentionTask& task : plan.tasks()) writer.add_task(task);
  for (const AttentionPlan::Combine& combine : plan.combines()) {
    writer.add_combine(combine.query, plan.parts(combine));
  }
  writer.add_slots(slots);
  return writer.finish();
}

}  // namespace pm::gpu

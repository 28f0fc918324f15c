// What the tests of GPU kernels share: a layer of two KV heads in pages, launched through the
// emulator as the host would launch it on a device.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/gpu/device_plan.h"
#include "kernels/gpu/kernels.h"
#include "kernels/test_support.h"

namespace pm::test {

// The pool's two layers stand for two KV heads: both lie behind each other in a slab.
inline constexpr uint32_t kKvHeads = 2;

inline HeadPages head_pages(const Pool& pool, uint32_t kv_head) {
  HeadPages pages = pool.pages();
  pages.offset *= kv_head;
  return pages;
}

inline gpu::LayerPages layer_pages(const PageFormat& format, const Pool& pool) {
  const HeadPages pages = pool.pages();
  return {pages.slabs,
          0,
          pages.offset,
          pages.slab_shift,
          static_cast<uint32_t>(pages.page_bytes),
          static_cast<uint32_t>(format.v_offset()),
          static_cast<uint32_t>(format.k_type),
          static_cast<uint32_t>(format.v_type),
          static_cast<uint32_t>(format.head_k),
          static_cast<uint32_t>(format.head_v)};
}

// A plan's device tensor: exactly as large as its layout says, so that sanitizers see overruns.
class PlanTensor {
 public:
  explicit PlanTensor(const gpu::PlanShape& shape)
      : shape_(shape), words_(gpu::plan_layout(shape).words, 0xdeadbeefu) {}

  const gpu::PlanShape& shape() const { return shape_; }
  gpu::PlanLayout layout() const { return gpu::plan_layout(shape_); }
  std::span<uint32_t> words() { return words_; }
  const uint32_t* data() const { return words_.data(); }

 private:
  gpu::PlanShape shape_;
  std::vector<uint32_t> words_;
};

using AttentionLaunch = void (*)(const gpu::AttentionArguments&, emulator::Grid, emulator::Order);

inline AttentionLaunch attention_kernel(const gpu::AttentionVariant& variant) {
  const std::pair<const char*, AttentionLaunch> kernels[] = {
      {"pm_attention_c2_r1", pm_attention_c2_r1}, {"pm_attention_c2_r4", pm_attention_c2_r4},
      {"pm_attention_c2_r8", pm_attention_c2_r8}, {"pm_attention_c3_r1", pm_attention_c3_r1},
      {"pm_attention_c3_r4", pm_attention_c3_r4}, {"pm_attention_c3_r8", pm_attention_c3_r8},
      {"pm_attention_c4_r1", pm_attention_c4_r1}, {"pm_attention_c4_r4", pm_attention_c4_r4},
      {"pm_attention_c4_r8", pm_attention_c4_r8}, {"pm_attention_c6_r1", pm_attention_c6_r1},
      {"pm_attention_c6_r4", pm_attention_c6_r4}, {"pm_attention_c6_r8", pm_attention_c6_r8},
      {"pm_attention_c8_r1", pm_attention_c8_r1}, {"pm_attention_c8_r4", pm_attention_c8_r4},
      {"pm_attention_c8_r8", pm_attention_c8_r8}};
  for (const auto& [name, kernel] : kernels) {
    if (variant.name() == name) return kernel;
  }
  return nullptr;
}

inline void launch_write(const gpu::WriteArguments& args, const gpu::PlanShape& shape,
                         emulator::Order order) {
  pm_kv_write(args, {shape.slots, kKvHeads, 2}, order);
}

inline void launch_attention(const gpu::AttentionArguments& args, const gpu::PlanShape& shape,
                             emulator::Order order) {
  const uint32_t group = args.output.group;
  const auto variant = gpu::attention_variant(args.pages.head_v, group, shape.task_queries);
  const uint32_t tiles = gpu::attention_row_tiles(variant, group, shape.task_queries);
  attention_kernel(variant)(args, {shape.tasks, kKvHeads, tiles}, order);
}

inline void launch_combine(const gpu::CombineArguments& args, const gpu::PlanShape& shape,
                           emulator::Order order) {
  pm_combine(args, {shape.combines, kKvHeads, args.output.group}, order);
}

}  // namespace pm::test

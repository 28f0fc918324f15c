// Where things are in pages (kv/page_format.h, kernels/page_access.h) and in partial results.
#pragma once

#include "kernels/gpu/arguments.h"
#include "kernels/gpu/number_formats.h"

namespace pm {
namespace gpu {

PM_DEVICE Global<uint8_t> find_page(Constant<LayerPages> pages, uint32_t kv_head, uint32_t id) {
  const uint32_t inside = id & ((1u << pages.slab_shift) - 1u);
  return pages.slabs[id >> pages.slab_shift] + pages.layer_offset + kv_head * pages.head_bytes +
         static_cast<uint64_t>(inside) * pages.page_bytes;
}

// Index of element i of the token in `slot`.
PM_DEVICE uint32_t key_index(uint32_t slot, uint32_t i) {
  return (i / 2 * kPageSlots + slot) * 2 + i % 2;
}

PM_DEVICE uint32_t value_index(uint32_t head_v, uint32_t slot, uint32_t i) {
  return (slot / 2 * head_v + i) * 2 + slot % 2;
}

// Bytes from the start of a block to its scales (8-bit types).
PM_DEVICE uint32_t scales_at(uint32_t head_size) { return head_size * kPageSlots; }

// Scale of the token in `slot`; 1 where the type has none.
PM_DEVICE float scale_of(uint32_t type, uint32_t head_size, Global<const uint8_t> block,
                         uint32_t slot) {
  if (type == kTypeBf16) return 1.0f;
  return decode_bf16(reinterpret_cast<Global<const uint16_t>>(block + scales_at(head_size))[slot]);
}

PM_DEVICE uint32_t partial_floats_of(uint32_t group, uint32_t head_v) {
  return group * (2u + head_v);
}

}  // namespace gpu
}  // namespace pm

// KV write over one instruction set: KvKernels::write. Bit for bit what codec.h defines.
#pragma once

#include <cstring>

#include "kernels/attention.h"
#include "kernels/codec.h"
#include "kernels/page_access.h"

namespace pm {
namespace {

inline constexpr int kMaxHead = 256;

// One row as a page holds it, before it is scattered.
struct EncodedRow {
  alignas(64) uint8_t elements[2 * kMaxHead + 64];
  uint16_t scale = 0;
};

template <class Isa>
void encode_row(KvType type, const float* from, int size, EncodedRow& to) {
  alignas(64) float row[kMaxHead + 64];
  std::memcpy(row, from, static_cast<size_t>(size) * sizeof(float));
  std::memset(row + size, 0, 64 * sizeof(float));
  if (type == KvType::kBf16) {
    for (int i = 0; i < size; i += Isa::kLanes) {
      Isa::store_bf16(reinterpret_cast<uint16_t*>(to.elements) + i, Isa::load(row + i));
    }
    return;
  }
  if (type == KvType::kInt8) rotate_row<Isa>(row, size);
  const RowScale scale = row_scale(Isa::max_magnitude_bits(row, size), type);
  to.scale = scale.stored;
  if (scale.inverse == 0) {
    std::memset(to.elements, 0, static_cast<size_t>(size));
    return;
  }
  const auto inverse = Isa::set1(scale.inverse);
  for (int i = 0; i < size; i += Isa::kLanes) {
    const auto x = Isa::mul(Isa::load(row + i), inverse);
    if (type == KvType::kInt8) {
      Isa::store_int8(to.elements + i, x);
    } else {
      Isa::store_e4m3(to.elements + i, x);
    }
  }
}

// Element: uint8_t or uint16_t. A token's pairs are kPageTokens pairs apart.
template <class Element>
void scatter_key(const EncodedRow& row, int size, uint8_t* block, int slot) {
  uint8_t* to = block + static_cast<size_t>(slot) * 2 * sizeof(Element);
  for (int pair = 0; pair < size / 2; ++pair) {
    std::memcpy(to, row.elements + static_cast<size_t>(pair) * 2 * sizeof(Element),
                2 * sizeof(Element));
    to += kPageTokens * 2 * sizeof(Element);
  }
}

// A token's elements alternate with those of its neighbour.
template <class Element>
void scatter_value(const EncodedRow& row, int size, uint8_t* block, int slot) {
  auto* to = reinterpret_cast<Element*>(block) + value_element(size, slot, 0);
  const auto* from = reinterpret_cast<const Element*>(row.elements);
  for (int i = 0; i < size; ++i) to[2 * i] = from[i];
}

inline void store_scale(const EncodedRow& row, int size, uint8_t* block, int slot) {
  std::memcpy(block + scales_offset(size) + static_cast<size_t>(slot) * sizeof(uint16_t),
              &row.scale, sizeof(uint16_t));
}

template <class Isa>
void write_pages(const PageFormat& format, const HeadPages& pages, const KvWrite& write) {
  EncodedRow row;
  for (size_t t = 0; t < write.slots.size(); ++t) {
    uint8_t* k = pages.page(write.slots[t] / kPageTokens);
    uint8_t* v = k + format.v_offset();
    const int slot = static_cast<int>(write.slots[t] % kPageTokens);
    encode_row<Isa>(format.k_type, write.k + t * write.k_stride, format.head_k, row);
    if (format.k_type == KvType::kBf16) {
      scatter_key<uint16_t>(row, format.head_k, k, slot);
    } else {
      scatter_key<uint8_t>(row, format.head_k, k, slot);
      store_scale(row, format.head_k, k, slot);
    }
    encode_row<Isa>(format.v_type, write.v + t * write.v_stride, format.head_v, row);
    if (format.v_type == KvType::kBf16) {
      scatter_value<uint16_t>(row, format.head_v, v, slot);
    } else {
      scatter_value<uint8_t>(row, format.head_v, v, slot);
      store_scale(row, format.head_v, v, slot);
    }
  }
}

}  // namespace
}  // namespace pm

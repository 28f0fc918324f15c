// How one page of keys and values of one layer and one KV head lies in memory.
//
//   page = K block | V block, each 64-byte aligned
//   K block: elements [head_k/2][32 tokens][2], then (8-bit types) bf16 scales [32 tokens]
//   V block: elements [32/2 token pairs][head_v][2], then (8-bit types) bf16 scales [32 tokens]
//
// Both are permuted so that a table lookup plus unpacking yields the operand order of a pairwise
// dot product: no horizontal sums. docs/kv-cache.md draws it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pm {

inline constexpr int kPageTokens = 32;

using PageId = uint32_t;
// page * kPageTokens + place in the page.
using SlotId = uint32_t;

enum class KvType : uint8_t {
  kBf16,  // no scales
  kInt8,  // symmetric, one scale a token; keys and values are rotated (Hadamard) first
  kFp8,   // E4M3 (finite, no infinities), one scale a token
};

constexpr size_t element_bytes(KvType type) { return type == KvType::kBf16 ? 2 : 1; }

constexpr size_t block_bytes(KvType type, int head_size) {
  const size_t elements = static_cast<size_t>(head_size) * kPageTokens * element_bytes(type);
  const size_t scales = type == KvType::kBf16 ? 0 : kPageTokens * sizeof(uint16_t);
  return (elements + scales + 63) / 64 * 64;
}

struct PageFormat {
  KvType k_type = KvType::kBf16;
  KvType v_type = KvType::kBf16;
  int head_k = 0;  // elements of one key; even, at most 256
  int head_v = 0;  // elements of one value; even, at most 256

  constexpr size_t v_offset() const { return block_bytes(k_type, head_k); }
  constexpr size_t bytes() const { return v_offset() + block_bytes(v_type, head_v); }
};

// Finds the pages of one layer and KV head: slabs of 2^slab_shift pages, within a slab one layer
// and head after the other.
struct HeadPages {
  uint8_t* const* slabs = nullptr;
  size_t offset = 0;  // bytes from a slab's start to this layer and head
  uint32_t slab_shift = 0;
  size_t page_bytes = 0;

  uint8_t* page(PageId id) const {
    const uint32_t inside = id & ((1u << slab_shift) - 1);
    return slabs[id >> slab_shift] + offset + inside * page_bytes;
  }
};

}  // namespace pm

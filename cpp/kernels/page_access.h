// Where the elements of a page are: the layout of page_format.h as index arithmetic.
#pragma once

#include "kv/page_format.h"

namespace pm {

// Index of element `i` of token `slot` in a K block.
constexpr size_t key_element(int slot, int i) {
  return (static_cast<size_t>(i / 2) * kPageTokens + static_cast<size_t>(slot)) * 2 +
         static_cast<size_t>(i % 2);
}

// Index of element `i` of token `slot` in a V block.
constexpr size_t value_element(int head_v, int slot, int i) {
  return (static_cast<size_t>(slot / 2) * static_cast<size_t>(head_v) + static_cast<size_t>(i)) *
             2 +
         static_cast<size_t>(slot % 2);
}

// Bytes from the start of a block to its scales (8-bit types).
constexpr size_t scales_offset(int head_size) {
  return static_cast<size_t>(head_size) * kPageTokens;
}

}  // namespace pm

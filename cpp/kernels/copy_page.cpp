#include <cstring>

#include "kernels/attention.h"
#include "kernels/page_access.h"

namespace pm {
namespace {

// Rows of `row_bytes`, of which the first `count_bytes` are copied.
void copy_rows(const uint8_t* from, uint8_t* to, int rows, size_t row_bytes, size_t count_bytes) {
  for (int row = 0; row < rows; ++row) {
    std::memcpy(to, from, count_bytes);
    from += row_bytes;
    to += row_bytes;
  }
}

void copy_scales(KvType type, int head_size, const uint8_t* from, uint8_t* to, int count) {
  if (type == KvType::kBf16) return;
  const size_t offset = scales_offset(head_size);
  std::memcpy(to + offset, from + offset, static_cast<size_t>(count) * sizeof(uint16_t));
}

void copy_values(const PageFormat& format, const uint8_t* from, uint8_t* to, int count) {
  const size_t element = element_bytes(format.v_type);
  const size_t pair_bytes = static_cast<size_t>(format.head_v) * 2 * element;
  const size_t pairs = static_cast<size_t>(count / 2);
  std::memcpy(to, from, pairs * pair_bytes);
  if (count % 2 != 0) {
    // The pair's second token is beyond the prefix: its places stay as they are.
    for (int i = 0; i < format.head_v; ++i) {
      const size_t at = value_element(format.head_v, count - 1, i) * element;
      std::memcpy(to + at, from + at, element);
    }
  }
  copy_scales(format.v_type, format.head_v, from, to, count);
}

}  // namespace

void copy_page_prefix(const PageFormat& format, const uint8_t* from, uint8_t* to, int count) {
  const size_t pair_bytes = 2 * element_bytes(format.k_type);
  copy_rows(from, to, format.head_k / 2, kPageTokens * pair_bytes,
            static_cast<size_t>(count) * pair_bytes);
  copy_scales(format.k_type, format.head_k, from, to, count);
  copy_values(format, from + format.v_offset(), to + format.v_offset(), count);
}

}  // namespace pm

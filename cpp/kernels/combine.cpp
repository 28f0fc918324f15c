#include "kernels/combine.h"

#include <cmath>
#include <limits>

#include "kernels/codec.h"

namespace pm {
namespace {

struct PortableTag {};

// exp(a - b) where a <= b and a may be -inf (then 0, also if b is).
float weight(float a, float b) {
  return a == -std::numeric_limits<float>::infinity() ? 0 : std::exp(a - b);
}

}  // namespace

void combine_partials(const PageFormat& format, const AttentionHead& head, uint32_t query,
                      const float* partials, std::span<const uint32_t> parts) {
  const size_t part_floats = partial_floats(format, head.group);
  for (int g = 0; g < head.group; ++g) {
    float* out = head.out + query * head.out_stride + static_cast<size_t>(g * format.head_v);
    float max = head.sinks != nullptr ? head.sinks[g] : -std::numeric_limits<float>::infinity();
    for (uint32_t part : parts) max = std::fmax(max, partials[part * part_floats + 2 * g]);
    float sum = head.sinks != nullptr ? weight(head.sinks[g], max) : 0;
    for (int i = 0; i < format.head_v; ++i) out[i] = 0;
    for (uint32_t part : parts) {
      const float* from = partials + part * part_floats;
      const float* values = from + 2 * head.group + g * format.head_v;
      const float factor = weight(from[2 * g], max);
      sum += factor * from[2 * g + 1];
      for (int i = 0; i < format.head_v; ++i) out[i] += factor * values[i];
    }
    // No token seen: zeros. Written so that a NaN sum makes the row NaN.
    const float normal = sum == 0 ? 0 : 1 / sum;
    for (int i = 0; i < format.head_v; ++i) out[i] *= normal;
    if (format.v_type == KvType::kInt8) rotate_row<PortableTag>(out, format.head_v);
  }
}

}  // namespace pm

// The last step of attention, the same for every instruction set: running maximum, sum and
// unnormalised values of a row become its output.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/attention.h"

namespace pm {

void combine_partials(const PageFormat& format, const AttentionHead& head, uint32_t query,
                      const float* partials, std::span<const uint32_t> parts);

}  // namespace pm

// xxh64: finds damage in files at the speed of memory. Not for anything an attacker may choose.
#pragma once

#include <cstdint>
#include <span>

namespace pm {

uint64_t xxh64(std::span<const uint8_t> bytes, uint64_t seed = 0);

}  // namespace pm

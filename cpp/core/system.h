// Facts about the machine.
#pragma once

#include <cstddef>

namespace pm {

// Installed memory in bytes, or the container's limit where that is smaller; 4 GiB if unknown.
size_t physical_memory_bytes();

}  // namespace pm

// Moves the bytes of whole pages between the pool's memory and a file's buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kv/page_format.h"

namespace pm {

// Called on the thread that owns the pages, between two steps.
class PageBytes {
 public:
  virtual ~PageBytes() = default;
  // One page of a layer group: all its layers and KV heads.
  virtual size_t page_bytes(size_t group) const = 0;
  virtual void read(size_t group, PageId page, std::span<uint8_t> to) const = 0;
  virtual void write(size_t group, PageId page, std::span<const uint8_t> from) = 0;
};

}  // namespace pm

#include "engines/llama/paged/state.h"

#include <bit>
#include <cstring>
#include <stdexcept>

#include "kernels/attention.h"
#include "kernels/page_access.h"
#include "llama-io.h"

namespace pm::llama {
namespace {

constexpr uint32_t kMagic = 0x504b4d50;  // "PMKP"
constexpr uint32_t kVersion = 1;

template <typename T>
void put(llama_io_write_i& io, const T& value) {
  io.write(&value, sizeof value);
}

template <typename T>
T take(llama_io_read_i& io) {
  T value;
  io.read(&value, sizeof value);
  return value;
}

struct Header {
  uint32_t magic = kMagic;
  uint32_t version = kVersion;
  uint32_t k_type, v_type, head_k, head_v, groups, sequences;
};

Header header_of(const PagedCache& cache, size_t sequences) {
  const PageFormat& format = cache.format();
  Header header;
  header.k_type = static_cast<uint32_t>(format.k_type);
  header.v_type = static_cast<uint32_t>(format.v_type);
  header.head_k = static_cast<uint32_t>(format.head_k);
  header.head_v = static_cast<uint32_t>(format.head_v);
  header.groups = static_cast<uint32_t>(cache.group_count());
  header.sequences = static_cast<uint32_t>(sequences);
  return header;
}

std::vector<SlotId> slots_of(const PageTables& tables, SeqId seq) {
  std::vector<SlotId> slots;
  for (const TableEntry& entry : tables.table(seq)) {
    for (uint32_t rest = entry.live; rest != 0; rest &= rest - 1) {
      slots.push_back(entry.page * kPageTokens + static_cast<SlotId>(std::countr_zero(rest)));
    }
  }
  return slots;
}

void copy_block_slot(const uint8_t* from, int from_slot, uint8_t* to, int to_slot, KvType type,
                     int head_size, bool key) {
  const size_t width = element_bytes(type);
  for (int i = 0; i < head_size; ++i) {
    const size_t a = key ? key_element(from_slot, i) : value_element(head_size, from_slot, i);
    const size_t b = key ? key_element(to_slot, i) : value_element(head_size, to_slot, i);
    std::memcpy(to + b * width, from + a * width, width);
  }
  if (type == KvType::kBf16) return;
  const size_t scales = scales_offset(head_size);
  std::memcpy(to + scales + static_cast<size_t>(to_slot) * 2,
              from + scales + static_cast<size_t>(from_slot) * 2, 2);
}

void copy_slot(const PageFormat& format, const uint8_t* from, int from_slot, uint8_t* to,
               int to_slot) {
  copy_block_slot(from, from_slot, to, to_slot, format.k_type, format.head_k, true);
  copy_block_slot(from + format.v_offset(), from_slot, to + format.v_offset(), to_slot,
                  format.v_type, format.head_v, false);
}

template <typename Each>
void for_each_head(const PagedCache& cache, size_t group, Each each) {
  const PagedShape& shape = cache.shape();
  for (const int32_t layer : shape.groups[group].layers) {
    for (int32_t head = 0; head < shape.layers[static_cast<size_t>(layer)].kv_heads; ++head) {
      each(cache.head_pages(layer, head));
    }
  }
}

void write_sequence(const PagedCache& cache, llama_io_write_i& io, SeqId seq) {
  const PageFormat& format = cache.format();
  std::vector<uint8_t> image(format.bytes());
  for (size_t g = 0; g < cache.group_count(); ++g) {
    const PageTables& tables = cache.group(g).tables;
    const std::vector<SlotId> slots = slots_of(tables, seq);
    put(io, static_cast<uint64_t>(slots.size()));
    for (const SlotId slot : slots) put(io, tables.place(slot));
    for (size_t first = 0; first < slots.size(); first += kPageTokens) {
      const size_t count = std::min<size_t>(kPageTokens, slots.size() - first);
      for_each_head(cache, g, [&](const HeadPages& pages) {
        std::fill(image.begin(), image.end(), uint8_t{0});
        for (size_t i = 0; i < count; ++i) {
          const SlotId slot = slots[first + i];
          copy_slot(format, pages.page(slot / kPageTokens), static_cast<int>(slot % kPageTokens),
                    image.data(), static_cast<int>(i));
        }
        io.write(image.data(), image.size());
      });
    }
  }
}

// Appends to an empty sequence, so that tokens fill pages from slot 0 on.
void read_group(PagedCache& cache, llama_io_read_i& io, SeqId seq, size_t g) {
  const PageFormat& format = cache.format();
  PageTables& tables = cache.group(g).tables;
  const auto count = static_cast<size_t>(take<uint64_t>(io));
  if (count > cache.group(g).pool.capacity() * kPageTokens) {
    throw std::runtime_error("the saved sequence is larger than the paged KV cache");
  }
  std::vector<TokenPlace> places(count);
  for (TokenPlace& place : places) place = take<TokenPlace>(io);
  if (!cache.group(g).pool.commit((count + kPageTokens - 1) / kPageTokens)) {
    throw std::runtime_error("the paged KV cache has no room for the saved sequence");
  }
  tables.begin_step();
  std::vector<uint8_t> image(format.bytes());
  std::vector<PageCopy> copies;
  for (size_t first = 0; first < count; first += kPageTokens) {
    const size_t size = std::min<size_t>(kPageTokens, count - first);
    PageId page = kNoPage;
    for (size_t i = 0; i < size; ++i) {
      page = *tables.append({&seq, 1}, places[first + i], copies) / kPageTokens;
    }
    for_each_head(cache, g, [&](const HeadPages& pages) {
      io.read(image.data(), image.size());
      copy_page_prefix(format, image.data(), pages.page(page), static_cast<int>(size));
    });
  }
}

void read_sequence(PagedCache& cache, llama_io_read_i& io, SeqId seq) {
  cache.release(seq);
  try {
    for (size_t g = 0; g < cache.group_count(); ++g) read_group(cache, io, seq, g);
  } catch (...) {
    cache.release(seq);
    throw;
  }
}

}  // namespace

void write_state(PagedCache& cache, llama_io_write_i& io, SeqId seq) {
  const size_t all = cache.group(0).tables.sequences();
  put(io, header_of(cache, seq < 0 ? all : 1));
  if (seq >= 0) return write_sequence(cache, io, seq);
  for (size_t s = 0; s < all; ++s) write_sequence(cache, io, static_cast<SeqId>(s));
}

void read_state(PagedCache& cache, llama_io_read_i& io, SeqId seq) {
  const auto header = take<Header>(io);
  const Header expected = header_of(cache, seq < 0 ? cache.group(0).tables.sequences() : 1);
  if (std::memcmp(&header, &expected, sizeof header) != 0) {
    throw std::runtime_error("the saved state is of another KV cache (types, heads or sequences)");
  }
  if (seq >= 0) return read_sequence(cache, io, seq);
  for (uint32_t s = 0; s < header.sequences; ++s) {
    read_sequence(cache, io, static_cast<SeqId>(s));
  }
}

}  // namespace pm::llama

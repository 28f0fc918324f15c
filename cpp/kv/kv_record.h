// A page on its way to a file or back: the unit of the spill file and of saved conversations.
//
//   header | payload | xxh64 of both
//   header: magic, version, kind, digests of model and configuration, digest of the page, live
//           slots, layer groups, payload bytes
//   payload of a page: places of its 32 slots, then the page of each layer group in `groups`
//
// A record is taken back only if every field is as expected and the checksum agrees: anything else
// is an error that says what was found, never wrong bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/result.h"
#include "kv/digest.h"
#include "kv/page_bytes.h"
#include "kv/page_pool.h"
#include "kv/page_tables.h"

namespace pm {

enum class RecordKind : uint32_t {
  kPage = 1,
  kHead = 2,  // of a saved conversation: any payload
};

struct KvRecord {
  RecordKind kind = RecordKind::kPage;
  Digest digest;        // of the page; zeros if it has none
  uint32_t live = 0;    // slots that hold tokens
  uint32_t groups = 0;  // bit g: the page of layer group g is there
  std::vector<uint8_t> payload;
};

// What the pages of this process look like. Records of another layout are refused.
struct RecordLayout {
  Digest model;                    // the weights
  Digest config;                   // page format, layers, heads, RoPE settings
  std::vector<size_t> page_bytes;  // per layer group

  size_t payload_bytes(uint32_t groups) const;
  size_t record_bytes(size_t payload) const;
  // Of a page with every group.
  size_t max_record_bytes() const;
};

inline constexpr size_t kRecordHeaderBytes = 88;

std::vector<uint8_t> encode_record(const RecordLayout& layout, const KvRecord& record);
// Size of the whole record whose first kRecordHeaderBytes are given; `limit`: the bytes there are.
Result<size_t> record_size(const RecordLayout& layout, std::span<const uint8_t> header,
                           uint64_t limit);
Result<KvRecord> decode_record(const RecordLayout& layout, std::span<const uint8_t> bytes);

// One layer group's owner of pages.
struct LayerGroup {
  PagePool* pool;
  PageTables* tables;
};

// Copies a page out of memory. `pages`: one a group, kNoPage where there is none.
KvRecord capture_page(const Digest& digest, uint32_t live, std::span<const PageId> pages,
                      std::span<const LayerGroup> groups, const PageBytes& memory);

// Puts a page record into fresh pages, one a group (kNoPage where the record has none), which the
// caller holds. Nothing, and nothing taken, if a pool has no page ready.
std::optional<std::vector<PageId>> place_record(const KvRecord& record,
                                                std::span<const LayerGroup> groups,
                                                PageBytes& memory);

}  // namespace pm

#include "kv/kv_record.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <string>

#include "kv/checksum.h"

namespace pm {
namespace {

static_assert(std::endian::native == std::endian::little, "files are little-endian");

struct Header {
  std::array<char, 8> magic = {'P', 'M', 'K', 'V', 'P', 'A', 'G', 'E'};
  uint32_t version = 1;
  uint32_t kind = 0;
  Digest model;
  Digest config;
  Digest digest;
  uint32_t live = 0;
  uint32_t groups = 0;
  uint64_t payload_bytes = 0;
  uint32_t page_count = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(Header) == kRecordHeaderBytes && std::is_trivially_copyable_v<Header>);

constexpr size_t kPlacesBytes = sizeof(TokenPlace) * kPageTokens;
static_assert(sizeof(TokenPlace) == 12);
constexpr size_t kChecksumBytes = sizeof(uint64_t);

// `reason` is for programs, `found` for people.
Error refused(const char* reason, const std::string& found) {
  return {ErrorCode::kInvalidRequest,
          "expected saved KV pages of this model and configuration, found " + found,
          {{"reason", reason}}};
}

Header header_of(std::span<const uint8_t> bytes) {
  Header header;
  std::memcpy(&header, bytes.data(), sizeof(header));
  return header;
}

Status check_page(const RecordLayout& layout, const KvRecord& record) {
  const bool known = (uint64_t{record.groups} >> layout.page_bytes.size()) == 0;
  if (!known || record.groups == 0 || record.live == 0 ||
      record.payload.size() != layout.payload_bytes(record.groups)) {
    return refused("damaged", "a page record whose sizes contradict each other");
  }
  TokenPlace places[kPageTokens];
  std::memcpy(places, record.payload.data(), kPlacesBytes);
  for (uint32_t left = record.live; left != 0; left &= left - 1) {
    if (places[std::countr_zero(left)].pos < 0) {
      return refused("damaged", "a token before the start of its sequence");
    }
  }
  return {};
}

}  // namespace

size_t RecordLayout::payload_bytes(uint32_t groups) const {
  size_t bytes = kPlacesBytes;
  for (size_t group = 0; group < page_bytes.size(); ++group) {
    if (groups >> group & 1) bytes += page_bytes[group];
  }
  return bytes;
}

size_t RecordLayout::record_bytes(size_t payload) const {
  return kRecordHeaderBytes + payload + kChecksumBytes;
}

size_t RecordLayout::max_record_bytes() const {
  return record_bytes(payload_bytes((uint32_t{1} << page_bytes.size()) - 1));
}

std::vector<uint8_t> encode_record(const RecordLayout& layout, const KvRecord& record) {
  Header header;
  header.kind = static_cast<uint32_t>(record.kind);
  header.model = layout.model;
  header.config = layout.config;
  header.digest = record.digest;
  header.live = record.live;
  header.groups = record.groups;
  header.payload_bytes = record.payload.size();
  header.page_count = static_cast<uint32_t>(std::popcount(record.groups));

  const size_t covered = kRecordHeaderBytes + record.payload.size();
  std::vector<uint8_t> bytes(covered + kChecksumBytes);
  std::memcpy(bytes.data(), &header, sizeof(header));
  std::copy(record.payload.begin(), record.payload.end(), bytes.begin() + sizeof(header));
  const uint64_t checksum = xxh64(std::span(bytes).first(covered));
  std::memcpy(bytes.data() + covered, &checksum, sizeof(checksum));
  return bytes;
}

Result<size_t> record_size(const RecordLayout& layout, std::span<const uint8_t> bytes,
                           uint64_t limit) {
  if (bytes.size() < kRecordHeaderBytes) return refused("truncated", "the end of the file");
  const Header header = header_of(bytes);
  if (header.magic != Header().magic) return refused("not_a_record", "something else");
  if (header.version != Header().version) {
    return refused("version", "format version " + std::to_string(header.version) + ", not " +
                                  std::to_string(Header().version));
  }
  const uint64_t overhead = layout.record_bytes(0);
  if (limit < overhead || header.payload_bytes > limit - overhead) {
    return refused("truncated", "the end of the file in the middle of a page");
  }
  return layout.record_bytes(static_cast<size_t>(header.payload_bytes));
}

Result<KvRecord> decode_record(const RecordLayout& layout, std::span<const uint8_t> bytes) {
  const auto size = record_size(layout, bytes, bytes.size());
  if (!size) return size.error();
  const size_t covered = size.value() - kChecksumBytes;
  uint64_t checksum;
  std::memcpy(&checksum, bytes.data() + covered, sizeof(checksum));
  // First: a flipped bit in the model's digest is damage, not another model.
  if (checksum != xxh64(bytes.first(covered))) return refused("damaged", "damaged bytes");
  const Header header = header_of(bytes);
  if (header.model != layout.model) return refused("model", "pages of another model");
  if (header.config != layout.config) {
    return refused("config", "pages of another configuration (KV type, context, RoPE, adapters)");
  }
  const bool known_kind = header.kind == static_cast<uint32_t>(RecordKind::kPage) ||
                          header.kind == static_cast<uint32_t>(RecordKind::kHead);
  if (!known_kind) return refused("damaged", "a record of an unknown kind");

  KvRecord record;
  record.kind = static_cast<RecordKind>(header.kind);
  record.digest = header.digest;
  record.live = header.live;
  record.groups = header.groups;
  record.payload.assign(bytes.begin() + kRecordHeaderBytes,
                        bytes.begin() + static_cast<std::ptrdiff_t>(covered));
  if (record.kind == RecordKind::kPage) PM_TRY(check_page(layout, record));
  return record;
}

KvRecord capture_page(const Digest& digest, uint32_t live, std::span<const PageId> pages,
                      std::span<const LayerGroup> groups, const PageBytes& memory) {
  KvRecord record;
  record.digest = digest;
  record.live = live;
  size_t bytes = kPlacesBytes;
  for (size_t group = 0; group < pages.size(); ++group) {
    if (pages[group] == kNoPage) continue;
    record.groups |= uint32_t{1} << group;
    bytes += memory.page_bytes(group);
  }
  record.payload.resize(bytes);
  std::span<uint8_t> to(record.payload);
  // All groups hold the same tokens, so their places are the same.
  const auto any = static_cast<size_t>(std::countr_zero(record.groups));
  std::memcpy(to.data(), groups[any].tables->places(pages[any]).data(), kPlacesBytes);
  to = to.subspan(kPlacesBytes);
  for (size_t group = 0; group < pages.size(); ++group) {
    if (pages[group] == kNoPage) continue;
    memory.read(group, pages[group], to.first(memory.page_bytes(group)));
    to = to.subspan(memory.page_bytes(group));
  }
  return record;
}

std::optional<std::vector<PageId>> place_record(const KvRecord& record,
                                                std::span<const LayerGroup> groups,
                                                PageBytes& memory) {
  std::vector<PageId> pages(groups.size(), kNoPage);
  for (size_t group = 0; group < groups.size(); ++group) {
    if (!(record.groups >> group & 1)) continue;
    const auto page = groups[group].pool->take();
    if (!page) {
      for (size_t taken = 0; taken < group; ++taken) {
        if (pages[taken] != kNoPage) groups[taken].pool->release(pages[taken]);
      }
      return std::nullopt;
    }
    pages[group] = *page;
  }
  TokenPlace places[kPageTokens];
  std::memcpy(places, record.payload.data(), kPlacesBytes);
  std::span<const uint8_t> from = std::span(record.payload).subspan(kPlacesBytes);
  for (size_t group = 0; group < groups.size(); ++group) {
    if (pages[group] == kNoPage) continue;
    groups[group].tables->set_places(pages[group], places);
    memory.write(group, pages[group], from.first(memory.page_bytes(group)));
    from = from.subspan(memory.page_bytes(group));
  }
  return pages;
}

}  // namespace pm

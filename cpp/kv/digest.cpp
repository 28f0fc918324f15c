#include "kv/digest.h"

#include <algorithm>

namespace pm {
namespace {

std::span<const uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// Byte order is fixed so that digests in files mean the same everywhere.
void update_number(Sha256& hash, uint64_t value, size_t bytes) {
  uint8_t buffer[8];
  for (size_t i = 0; i < bytes; ++i) buffer[i] = static_cast<uint8_t>(value >> (8 * i));
  hash.update({buffer, bytes});
}

Digest cut(const std::array<uint8_t, 32>& whole) {
  Digest digest;
  std::copy_n(whole.begin(), digest.bytes.size(), digest.bytes.begin());
  return digest;
}

// What follows in the hashed stream: no token can pass for a medium.
constexpr uint64_t kToken = 1;
constexpr uint64_t kMedia = 2;

}  // namespace

Digest digest_of(std::span<const uint8_t> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return cut(hash.finish());
}

Digest chain_root(const ChainSalt& salt) {
  Sha256 hash;
  hash.update(bytes_of("polymind kv chain 1"));
  // Lengths first: the border between two fields cannot be moved.
  for (const std::string_view field : {salt.model, salt.config, salt.adapter, salt.tenant}) {
    update_number(hash, field.size(), 8);
    hash.update(bytes_of(field));
  }
  return cut(hash.finish());
}

void DigestChain::start_page() {
  page_ = Sha256();
  page_.update(pages_.empty() ? root_.bytes : pages_.back().bytes);
  in_page_ = 0;
}

void DigestChain::finish_token() {
  if (++in_page_ < kPageTokens) return;
  pages_.push_back(cut(page_.finish()));
  start_page();
}

void DigestChain::add_token(int32_t token) {
  update_number(page_, kToken, 1);
  update_number(page_, static_cast<uint32_t>(token), 4);
  finish_token();
}

void DigestChain::add_media(const Digest& media, uint32_t offset) {
  update_number(page_, kMedia, 1);
  page_.update(media.bytes);
  update_number(page_, offset, 4);
  finish_token();
}

}  // namespace pm

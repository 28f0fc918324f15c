// Names for what a page holds: equal digests, equal keys and values.
//
// A page's digest covers everything before it, so one comparison decides about a whole prefix.
// SHA-256, cut to 128 bits: tenants share one cache, so a fast hash that can be made to collide
// would hand one tenant the other's text; a keyed hash (SipHash) would be as safe and faster, but
// its key dies with the process and saved conversations must keep their names.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "kv/page_format.h"
#include "kv/sha256.h"

namespace pm {

struct Digest {
  std::array<uint8_t, 16> bytes{};
  auto operator<=>(const Digest&) const = default;
};

struct DigestHash {
  size_t operator()(const Digest& digest) const {
    size_t value;
    std::memcpy(&value, digest.bytes.data(), sizeof(value));
    return value;  // already uniform
  }
};

// What keys and values depend on besides the tokens, and who may see them.
struct ChainSalt {
  std::string_view model;    // digest of the weights
  std::string_view config;   // page format, RoPE settings, …
  std::string_view adapter;  // LoRA; empty: none
  std::string_view tenant;   // requests with different tenants never share
};

Digest chain_root(const ChainSalt& salt);
Digest digest_of(std::span<const uint8_t> bytes);

// The digests of a sequence's full pages, built as its tokens arrive.
class DigestChain {
 public:
  explicit DigestChain(const Digest& root) : root_(root) { start_page(); }

  void add_token(int32_t token);
  // Embedding `offset` of a medium. `media` must cover all that the embedding and its position
  // depend on: content, preprocessing, encoder.
  void add_media(const Digest& media, uint32_t offset);

  size_t tokens() const { return pages_.size() * kPageTokens + in_page_; }
  // One for each full page.
  std::span<const Digest> pages() const { return pages_; }
  // Those to look up for a prompt: at least one token of it is left to evaluate, so that there are
  // logits.
  std::span<const Digest> lookup() const {
    return pages().first(tokens() == 0 ? 0 : (tokens() - 1) / kPageTokens);
  }

 private:
  void start_page();
  void finish_token();

  Digest root_;
  std::vector<Digest> pages_;
  Sha256 page_;
  size_t in_page_ = 0;
};

}  // namespace pm

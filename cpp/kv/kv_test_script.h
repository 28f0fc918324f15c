// Sequences for random tests: tokens whose contents follow from all that came before, as keys and
// values do.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kv/digest.h"
#include "kv/page_tables.h"

namespace pm::kv_test {

struct Token {
  TokenPlace place;
  uint64_t content = 0;
  Pos next = 0;           // position after it
  bool boundary = false;  // a sequence may be cut after it
};

inline uint64_t mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

// What a sequence is going to hold: contents follow from all that came before, as in a model.
struct Script {
  std::vector<Token> tokens;
  std::vector<Digest> lookup;
  std::vector<Digest> pages;
};

// Pieces of 20 words or of an image (9 embeddings at one position), one for each letter.
inline Script make_script(uint64_t seed, const std::string& letters) {
  Script script;
  DigestChain chain(chain_root({std::to_string(seed), "", "", ""}));
  uint64_t content = seed;
  Pos pos = 0;
  const auto add = [&](const TokenPlace& place, Pos next, bool boundary) {
    script.tokens.push_back({place, content, next, boundary});
  };
  for (const char letter : letters) {
    if (letter == 'i') {
      for (Pos i = 0; i < 9; ++i) {
        content = mix(content + 1000);
        chain.add_media({}, static_cast<uint32_t>(i));
        add({pos, i % 3, i / 3}, i == 8 ? pos + 3 : pos, i == 8);
      }
      pos += 3;
    } else {
      for (int i = 0; i < 20; ++i) {
        content = mix(content + static_cast<uint64_t>(letter));
        chain.add_token(letter);
        add({pos, pos, pos}, pos + 1, true);
        ++pos;
      }
    }
  }
  script.lookup.assign(chain.lookup().begin(), chain.lookup().end());
  script.pages.assign(chain.pages().begin(), chain.pages().end());
  return script;
}

}  // namespace pm::kv_test

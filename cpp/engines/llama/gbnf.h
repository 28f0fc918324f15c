// Checks a GBNF grammar before llama.cpp parses it. llama.cpp's parser recurses once a parenthesis,
// never returns from {3,2}, expands repetitions without looking at their size, forgets upper bounds
// above 2000 and says of a mistake only what text follows it.
#pragma once

#include <cstddef>
#include <functional>
#include <string_view>

#include "core/result.h"

namespace pm::llama {

// What a grammar may name besides its own rules.
struct GbnfVocabulary {
  size_t size = 0;
  // Is `tag` (such as "<think>") the spelling of exactly one token?
  std::function<bool(std::string_view tag)> is_token;
};

// What the sampler wants to know about a grammar.
struct GbnfFacts {
  // Some item is a token (<name>, <[id]>) rather than text.
  bool names_tokens = false;
};

// Fails with kInvalidRequest, saying line, column and what was expected there.
Result<GbnfFacts> check_gbnf(std::string_view grammar, const GbnfVocabulary& vocabulary);

}  // namespace pm::llama

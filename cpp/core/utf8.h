// UTF-8 helpers for text that arrives in pieces.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace pm {

// Length of the longest prefix of `text` that does not end inside a multi-byte character. A byte
// that can never start or continue a character counts as complete (it becomes U+FFFD later).
size_t complete_utf8_prefix(std::string_view text);

// Copy of `text` with every invalid sequence replaced by U+FFFD.
std::string sanitize_utf8(std::string_view text);

}  // namespace pm

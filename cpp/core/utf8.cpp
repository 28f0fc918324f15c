#include "core/utf8.h"

namespace pm {
namespace {

// Bytes a character that starts with `lead` needs; 0 if `lead` cannot start one.
size_t sequence_length(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return 2;
  if (lead >= 0xE0 && lead <= 0xEF) return 3;
  if (lead >= 0xF0 && lead <= 0xF4) return 4;
  return 0;
}

// The second byte has a narrower range after some leads (overlong forms, surrogates, > U+10FFFF).
bool valid_second(unsigned char lead, unsigned char second) {
  if (lead == 0xE0) return second >= 0xA0 && second <= 0xBF;
  if (lead == 0xED) return second >= 0x80 && second <= 0x9F;
  if (lead == 0xF0) return second >= 0x90 && second <= 0xBF;
  if (lead == 0xF4) return second >= 0x80 && second <= 0x8F;
  return (second & 0xC0) == 0x80;
}

// Number of bytes at `pos` that form a valid character, or are a valid start of one (the "maximal
// subpart" that Unicode replaces by one U+FFFD). `complete` says which of the two.
size_t valid_run(std::string_view text, size_t pos, bool& complete) {
  const auto lead = static_cast<unsigned char>(text[pos]);
  const size_t need = sequence_length(lead);
  complete = false;
  if (need == 0) return 0;
  size_t have = 1;
  while (have < need && pos + have < text.size()) {
    const auto byte = static_cast<unsigned char>(text[pos + have]);
    const bool good = have == 1 ? valid_second(lead, byte) : (byte & 0xC0) == 0x80;
    if (!good) break;
    ++have;
  }
  complete = have == need;
  return have;
}

}  // namespace

size_t complete_utf8_prefix(std::string_view text) {
  // Only the last three bytes can belong to an unfinished character.
  const size_t start = text.size() > 3 ? text.size() - 3 : 0;
  for (size_t pos = start; pos < text.size(); ++pos) {
    if ((static_cast<unsigned char>(text[pos]) & 0xC0) == 0x80) continue;
    bool complete = false;
    const size_t run = valid_run(text, pos, complete);
    if (run > 0 && !complete && pos + run == text.size()) return pos;
  }
  return text.size();
}

std::string sanitize_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    bool complete = false;
    const size_t run = valid_run(text, pos, complete);
    if (run > 0 && complete) {
      out.append(text.substr(pos, run));
      pos += run;
    } else {
      out += "\xEF\xBF\xBD";
      pos += run > 0 ? run : 1;
    }
  }
  return out;
}

}  // namespace pm

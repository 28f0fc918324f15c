#include "core/json_writer.h"

#include <cstdio>

#include "core/utf8.h"

namespace pm {

JsonWriter& JsonWriter::value(double number) {
  if (!std::isfinite(number)) return raw("null");
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.9g", number);
  return raw(buffer);
}

void JsonWriter::quote(std::string_view text) {
  out_ += '"';
  for (const char c : sanitize_utf8(text)) {
    switch (c) {
      case '"':
        out_ += "\\\"";
        break;
      case '\\':
        out_ += "\\\\";
        break;
      case '\n':
        out_ += "\\n";
        break;
      case '\r':
        out_ += "\\r";
        break;
      case '\t':
        out_ += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          char buffer[8];
          std::snprintf(buffer, sizeof buffer, "\\u%04x", c);
          out_ += buffer;
        } else {
          out_ += c;
        }
    }
  }
  out_ += '"';
}

}  // namespace pm

// Shared by the semantic checks: typed access to keys, and one form of message.
#pragma once

#include <cmath>
#include <optional>
#include <string>
#include <string_view>

#include "engines/gguf/check.h"

namespace pm::gguf {

Error model_error(std::string_view where, std::string_view expected, std::string_view found);

// "true", "3", "0.5", "\"llama\"", "an array of 3 i32".
std::string describe(const Value& value);

// "[3, 4]".
std::string describe_shape(const Tensor& tensor);

// What a key's value has to be. Bounds are inclusive and ignored for strings and bools.
struct KeyRule {
  std::string_view key;
  ValueType type;
  double min = 0;
  double max = 0;
  bool required = false;
};

// Holds a key against its rule; absent optional keys pass. A float has to be finite.
Status check_key(const GgufFile& file, const KeyRule& rule, std::string_view prefix = {});

// The value of a key that check_key accepted.
std::optional<uint64_t> find_u32(const GgufFile& file, const std::string& key);
std::optional<double> find_f32(const GgufFile& file, const std::string& key);
std::optional<bool> find_bool(const GgufFile& file, const std::string& key);

// Status of `holds`, so that a rule reads as one line.
Status require(bool holds, std::string_view where, std::string_view expected,
               const std::string& found);

}  // namespace pm::gguf

// A strict reader for the header of a GGUF file (versions 2 and 3). It trusts nothing: every count,
// length and offset is held against the real size of the file before memory is spent or a byte is
// used. A file that passes is one that llama.cpp's own reader accepts with the same sizes.
//
// Layout of a file, little-endian:
//   "GGUF" | version u32 | tensors u64 | keys u64
//   keys    x { name str | type u32 | value }           str = length u64 + bytes
//   tensors x { name str | dims u32 | shape u64[dims] | type u32 | offset u64 }
//   padding to `alignment` | tensor data, each padded to `alignment`
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "core/result.h"
#include "engines/gguf/tensor_types.h"

namespace pm::gguf {

// Upper bounds, all inclusive. The defaults admit every published model and keep a hostile file
// from exhausting memory or time.
struct Limits {
  uint64_t metadata_bytes = uint64_t{1} << 30;
  uint64_t keys = 65536;
  uint64_t key_bytes = 1024;
  uint64_t string_bytes = uint64_t{64} << 20;
  uint64_t tensors = 1000000;
};

// ggml stores tensor names in 64 bytes with a terminator.
inline constexpr uint64_t kMaxTensorName = 63;
inline constexpr uint32_t kMaxDims = 4;
inline constexpr uint64_t kDefaultAlignment = 32;

// A metadata array. Numbers stay as they lie in the file; strings share one buffer.
struct Array {
  ValueType type = ValueType::kUint8;
  uint64_t length = 0;
  std::string bytes;
  // Strings only: string i is bytes[ends[i - 1], ends[i]).
  std::vector<uint64_t> ends;

  // Precondition for all three: i < length, and the type fits.
  std::string_view string_at(uint64_t i) const;
  double number_at(uint64_t i) const;
  int64_t integer_at(uint64_t i) const;
};

// A scalar is widened (unsigned -> uint64_t, signed -> int64_t, floats -> double); `type` keeps
// what the file said.
struct Value {
  ValueType type = ValueType::kUint8;
  std::variant<uint64_t, int64_t, double, bool, std::string, Array> data;

  const Array* array() const { return std::get_if<Array>(&data); }
  const std::string* string() const { return std::get_if<std::string>(&data); }
  bool is_integer() const {
    return std::holds_alternative<uint64_t>(data) || std::holds_alternative<int64_t>(data);
  }
};

struct KeyValue {
  std::string key;
  Value value;
  // Bytes from the start of the file to the value.
  uint64_t offset = 0;
};

struct Tensor {
  std::string name;
  uint32_t type = 0;
  uint32_t dims = 0;
  // Unused dimensions are 1. shape[0] is the contiguous one (a row).
  uint64_t shape[kMaxDims] = {1, 1, 1, 1};
  // Bytes from the start of the data section.
  uint64_t offset = 0;
  uint64_t bytes = 0;

  uint64_t elements() const { return shape[0] * shape[1] * shape[2] * shape[3]; }
};

struct GgufFile {
  uint32_t version = 0;
  uint64_t file_bytes = 0;
  uint64_t alignment = kDefaultAlignment;
  // Where tensor data starts.
  uint64_t data_offset = 0;
  std::vector<KeyValue> metadata;
  std::vector<Tensor> tensors;

  // nullptr when absent.
  const KeyValue* find(std::string_view key) const;
  const Tensor* find_tensor(std::string_view name) const;
  // The text of a string key; `fallback` when absent or of another type.
  std::string_view text(std::string_view key, std::string_view fallback = {}) const;

  std::unordered_map<std::string, size_t> key_index;
  std::unordered_map<std::string, size_t> tensor_index;
};

// Errors: kModelNotFound (no such file), kModelInvalid (not a regular file, or any rule broken; the
// message says what was expected, at which offset and key, and what was found).
Result<GgufFile> read_gguf(const std::string& path, const Limits& limits = {});

// The same for bytes in memory (tests, fuzzing).
Result<GgufFile> parse_gguf(std::span<const std::byte> bytes, const Limits& limits = {});

// For `mm inspect`: one JSON object {version, architecture, name, quantization, file_bytes,
// metadata_bytes, parameters, tensor_bytes, metadata: {key: value}, tensors: [{name, type, shape,
// bytes}]}. Arrays longer than 8 become {type, length, first: [...]}; strings longer than 256 bytes
// become {type, length, first}.
std::string to_json(const GgufFile& file);

}  // namespace pm::gguf

// The element types of GGUF metadata and of tensors, with the sizes ggml gives them. Kept apart
// from ggml so that a file can be checked before any third-party code sees it.
#pragma once

#include <cstdint>
#include <string_view>

namespace pm::gguf {

// Metadata value types, numbered as in the file.
enum class ValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// Name as in the GGUF specification, e.g. "u32"; "unknown" for other numbers.
std::string_view value_type_name(ValueType type);

// Bytes of one scalar in the file; 0 for strings, arrays and unknown types.
uint64_t value_type_size(ValueType type);

// Tensor types that code here refers to by name.
inline constexpr uint32_t kTensorF32 = 0;
inline constexpr uint32_t kTensorF16 = 1;
inline constexpr uint32_t kTensorQ8_1 = 9;
inline constexpr uint32_t kTensorQ8K = 15;
inline constexpr uint32_t kTensorI8 = 24;
inline constexpr uint32_t kTensorI32 = 26;
inline constexpr uint32_t kTensorF64 = 28;

struct TensorTraits {
  std::string_view name;
  // Elements that share one block; a row's length is a multiple of it.
  uint32_t block_elements;
  uint32_t block_bytes;
};

// nullptr for a number that is unknown or was withdrawn (4, 5, 31 to 33, 36 to 38).
const TensorTraits* tensor_traits(uint32_t type);

// One past the largest tensor type number known here.
uint32_t tensor_type_count();

}  // namespace pm::gguf

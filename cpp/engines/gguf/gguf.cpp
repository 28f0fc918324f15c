#include "engines/gguf/gguf.h"

#include <cassert>
#include <cstring>

namespace pm::gguf {
namespace {

template <typename T>
T load(const std::string& bytes, uint64_t index) {
  T value{};
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

// Calls `use` with element `i` in its own type.
template <typename Use>
auto with_element(const Array& array, uint64_t i, Use use) {
  switch (array.type) {
    case ValueType::kInt8:
      return use(load<int8_t>(array.bytes, i));
    case ValueType::kUint16:
      return use(load<uint16_t>(array.bytes, i));
    case ValueType::kInt16:
      return use(load<int16_t>(array.bytes, i));
    case ValueType::kUint32:
      return use(load<uint32_t>(array.bytes, i));
    case ValueType::kInt32:
      return use(load<int32_t>(array.bytes, i));
    case ValueType::kFloat32:
      return use(load<float>(array.bytes, i));
    case ValueType::kUint64:
      return use(load<uint64_t>(array.bytes, i));
    case ValueType::kInt64:
      return use(load<int64_t>(array.bytes, i));
    case ValueType::kFloat64:
      return use(load<double>(array.bytes, i));
    default:
      return use(load<uint8_t>(array.bytes, i));
  }
}

}  // namespace

std::string_view Array::string_at(uint64_t i) const {
  assert(type == ValueType::kString && i < length);
  const uint64_t begin = i == 0 ? 0 : ends[i - 1];
  return std::string_view(bytes).substr(begin, ends[i] - begin);
}

double Array::number_at(uint64_t i) const {
  assert(type != ValueType::kString && i < length);
  return with_element(*this, i, [](auto value) { return static_cast<double>(value); });
}

int64_t Array::integer_at(uint64_t i) const {
  assert(type != ValueType::kString && type != ValueType::kFloat32 && type != ValueType::kFloat64 &&
         i < length);
  return with_element(*this, i, [](auto value) { return static_cast<int64_t>(value); });
}

const KeyValue* GgufFile::find(std::string_view key) const {
  const auto found = key_index.find(std::string(key));
  return found == key_index.end() ? nullptr : &metadata[found->second];
}

const Tensor* GgufFile::find_tensor(std::string_view name) const {
  const auto found = tensor_index.find(std::string(name));
  return found == tensor_index.end() ? nullptr : &tensors[found->second];
}

std::string_view GgufFile::text(std::string_view key, std::string_view fallback) const {
  const KeyValue* entry = find(key);
  const std::string* text = entry == nullptr ? nullptr : entry->value.string();
  return text == nullptr ? fallback : std::string_view(*text);
}

}  // namespace pm::gguf

// Test support: writes GGUF files in memory, valid ones and, on purpose, broken ones.
#pragma once

#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "engines/gguf/gguf.h"

namespace pm::gguf::testing {

template <typename T>
std::string raw(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

inline std::string text(std::string_view value) {
  return raw<uint64_t>(value.size()) + std::string(value);
}

struct TestValue {
  uint32_t type = 0;
  std::string bytes;
};

inline TestValue u32(uint32_t value) { return {4, raw(value)}; }
inline TestValue i32(int32_t value) { return {5, raw(value)}; }
inline TestValue f32(float value) { return {6, raw(value)}; }
inline TestValue boolean(bool value) { return {7, raw<uint8_t>(value)}; }
inline TestValue str(std::string_view value) { return {8, text(value)}; }

template <typename T>
TestValue array(uint32_t type, const std::vector<T>& values) {
  std::string bytes = raw(type) + raw<uint64_t>(values.size());
  for (const T& value : values) {
    if constexpr (std::is_same_v<T, std::string>) {
      bytes += text(value);
    } else {
      bytes += raw(value);
    }
  }
  return {9, bytes};
}

inline TestValue floats(const std::vector<float>& values) { return array(6, values); }
inline TestValue ints(const std::vector<int32_t>& values) { return array(5, values); }
inline TestValue strings(const std::vector<std::string>& values) { return array(8, values); }

struct TestTensor {
  std::string name;
  std::vector<uint64_t> shape;
  uint32_t type = kTensorF32;
  // -1: where it belongs.
  int64_t offset = -1;
};

// The parts of a file. Tests change one and expect one message.
struct TestModel {
  std::vector<std::pair<std::string, TestValue>> keys;
  std::vector<TestTensor> tensors;
  uint32_t version = 3;
  uint64_t alignment = 32;
  bool with_data = true;

  void set(const std::string& key, TestValue value) {
    for (auto& entry : keys) {
      if (entry.first == key) {
        entry.second = std::move(value);
        return;
      }
    }
    keys.emplace_back(key, std::move(value));
  }
  void remove(const std::string& key) {
    std::erase_if(keys, [&](const auto& entry) { return entry.first == key; });
  }
  TestTensor& tensor(const std::string& name) {
    for (TestTensor& entry : tensors) {
      if (entry.name == name) return entry;
    }
    return tensors.emplace_back(TestTensor{name, {1}});
  }
  void remove_tensor(const std::string& name) {
    std::erase_if(tensors, [&](const TestTensor& entry) { return entry.name == name; });
  }

  static uint64_t bytes_of(const TestTensor& tensor) {
    uint64_t elements = 1;
    for (const uint64_t dim : tensor.shape) elements *= dim;
    const TensorTraits* traits = tensor_traits(tensor.type);
    return traits == nullptr ? elements : elements / traits->block_elements * traits->block_bytes;
  }

  std::string write() const {
    std::string out =
        "GGUF" + raw(version) + raw<uint64_t>(tensors.size()) + raw<uint64_t>(keys.size());
    for (const auto& [key, value] : keys) out += text(key) + raw(value.type) + value.bytes;
    uint64_t next = 0;
    for (const TestTensor& entry : tensors) {
      out += text(entry.name) + raw(static_cast<uint32_t>(entry.shape.size()));
      for (const uint64_t dim : entry.shape) out += raw(dim);
      out += raw(entry.type) +
             raw<uint64_t>(entry.offset < 0 ? next : static_cast<uint64_t>(entry.offset));
      next += (bytes_of(entry) + alignment - 1) / alignment * alignment;
    }
    if (!with_data) return out;
    out.resize((out.size() + alignment - 1) / alignment * alignment + next, '\1');
    return out;
  }
};

inline Result<GgufFile> parse(const std::string& bytes, const Limits& limits = {}) {
  return parse_gguf(std::as_bytes(std::span(bytes.data(), bytes.size())), limits);
}

// A llama of two layers with a byte-fallback vocabulary.
TestModel tiny_llama();

// Its projector: a ViT of two layers behind projector type lightonocr.
TestModel tiny_projector();

// The same encoder in the form of another plain-ViT projector type.
TestModel tiny_projector(std::string_view type);

}  // namespace pm::gguf::testing

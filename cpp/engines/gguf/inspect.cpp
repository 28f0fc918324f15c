#include <algorithm>
#include <string>

#include "core/json_writer.h"
#include "engines/gguf/gguf.h"

namespace pm::gguf {
namespace {

constexpr uint64_t kShownElements = 8;
constexpr uint64_t kShownBytes = 256;

// general.file_type names the mixture that most tensors were quantized to (llama_ftype).
std::string_view file_type_name(uint64_t type) {
  switch (type) {
    case 0:
      return "F32";
    case 1:
      return "F16";
    case 2:
      return "Q4_0";
    case 3:
      return "Q4_1";
    case 7:
      return "Q8_0";
    case 8:
      return "Q5_0";
    case 9:
      return "Q5_1";
    case 10:
      return "Q2_K";
    case 11:
      return "Q3_K_S";
    case 12:
      return "Q3_K_M";
    case 13:
      return "Q3_K_L";
    case 14:
      return "Q4_K_S";
    case 15:
      return "Q4_K_M";
    case 16:
      return "Q5_K_S";
    case 17:
      return "Q5_K_M";
    case 18:
      return "Q6_K";
    case 32:
      return "BF16";
    default:
      return {};
  }
}

// The type that holds the most bytes, for files without a known general.file_type.
std::string dominant_type(const GgufFile& file) {
  std::vector<uint64_t> bytes(tensor_type_count(), 0);
  for (const Tensor& tensor : file.tensors) bytes[tensor.type] += tensor.bytes;
  const auto most = std::max_element(bytes.begin(), bytes.end());
  if (most == bytes.end() || *most == 0) return {};
  return std::string(tensor_traits(static_cast<uint32_t>(most - bytes.begin()))->name);
}

std::string quantization(const GgufFile& file) {
  const KeyValue* entry = file.find("general.file_type");
  if (entry != nullptr) {
    if (const auto* type = std::get_if<uint64_t>(&entry->value.data)) {
      const std::string_view name = file_type_name(*type);
      if (!name.empty()) return std::string(name);
    }
  }
  return dominant_type(file);
}

void write_text(JsonWriter& json, std::string_view text) {
  if (text.size() <= kShownBytes) {
    json.value(text);
    return;
  }
  json.begin_object()
      .field("type", "str")
      .field("length", text.size())
      .field("first", text.substr(0, kShownBytes))
      .end_object();
}

void write_element(JsonWriter& json, const Array& array, uint64_t i) {
  if (array.type == ValueType::kString) {
    write_text(json, array.string_at(i));
  } else if (array.type == ValueType::kBool) {
    json.value(array.integer_at(i) != 0);
  } else if (array.type == ValueType::kFloat32 || array.type == ValueType::kFloat64) {
    json.value(array.number_at(i));
  } else {
    json.value(array.integer_at(i));
  }
}

void write_elements(JsonWriter& json, const Array& array) {
  json.begin_array();
  for (uint64_t i = 0; i < std::min(array.length, kShownElements); ++i) {
    write_element(json, array, i);
  }
  json.end_array();
}

void write_array(JsonWriter& json, const Array& array) {
  if (array.length <= kShownElements) {
    write_elements(json, array);
    return;
  }
  json.begin_object()
      .field("type", value_type_name(array.type))
      .field("length", array.length)
      .key("first");
  write_elements(json, array);
  json.end_object();
}

struct ValueWriter {
  JsonWriter& json;
  void operator()(uint64_t number) const { json.value(number); }
  void operator()(int64_t number) const { json.value(number); }
  void operator()(double number) const { json.value(number); }
  void operator()(bool flag) const { json.value(flag); }
  void operator()(const std::string& text) const { write_text(json, text); }
  void operator()(const Array& array) const { write_array(json, array); }
};

void write_tensor(JsonWriter& json, const Tensor& tensor) {
  json.begin_object()
      .field("name", tensor.name)
      .field("type", tensor_traits(tensor.type)->name)
      .key("shape")
      .begin_array();
  for (uint32_t i = 0; i < tensor.dims; ++i) json.value(tensor.shape[i]);
  json.end_array().field("bytes", tensor.bytes).end_object();
}

}  // namespace

std::string to_json(const GgufFile& file) {
  uint64_t parameters = 0;
  uint64_t tensor_bytes = 0;
  for (const Tensor& tensor : file.tensors) {
    parameters += tensor.elements();
    tensor_bytes += tensor.bytes;
  }
  JsonWriter json;
  json.begin_object()
      .field("version", file.version)
      .field("architecture", file.text("general.architecture"))
      .field("name", file.text("general.name"))
      .field("quantization", quantization(file))
      .field("file_bytes", file.file_bytes)
      .field("metadata_bytes", file.data_offset)
      .field("alignment", file.alignment)
      .field("parameters", parameters)
      .field("tensor_bytes", tensor_bytes)
      .key("metadata")
      .begin_object();
  for (const KeyValue& entry : file.metadata) {
    json.key(entry.key);
    std::visit(ValueWriter{json}, entry.value.data);
  }
  json.end_object().key("tensors").begin_array();
  for (const Tensor& tensor : file.tensors) write_tensor(json, tensor);
  json.end_array().end_object();
  return json.str();
}

}  // namespace pm::gguf

#include "engines/gguf/check_util.h"

#include <cstdio>

#include "core/utf8.h"

namespace pm::gguf {
namespace {

std::string format_number(double number) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.9g", number);
  return text;
}

std::optional<double> as_number(const Value& value) {
  if (const auto* number = std::get_if<uint64_t>(&value.data)) {
    return static_cast<double>(*number);
  }
  if (const auto* number = std::get_if<int64_t>(&value.data)) return static_cast<double>(*number);
  if (const auto* number = std::get_if<double>(&value.data)) return *number;
  return std::nullopt;
}

}  // namespace

Error model_error(std::string_view where, std::string_view expected, std::string_view found) {
  Error error{ErrorCode::kModelInvalid, "expected " + std::string(expected) + " in the model (" +
                                            std::string(where) + "), found " + std::string(found)};
  error.details = {{"where", std::string(where)},
                   {"expected", std::string(expected)},
                   {"received", std::string(found)}};
  return error;
}

std::string describe(const Value& value) {
  if (const std::string* text = value.string()) {
    return "\"" + sanitize_utf8(std::string_view(*text).substr(0, 80)) + "\"";
  }
  if (const Array* array = value.array()) {
    return "an array of " + std::to_string(array->length) + " " +
           std::string(value_type_name(array->type));
  }
  if (const bool* flag = std::get_if<bool>(&value.data)) return *flag ? "true" : "false";
  return format_number(as_number(value).value_or(0));
}

std::string describe_shape(const Tensor& tensor) {
  std::string text = "[";
  for (uint32_t i = 0; i < tensor.dims; ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(tensor.shape[i]);
  }
  return text + "]";
}

Status check_key(const GgufFile& file, const KeyRule& rule, std::string_view prefix) {
  const std::string key = std::string(prefix) + std::string(rule.key);
  const KeyValue* entry = file.find(key);
  if (entry == nullptr) {
    if (!rule.required) return {};
    return model_error("key " + key, std::string(value_type_name(rule.type)), "no such key");
  }
  const std::string where = "key " + key + " at offset " + std::to_string(entry->offset);
  if (entry->value.type != rule.type) {
    return model_error(where, "type " + std::string(value_type_name(rule.type)),
                       "type " + std::string(value_type_name(entry->value.type)));
  }
  const std::optional<double> number = as_number(entry->value);
  if (!number) return {};
  if (!std::isfinite(*number) || *number < rule.min || *number > rule.max) {
    return model_error(where,
                       "a value from " + format_number(rule.min) + " to " + format_number(rule.max),
                       format_number(*number));
  }
  return {};
}

std::optional<uint64_t> find_u32(const GgufFile& file, const std::string& key) {
  const KeyValue* entry = file.find(key);
  if (entry == nullptr || entry->value.type != ValueType::kUint32) return std::nullopt;
  return std::get<uint64_t>(entry->value.data);
}

std::optional<double> find_f32(const GgufFile& file, const std::string& key) {
  const KeyValue* entry = file.find(key);
  if (entry == nullptr || entry->value.type != ValueType::kFloat32) return std::nullopt;
  return std::get<double>(entry->value.data);
}

std::optional<bool> find_bool(const GgufFile& file, const std::string& key) {
  const KeyValue* entry = file.find(key);
  if (entry == nullptr || entry->value.type != ValueType::kBool) return std::nullopt;
  return std::get<bool>(entry->value.data);
}

Status require(bool holds, std::string_view where, std::string_view expected,
               const std::string& found) {
  if (holds) return {};
  return model_error(where, expected, found);
}

}  // namespace pm::gguf

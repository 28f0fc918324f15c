#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "engines/gguf/gguf.h"
#include "engines/gguf/testing_models.h"

namespace pm::gguf {
namespace {

using testing::parse;
using testing::raw;
using testing::TestModel;
using testing::text;
using testing::tiny_llama;

// The header alone: counts that the caller claims, then `body`.
std::string header(uint64_t tensors, uint64_t keys, const std::string& body = {},
                   uint32_t version = 3) {
  return "GGUF" + raw(version) + raw(tensors) + raw(keys) + body;
}

std::string key(const std::string& name, uint32_t type, const std::string& value) {
  return text(name) + raw(type) + value;
}

void expect_error(const std::string& bytes, const std::string& message) {
  const auto file = parse(bytes);
  ASSERT_FALSE(file.ok()) << "accepted; wanted: " << message;
  EXPECT_EQ(file.error().code, ErrorCode::kModelInvalid);
  EXPECT_NE(file.error().message.find(message), std::string::npos)
      << "wanted: " << message << "\ngot: " << file.error().message;
}

TEST(GgufParse, ReadsKeysAndTensors) {
  const std::string bytes = tiny_llama().write();
  const auto parsed = parse(bytes);
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  const GgufFile& file = parsed.value();
  EXPECT_EQ(file.version, 3u);
  EXPECT_EQ(file.file_bytes, bytes.size());
  EXPECT_EQ(file.text("general.architecture"), "llama");
  const Array* tokens = file.find("tokenizer.ggml.tokens")->value.array();
  ASSERT_NE(tokens, nullptr);
  EXPECT_EQ(tokens->length, 264u);
  EXPECT_EQ(tokens->string_at(0), "<unk>");
  EXPECT_EQ(tokens->string_at(263),
            "\xE2\x96\x81"
            "a");
  EXPECT_EQ(file.find("tokenizer.ggml.scores")->value.array()->number_at(7), -1.0);
  const Tensor* embedding = file.find_tensor("token_embd.weight");
  ASSERT_NE(embedding, nullptr);
  EXPECT_EQ(embedding->bytes, 64u * 264 * 4);
  EXPECT_EQ(embedding->offset, 0u);
  EXPECT_EQ(file.data_offset % 32, 0u);
  EXPECT_EQ(file.find("no such key"), nullptr);
}

TEST(GgufParse, ReadsEveryScalarTypeAndKeepsItsValue) {
  const std::string body = key("a", 0, raw<uint8_t>(200)) + key("b", 1, raw<int8_t>(-3)) +
                           key("c", 2, raw<uint16_t>(60000)) + key("d", 3, raw<int16_t>(-300)) +
                           key("e", 4, raw<uint32_t>(4000000000u)) + key("f", 5, raw<int32_t>(-5)) +
                           key("g", 6, raw<float>(0.5f)) + key("h", 7, raw<uint8_t>(1)) +
                           key("i", 8, text("hi")) + key("j", 10, raw<uint64_t>(1ull << 60)) +
                           key("k", 11, raw<int64_t>(-1)) + key("l", 12, raw<double>(0.25));
  const auto file = parse(header(0, 12, body));
  ASSERT_TRUE(file.ok()) << file.error().message;
  const auto& keys = file.value().metadata;
  EXPECT_EQ(std::get<uint64_t>(keys[0].value.data), 200u);
  EXPECT_EQ(std::get<int64_t>(keys[1].value.data), -3);
  EXPECT_EQ(std::get<uint64_t>(keys[2].value.data), 60000u);
  EXPECT_EQ(std::get<int64_t>(keys[3].value.data), -300);
  EXPECT_EQ(std::get<uint64_t>(keys[4].value.data), 4000000000u);
  EXPECT_EQ(std::get<int64_t>(keys[5].value.data), -5);
  EXPECT_EQ(std::get<double>(keys[6].value.data), 0.5);
  EXPECT_TRUE(std::get<bool>(keys[7].value.data));
  EXPECT_EQ(*keys[8].value.string(), "hi");
  EXPECT_EQ(std::get<uint64_t>(keys[9].value.data), 1ull << 60);
  EXPECT_EQ(std::get<int64_t>(keys[10].value.data), -1);
  EXPECT_EQ(std::get<double>(keys[11].value.data), 0.25);
}

TEST(GgufParse, AcceptsVersion2AndAScalarTensor) {
  TestModel model;
  model.version = 2;
  model.tensors = {{"scale", {}}, {"row", {3}}};
  const auto file = parse(model.write());
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file.value().tensors[0].elements(), 1u);
  EXPECT_EQ(file.value().tensors[1].offset, 32u);
}

TEST(GgufParse, HonoursTheAlignment) {
  TestModel model;
  model.set("general.alignment", testing::u32(256));
  model.alignment = 256;
  model.tensors = {{"a", {1}}, {"b", {1}}};
  const auto file = parse(model.write());
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file.value().alignment, 256u);
  EXPECT_EQ(file.value().data_offset, 256u);
  EXPECT_EQ(file.value().tensors[1].offset, 256u);
}

TEST(GgufParse, RejectsBadHeaders) {
  expect_error("", "the magic number 'GGUF'");
  expect_error("GGUX" + header(0, 0).substr(4), "found 'GGUX'");
  expect_error(header(0, 0, {}, 1), "GGUF version 2 or 3 at offset 4");
  expect_error(header(0, 0, {}, 4), "found 4");
  expect_error(header(0, 0, {}, 0x03000000), "a big-endian file");
  expect_error(header(1000001, 0), "at most 1000000 tensors");
  expect_error(header(~0ull, 0), "at most 1000000 tensors");
  expect_error(header(0, 65537), "at most 65536 keys");
}

TEST(GgufParse, RejectsBadKeys) {
  expect_error(header(0, 1, key("", 4, raw<uint32_t>(1))), "printable ASCII");
  expect_error(header(0, 1, key("a b", 4, raw<uint32_t>(1))), "printable ASCII");
  expect_error(header(0, 1, key(std::string(1025, 'k'), 4, raw<uint32_t>(1))), "at most 1024");
  expect_error(header(0, 2, key("k", 4, raw<uint32_t>(1)) + key("k", 4, raw<uint32_t>(2))),
               "(key k), found this key a second time");
  expect_error(header(0, 1, key("k", 13, raw<uint32_t>(1))), "a value type from 0 to 12");
  expect_error(header(0, 1, key("k", 7, raw<uint8_t>(2))), "a bool of 0 or 1");
  expect_error(header(0, 1, key("k", 8, raw<uint64_t>(1) + "")), "ends inside the file");
  expect_error(header(0, 1, key("k", 8, raw<uint64_t>(~0ull))), "at most 67108864 bytes");
}

TEST(GgufParse, RejectsBadArrays) {
  const auto array = [](uint32_t type, uint64_t length, const std::string& rest = {}) {
    return header(0, 1, key("k", 9, raw(type) + raw(length) + rest));
  };
  expect_error(array(9, 1, raw<uint32_t>(4) + raw<uint64_t>(0)), "no nested arrays");
  expect_error(array(77, 0), "found type 77");
  expect_error(array(4, 2, raw<uint32_t>(1)), "an array that ends inside the file");
  expect_error(array(10, 1ull << 61, raw<uint64_t>(1)), "an array that ends inside the file");
  expect_error(array(8, ~0ull, text("a")), "an array that ends inside the file");
  expect_error(array(8, 1, raw<uint64_t>(50)), "a length of 50 bytes with 0 left");
  expect_error(array(7, 2, std::string("\1\3")), "bools of 0 or 1");
}

TEST(GgufParse, RejectsBadAlignment) {
  for (const uint32_t alignment : {0u, 1u, 4u, 48u}) {
    expect_error(header(0, 1, key("general.alignment", 4, raw(alignment))),
                 "a power of two of at least 8");
  }
  expect_error(header(0, 1, key("general.alignment", 10, raw<uint64_t>(32))), "type u32");
}

TEST(GgufParse, RejectsSplitModels) {
  expect_error(header(0, 1, key("split.count", 2, raw<uint16_t>(3))), "llama-gguf-split --merge");
  EXPECT_TRUE(parse(header(0, 1, key("split.count", 2, raw<uint16_t>(1)))).ok());
}

std::string tensor_header(const std::string& name, const std::vector<uint64_t>& shape,
                          uint32_t type, uint64_t offset) {
  std::string bytes = text(name) + raw(static_cast<uint32_t>(shape.size()));
  for (const uint64_t dim : shape) bytes += raw(dim);
  return bytes + raw(type) + raw(offset);
}

void expect_tensor_error(const std::string& tensors, uint64_t count, const std::string& message) {
  expect_error(header(count, 0, tensors) + std::string(4096, '\0'), message);
}

TEST(GgufParse, RejectsBadTensors) {
  expect_tensor_error(tensor_header(std::string(64, 't'), {1}, 0, 0), 1, "at most 63 bytes");
  expect_tensor_error(tensor_header("", {1}, 0, 0), 1, "printable ASCII");
  expect_tensor_error(tensor_header(std::string("a\0b", 3), {1}, 0, 0), 1, "printable ASCII");
  expect_tensor_error(tensor_header("t", {1}, 0, 0) + tensor_header("t", {1}, 0, 32), 2,
                      "(tensor t), found this name a second time");
  expect_tensor_error(tensor_header("t", {1, 1, 1, 1, 1}, 0, 0), 1, "at most 4 dimensions");
  expect_tensor_error(tensor_header("t", {4, 0}, 0, 0), 1, "a dimension of at least 1");
  expect_tensor_error(tensor_header("t", {1ull << 32, 1ull << 32}, 0, 0), 1, "fewer than 2^63");
  expect_tensor_error(tensor_header("t", {1ull << 62, 3}, 0, 0), 1, "fewer than 2^63");
  expect_tensor_error(tensor_header("t", {1ull << 62}, 0, 0), 1, "a size below 2^64");
  for (const uint32_t type : {4u, 5u, 31u, 36u, 43u, 0xffffffffu}) {
    expect_tensor_error(tensor_header("t", {256}, type, 0), 1, "a known tensor type below 43");
  }
  expect_tensor_error(tensor_header("t", {48}, 2, 0), 1, "a multiple of 32 elements for type q4_0");
  expect_tensor_error(tensor_header("t", {1}, 0, 32), 1, "follows the previous tensor, 0");
  expect_tensor_error(tensor_header("a", {1}, 0, 0) + tensor_header("b", {1}, 0, 4), 2,
                      "follows the previous tensor, 32");
  expect_tensor_error(tensor_header("t", {4096}, 0, 0), 1, "16384 bytes of tensor data");
}

TEST(GgufParse, TheLastTensorNeedsNoPadding) {
  TestModel model;
  model.tensors = {{"t", {1}}};
  std::string bytes = model.write();
  bytes.resize(bytes.size() - 28);
  EXPECT_TRUE(parse(bytes).ok());
  bytes.pop_back();
  expect_error(bytes, "4 bytes of tensor data");
}

TEST(GgufParse, LimitsAreInclusive) {
  Limits limits;
  limits.keys = 1;
  limits.string_bytes = 3;
  EXPECT_TRUE(parse(header(0, 1, key("k", 8, text("abc"))), limits).ok());
  EXPECT_FALSE(parse(header(0, 1, key("k", 8, text("abcd"))), limits).ok());
  EXPECT_FALSE(parse(header(0, 2, key("k", 0, "a") + key("l", 0, "a")), limits).ok());
  limits = {};
  limits.metadata_bytes = 40;
  const auto file = parse(header(0, 1, key("k", 8, text(std::string(64, 'x')))), limits);
  EXPECT_FALSE(file.ok());
}

TEST(GgufParse, EveryTruncationIsAnError) {
  const std::string bytes = tiny_llama().write();
  const auto whole = parse(bytes);
  ASSERT_TRUE(whole.ok());
  const uint64_t end = whole.value().data_offset;
  for (uint64_t length = 0; length <= end; ++length) {
    const auto file = parse(bytes.substr(0, length));
    ASSERT_FALSE(file.ok()) << "accepted " << length << " bytes";
    ASSERT_EQ(file.error().code, ErrorCode::kModelInvalid);
    ASSERT_NE(file.error().message.find("expected "), std::string::npos);
  }
}

TEST(GgufParse, SaysWhereTheFileIsMissingOrWrong) {
  const auto missing = read_gguf("/no/such/model.gguf");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::kModelNotFound);
  const auto folder = read_gguf(::testing::TempDir());
  ASSERT_FALSE(folder.ok());
  EXPECT_EQ(folder.error().code, ErrorCode::kModelInvalid);
  EXPECT_NE(folder.error().message.find("not a regular file"), std::string::npos);
}

TEST(GgufParse, ReadsFromDisk) {
  const std::string path = ::testing::TempDir() + "polymind_parse_test.gguf";
  std::ofstream(path, std::ios::binary) << tiny_llama().write();
  const auto file = read_gguf(path);
  std::remove(path.c_str());
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file.value().tensors.size(), 20u);
}

TEST(GgufParse, JsonSummarisesLongArraysAndCountsParameters) {
  const auto file = parse(tiny_llama().write());
  ASSERT_TRUE(file.ok());
  const std::string json = to_json(file.value());
  EXPECT_NE(json.find(R"("architecture":"llama","name":"tiny","quantization":"F32")"),
            std::string::npos);
  EXPECT_NE(json.find(R"("tokenizer.ggml.tokens":{"type":"str","length":264,"first":["<unk>",)"),
            std::string::npos);
  EXPECT_NE(json.find(R"({"name":"output_norm.weight","type":"f32","shape":[64],"bytes":256})"),
            std::string::npos);
  const uint64_t layer = 2 * 64 + 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96;
  EXPECT_NE(json.find("\"parameters\":" + std::to_string(64 * 264 + 64 + 2 * layer)),
            std::string::npos);
}

TEST(GgufTypes, NumbersAndNamesAgree) {
  EXPECT_EQ(tensor_traits(12)->name, "q4_K");
  EXPECT_EQ(tensor_traits(12)->block_bytes, 144u);
  EXPECT_EQ(tensor_traits(43), nullptr);
  EXPECT_EQ(value_type_name(ValueType::kArray), "arr");
  EXPECT_EQ(value_type_size(ValueType::kFloat64), 8u);
  EXPECT_EQ(value_type_size(static_cast<ValueType>(99)), 0u);
}

}  // namespace
}  // namespace pm::gguf

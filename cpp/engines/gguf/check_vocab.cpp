// Rules for the tokenizer: src/llama-vocab.cpp.
#include <algorithm>
#include <array>
#include <deque>
#include <limits>
#include <string>
#include <unordered_set>

#include "core/utf8.h"
#include "engines/gguf/check_util.h"

namespace pm::gguf {
namespace {

constexpr uint64_t kMaxTokens = uint64_t{1} << 22;
constexpr uint64_t kMaxTokenBytes = 65536;
constexpr uint64_t kMaxTemplateBytes = uint64_t{1} << 20;
// Exporters write -1 as u32 for "no such token".
constexpr uint64_t kNoToken = std::numeric_limits<uint32_t>::max();
constexpr int64_t kTypeByte = 6;

// What llama.cpp assumes for a tokenizer family when the file says nothing.
struct Family {
  std::string_view model;
  // -1: none.
  int32_t bos;
  int32_t eos;
  int32_t separator;
  bool bytes_as_hex;  // byte tokens are spelled <0x41>
};

constexpr Family kFamilies[] = {
    {"llama", 1, 2, -1, true},    {"bert", 101, -1, 102, false},   {"gpt2", 11, 11, -1, true},
    {"t5", -1, 1, -1, true},      {"rwkv", -1, -1, -1, false},     {"plamo2", 1, 2, -1, true},
    {"gemma4", -1, -1, -1, true}, {"hybriddna", 11, 11, -1, true}, {"whitespace", 11, 11, -1, true},
};

constexpr std::string_view kTokenIds[] = {
    "bos_token_id",     "eos_token_id",       "eot_token_id",     "eom_token_id",
    "unknown_token_id", "seperator_token_id", "padding_token_id", "mask_token_id",
    "cls_token_id",     "fim_pre_token_id",   "fim_suf_token_id", "fim_mid_token_id",
    "fim_pad_token_id", "fim_rep_token_id",   "fim_sep_token_id", "prefix_token_id",
    "suffix_token_id",  "middle_token_id",
};

constexpr std::string_view kFlags[] = {
    "add_bos_token",
    "add_eos_token",
    "add_sep_token",
    "add_space_prefix",
    "remove_extra_whitespaces",
};

std::string ggml_key(std::string_view name) { return "tokenizer.ggml." + std::string(name); }

// llama.cpp reads strings up to their first NUL and renames empty tokens; `renamed` keeps those.
std::string_view effective_text(std::string_view text, uint64_t id,
                                std::deque<std::string>& renamed) {
  text = text.substr(0, std::min(text.size(), text.find('\0')));
  return text.empty() ? renamed.emplace_back("[EMPTY_" + std::to_string(id) + "]") : text;
}

bool is_utf8(std::string_view text) {
  const bool ascii = std::all_of(text.begin(), text.end(), [](char c) { return c >= 0; });
  return ascii || sanitize_utf8(text) == text;
}

// The value of "<0x41>", or -1.
int hex_byte(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return -1;
  int value = 0;
  for (const char c : text.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

Result<const Array*> find_tokens(const GgufFile& file) {
  const std::string key = ggml_key("tokens");
  const KeyValue* entry = file.find(key);
  if (entry == nullptr) return model_error("key " + key, "an array of strings", "no such key");
  const Array* array = entry->value.array();
  PM_TRY(require(array != nullptr && array->type == ValueType::kString, "key " + key,
                 "an array of strings", describe(entry->value)));
  PM_TRY(require(array->length >= 1 && array->length <= kMaxTokens, "key " + key,
                 "1 to " + std::to_string(kMaxTokens) + " tokens", std::to_string(array->length)));
  return array;
}

Status check_texts(const Array& tokens, bool utf8) {
  std::unordered_set<std::string_view> seen;
  std::deque<std::string> renamed;
  seen.reserve(tokens.length);
  for (uint64_t id = 0; id < tokens.length; ++id) {
    const std::string_view text = tokens.string_at(id);
    const auto fail = [&](std::string_view expected, const std::string& found) {
      return model_error("key tokenizer.ggml.tokens, token " + std::to_string(id), expected, found);
    };
    if (text.size() > kMaxTokenBytes) {
      return fail("at most " + std::to_string(kMaxTokenBytes) + " bytes",
                  std::to_string(text.size()));
    }
    if (utf8 && !is_utf8(text)) return fail("UTF-8 text", "\"" + sanitize_utf8(text) + "\"");
    if (!seen.insert(effective_text(text, id, renamed)).second) {
      return fail("tokens that differ", "\"" + sanitize_utf8(text) + "\" a second time");
    }
  }
  return {};
}

// An optional array with one element for each token.
Result<const Array*> find_token_array(const GgufFile& file, std::string_view name, uint64_t count,
                                      ValueType type, ValueType other) {
  const std::string key = ggml_key(name);
  const KeyValue* entry = file.find(key);
  if (entry == nullptr) return static_cast<const Array*>(nullptr);
  const Array* array = entry->value.array();
  PM_TRY(require(array != nullptr && (array->type == type || array->type == other), "key " + key,
                 "an array of " + std::string(value_type_name(type)), describe(entry->value)));
  PM_TRY(require(array->length == count, "key " + key,
                 "one element for each of " + std::to_string(count) + " tokens",
                 std::to_string(array->length)));
  return array;
}

Status check_scores(const GgufFile& file, uint64_t count) {
  auto found = find_token_array(file, "scores", count, ValueType::kFloat32, ValueType::kInt32);
  if (!found) return found.error();
  const Array* scores = found.value();
  for (uint64_t id = 0; scores != nullptr && id < count; ++id) {
    if (std::isnan(scores->number_at(id))) {
      return model_error("key tokenizer.ggml.scores, token " + std::to_string(id), "a number",
                         "NaN");
    }
  }
  return {};
}

Status check_types(const GgufFile& file, const Array& tokens, const Family& family) {
  auto found =
      find_token_array(file, "token_type", tokens.length, ValueType::kInt32, ValueType::kInt32);
  if (!found) return found.error();
  const Array* types = found.value();
  uint64_t byte_tokens = 0;
  for (uint64_t id = 0; types != nullptr && id < tokens.length; ++id) {
    const int64_t type = types->integer_at(id);
    // Only what fails pays for its message: there may be millions of tokens.
    const auto fail = [&](std::string_view expected, const std::string& found) {
      return model_error("key tokenizer.ggml.token_type, token " + std::to_string(id), expected,
                         found);
    };
    if (type < 0 || type > kTypeByte) return fail("a token type from 0 to 6", std::to_string(type));
    if (type != kTypeByte) continue;
    ++byte_tokens;
    if (!family.bytes_as_hex || hex_byte(tokens.string_at(id)) < 0) {
      return fail("a byte token spelled like <0x41>",
                  "\"" + sanitize_utf8(tokens.string_at(id)) + "\"");
    }
  }
  return require(byte_tokens == 0 || byte_tokens == 256, "key tokenizer.ggml.token_type",
                 "256 byte tokens or none", std::to_string(byte_tokens));
}

// SentencePiece vocabularies spell unknown characters with byte tokens; a missing one throws in the
// middle of tokenizing.
Status check_byte_fallback(const Array& tokens) {
  std::array<bool, 256> present{};
  uint64_t count = 0;
  for (uint64_t id = 0; id < tokens.length; ++id) {
    const int byte = hex_byte(tokens.string_at(id));
    if (byte < 0 || present[byte]) continue;
    present[byte] = true;
    ++count;
  }
  return require(count == 0 || count == 256, "key tokenizer.ggml.tokens",
                 "all of the byte tokens <0x00> to <0xFF>, or none", std::to_string(count));
}

Status check_merges(const GgufFile& file, std::string_view model) {
  const std::string key = ggml_key("merges");
  const KeyValue* entry = file.find(key);
  if (entry == nullptr) {
    // One published family does without.
    const bool needed =
        (model == "gpt2" || model == "gemma4") && file.text(ggml_key("pre")) != "kimi-k2";
    return require(!needed, "key " + key, "an array of strings", "no such key");
  }
  const Array* merges = entry->value.array();
  PM_TRY(require(merges != nullptr && merges->type == ValueType::kString, "key " + key,
                 "an array of strings", describe(entry->value)));
  for (uint64_t i = 0; i < merges->length; ++i) {
    const std::string_view text = merges->string_at(i);
    const size_t space = text.find(' ', 1);
    const bool two_parts = space != text.npos && space + 1 < text.size() &&
                           text.find(' ', space + 1) == text.npos && text.find('\0') == text.npos;
    if (!two_parts || !is_utf8(text)) {
      return model_error("key " + key + ", merge " + std::to_string(i),
                         "two pieces of UTF-8 text with one space between",
                         "\"" + sanitize_utf8(text) + "\"");
    }
  }
  return {};
}

// The id that llama.cpp will use: the file's, else the family's default if it exists, else -1.
int64_t resolve_id(const GgufFile& file, std::string_view name, int32_t fallback, uint64_t count) {
  const auto id = find_u32(file, ggml_key(name));
  if (id && *id < count) return static_cast<int64_t>(*id);
  return fallback >= 0 && static_cast<uint64_t>(fallback) < count ? fallback : -1;
}

Status check_added(const GgufFile& file, std::string_view flag, std::string_view id_name,
                   int32_t fallback, bool by_default, uint64_t count) {
  const bool added = find_bool(file, ggml_key(flag)).value_or(by_default);
  return require(!added || resolve_id(file, id_name, fallback, count) >= 0,
                 "key " + ggml_key(id_name), "the token that " + std::string(flag) + " asks for",
                 "none");
}

Status check_ids(const GgufFile& file, const Family& family, uint64_t count) {
  for (const std::string_view name : kTokenIds) {
    const std::string key = ggml_key(name);
    PM_TRY(check_key(file, {key, ValueType::kUint32, 0, static_cast<double>(kNoToken)}));
    const uint64_t id = find_u32(file, key).value_or(kNoToken);
    PM_TRY(require(id == kNoToken || id < count, "key " + key,
                   "a token id below " + std::to_string(count), std::to_string(id)));
  }
  for (const std::string_view name : kFlags) {
    PM_TRY(check_key(file, {ggml_key(name), ValueType::kBool}));
  }
  // Byte-pair families may add a BOS by default, depending on their pre-tokenizer.
  const bool adds_bos = family.bos >= 0;
  PM_TRY(check_added(file, "add_bos_token", "bos_token_id", family.bos, adds_bos, count));
  PM_TRY(check_added(file, "add_eos_token", "eos_token_id", family.eos, false, count));
  return check_added(file, "add_sep_token", "seperator_token_id", family.separator,
                     family.separator >= 0, count);
}

Status check_template(const GgufFile& file) {
  for (const KeyValue& entry : file.metadata) {
    const std::string_view key = entry.key;
    if (key != "tokenizer.chat_template" && !key.starts_with("tokenizer.chat_template.")) continue;
    const std::string* text = entry.value.string();
    PM_TRY(require(text != nullptr, "key " + entry.key, "a string", describe(entry.value)));
    PM_TRY(require(text->size() <= kMaxTemplateBytes, "key " + entry.key, "at most 1 MiB",
                   std::to_string(text->size()) + " bytes"));
  }
  return {};
}

}  // namespace

Status check_vocabulary(const GgufFile& file) {
  PM_TRY(check_key(file, {"tokenizer.ggml.model", ValueType::kString, 0, 0, true}));
  PM_TRY(check_key(file, {"tokenizer.ggml.pre", ValueType::kString}));
  const std::string_view model = file.text("tokenizer.ggml.model");
  const auto* family = std::find_if(std::begin(kFamilies), std::end(kFamilies),
                                    [&](const Family& f) { return f.model == model; });
  PM_TRY(require(family != std::end(kFamilies), "key tokenizer.ggml.model",
                 "a tokenizer that text can be generated with (llama, gpt2, ...)",
                 "\"" + sanitize_utf8(model) + "\""));
  auto found = find_tokens(file);
  if (!found) return found.error();
  const Array& tokens = *found.value();
  PM_TRY(check_texts(tokens, model != "rwkv"));
  PM_TRY(check_scores(file, tokens.length));
  PM_TRY(check_types(file, tokens, *family));
  if (model == "llama" || model == "plamo2") PM_TRY(check_byte_fallback(tokens));
  PM_TRY(check_merges(file, model));
  PM_TRY(check_ids(file, *family, tokens.length));
  return check_template(file);
}

}  // namespace pm::gguf

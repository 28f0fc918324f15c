#include "engines/llama/model.h"

#include <algorithm>
#include <fstream>

#include "engines/llama/backend.h"

namespace pm::llama {
namespace {

struct LoadProgress {
  const LoadOptions* options;
  float last = -1;
};

// llama.cpp's progress callback; false stops loading.
bool on_progress(float fraction, void* user_data) {
  auto* progress = static_cast<LoadProgress*>(user_data);
  const LoadOptions& options = *progress->options;
  if (options.cancel && options.cancel->cancelled()) return false;
  // Called once a tensor: a thousand reports would only slow the event loop down.
  if (options.on_progress && (fraction - progress->last >= 0.01f || fraction >= 1.0f)) {
    progress->last = fraction;
    options.on_progress(fraction);
  }
  return true;
}

}  // namespace

Digest sample_file(const std::string& path) {
  constexpr uint64_t kHead = 1 << 20;  // a GGUF's metadata and most of its tensor list
  constexpr uint64_t kPiece = 4096;
  constexpr uint64_t kPieces = 256;
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const auto size = file ? static_cast<uint64_t>(file.tellg()) : 0;
  std::vector<uint8_t> bytes;
  const auto add = [&](uint64_t at, uint64_t count) {
    const size_t start = bytes.size();
    bytes.resize(start + static_cast<size_t>(std::min(count, size - at)));
    file.seekg(static_cast<std::streamoff>(at));
    file.read(reinterpret_cast<char*>(bytes.data() + start),
              static_cast<std::streamsize>(bytes.size() - start));
  };
  for (int shift = 0; shift < 64; shift += 8) bytes.push_back(static_cast<uint8_t>(size >> shift));
  if (size > 0) add(0, kHead);
  for (uint64_t i = 0; size > kHead && i < kPieces; ++i) {
    add(kHead + (size - kHead) / kPieces * i, kPiece);
  }
  return digest_of(bytes);
}

Model::Model(llama_model* model)
    : model_(model),
      vocab_(llama_model_get_vocab(model)),
      vocab_size_(static_cast<size_t>(llama_vocab_n_tokens(vocab_))) {
  for (const char* tag : {"<tool_call>", "</tool_call>", "<think>", "</think>"}) {
    const auto tokens = tokenize(tag, false, true);
    if (tokens.size() == 1) rendered_tags_.push_back(tokens[0]);
  }
  for (size_t id = 0; id < vocab_size_; ++id) {
    const auto token = static_cast<Token>(id);
    const std::string_view text = llama_vocab_get_text(vocab_, token);
    longest_piece_ = std::max(longest_piece_, text.size());
    const bool user = (llama_vocab_get_attr(vocab_, token) & LLAMA_TOKEN_ATTR_USER_DEFINED) != 0;
    if (user && is_tag(token)) user_tags_.emplace_back(text);
  }
}

// Control tokens, and user-defined ones of the form <…>: many vocabularies also list runs of
// blanks as user-defined, which are harmless.
bool Model::is_tag(Token token) const {
  const auto attributes = llama_vocab_get_attr(vocab_, token);
  if ((attributes & LLAMA_TOKEN_ATTR_CONTROL) != 0) return true;
  if ((attributes & LLAMA_TOKEN_ATTR_USER_DEFINED) == 0) return false;
  const std::string_view text = llama_vocab_get_text(vocab_, token);
  return text.size() > 2 && text.front() == '<' && text.back() == '>';
}

Result<std::shared_ptr<Model>> Model::load(const LoadOptions& options) {
  init_backend();
  std::shared_ptr<Model> loaded;
  LogCapture log;
  LoadProgress progress{&options};
  const Status status = guarded(ErrorCode::kModelInvalid, "model", [&]() -> Status {
    llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = 0;
    params.progress_callback = on_progress;
    params.progress_callback_user_data = &progress;
    llama_model* model = llama_model_load_from_file(options.model.c_str(), params);
    if (model == nullptr) {
      if (options.cancel && options.cancel->cancelled()) {
        return Error{ErrorCode::kCancelled, "loading was cancelled"};
      }
      return Error{ErrorCode::kModelInvalid,
                   "llama.cpp could not load the model: " + log.reason("no reason given")};
    }
    loaded.reset(new Model(model));
    loaded->digest_ = sample_file(options.model);
    if (llama_vocab_type(loaded->vocab_) == LLAMA_VOCAB_TYPE_NONE) {
      return Error{ErrorCode::kModelInvalid, "expected a model with a vocabulary, found none"};
    }
    if (llama_model_has_encoder(model) || !llama_model_has_decoder(model)) {
      return Error{ErrorCode::kEngineUnavailable,
                   "expected a decoder-only model: encoder-decoder and embedding-only models "
                   "cannot generate here"};
    }
    return {};
  });
  if (!status) return status.error();
  return loaded;
}

std::vector<Token> Model::tokenize(const std::string& text, bool add_special,
                                   bool parse_special) const {
  // One token a byte is the worst case, plus BOS and EOS.
  std::vector<Token> tokens(text.size() + 2);
  const auto length = static_cast<int32_t>(text.size());
  int32_t count = llama_tokenize(vocab_, text.data(), length, tokens.data(),
                                 static_cast<int32_t>(tokens.size()), add_special, parse_special);
  if (count < 0) {
    tokens.resize(static_cast<size_t>(-count));
    count = llama_tokenize(vocab_, text.data(), length, tokens.data(), -count, add_special,
                           parse_special);
  }
  tokens.resize(static_cast<size_t>(std::max(count, 0)));
  return tokens;
}

std::string Model::detokenize(std::span<const Token> tokens) const {
  std::string text;
  for (const Token token : tokens) text += token_text(token, true);
  return text;
}

std::string Model::token_text(Token token, bool special) const {
  char buffer[128];
  int32_t length = llama_token_to_piece(vocab_, token, buffer, sizeof buffer, 0, special);
  if (length >= 0) return std::string(buffer, static_cast<size_t>(length));
  std::string text(static_cast<size_t>(-length), '\0');
  llama_token_to_piece(vocab_, token, text.data(), -length, 0, special);
  return text;
}

std::string Model::piece(Token token) const {
  const bool is_tag =
      std::find(rendered_tags_.begin(), rendered_tags_.end(), token) != rendered_tags_.end();
  return token_text(token, is_tag);
}

bool Model::spells_special_token(const std::string& text) const {
  const auto tokens = tokenize(text, false, true);
  return std::any_of(tokens.begin(), tokens.end(), [this](Token token) { return is_tag(token); });
}

std::vector<std::string> Model::split_inside_tags(const std::string& text) const {
  std::vector<std::string> pieces;
  size_t from = 0;
  while (from < text.size()) {
    size_t at = std::string::npos;
    for (const auto& tag : user_tags_) at = std::min(at, text.find(tag, from));
    const size_t cut = at == std::string::npos ? text.size() : at + 1;
    pieces.push_back(text.substr(from, cut - from));
    from = cut;
  }
  return pieces;
}

std::string Model::metadata(const std::string& key) const {
  const int32_t length = llama_model_meta_val_str(model_.get(), key.c_str(), nullptr, 0);
  if (length < 0) return "";
  std::string value(static_cast<size_t>(length) + 1, '\0');
  llama_model_meta_val_str(model_.get(), key.c_str(), value.data(), value.size());
  value.resize(static_cast<size_t>(length));
  return value;
}

}  // namespace pm::llama

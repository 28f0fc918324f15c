// A loaded text model: weights, vocabulary, and the facts the engine needs about both.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "core/result.h"
#include "kv/digest.h"
#include "llama.h"
#include "scheduler/model_runner.h"

namespace pm::llama {

// What was asked for; see options.kv in the API.
struct KvOptions {
  enum class Memory { kAuto, kPaged, kStock };
  Memory memory = Memory::kAuto;
  std::optional<KvType> k_type;  // none: the default
  std::optional<KvType> v_type;
  size_t budget_bytes = 0;  // 0: from the machine's memory
  bool prefix_cache = true;
  // Where prefixes go that leave memory: a folder and the most bytes; empty: nowhere.
  std::string spill_dir;
  uint64_t spill_bytes = 0;
};

struct LoadOptions {
  std::string model;
  std::string mmproj;
  int threads = 1;
  size_t context_tokens = 0;
  size_t max_requests = 8;
  size_t tokens_per_step = 512;
  KvOptions kv;
  size_t media_cache_bytes = 0;
  CancelTokenPtr cancel;
  std::function<void(float)> on_progress;
};

// Tells model files apart without reading them whole: size, beginning, and samples of the rest.
Digest sample_file(const std::string& path);

class Model {
 public:
  // Validates the file, then loads it.
  static Result<std::shared_ptr<Model>> load(const LoadOptions& options);

  llama_model* get() const { return model_.get(); }
  const llama_vocab* vocab() const { return vocab_; }
  size_t vocab_size() const { return vocab_size_; }

  std::vector<Token> tokenize(const std::string& text, bool add_special, bool parse_special) const;
  std::string detokenize(std::span<const Token> tokens) const;
  // Bytes of one token; control tokens are empty except the tags TextStream knows.
  std::string piece(Token token) const;
  bool is_end(Token token) const { return llama_vocab_is_eog(vocab_, token); }
  // Does `text` spell a control token or a tag such as <tool_call>, so that parsing it as part of a
  // prompt would be an injection?
  bool spells_special_token(const std::string& text) const;
  // Cuts `text` inside every tag that the tokenizer would recognise even in plain text (llama.cpp
  // always parses user-defined tokens), so that tokenizing the pieces one by one yields no tag.
  std::vector<std::string> split_inside_tags(const std::string& text) const;
  // Bytes of the vocabulary's longest token.
  size_t longest_piece() const { return longest_piece_; }
  // Tells this model from others, for keys and values that are kept.
  const Digest& digest() const { return digest_; }
  // Value of a metadata key, or "".
  std::string metadata(const std::string& key) const;

 private:
  explicit Model(llama_model* model);
  std::string token_text(Token token, bool special) const;
  bool is_tag(Token token) const;

  struct Free {
    void operator()(llama_model* model) const { llama_model_free(model); }
  };
  std::unique_ptr<llama_model, Free> model_;
  Digest digest_;
  const llama_vocab* vocab_;
  size_t vocab_size_;
  // Tags that are single control tokens in this vocabulary; at most four.
  std::vector<Token> rendered_tags_;
  // Spellings of user-defined tokens that look like a tag.
  std::vector<std::string> user_tags_;
  size_t longest_piece_ = 1;
};

}  // namespace pm::llama

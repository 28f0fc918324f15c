#include "engines/llama/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "engines/llama/backend.h"
#include "engines/llama/gbnf.h"
#include "json-schema-to-grammar.h"

// Several versions of a loop, chosen by the CPU at load time; needs ifunc, so ELF on x86-64 only.
#if defined(__x86_64__) && defined(__linux__) && defined(__GLIBC__) && !defined(__SANITIZE_THREAD__)
#define PM_TARGET_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define PM_TARGET_CLONES
#endif

namespace pm::llama {
namespace {

struct FreeSampler {
  void operator()(llama_sampler* sampler) const { llama_sampler_free(sampler); }
};
using SamplerPtr = std::unique_ptr<llama_sampler, FreeSampler>;

class GreedySampler final : public TokenSampler {
 public:
  Result<Token> sample(std::span<float> logits) override {
    return static_cast<Token>(argmax(logits));
  }
};

// A compiled grammar, and the tokens it must not use: to llama.cpp a control token is its name, so
// that [a-z<>]* would take <bos>, of which nothing is left in the answer.
struct Grammar {
  SamplerPtr sampler;
  std::vector<Token> hidden;  // ascending
};

class ChainSampler final : public TokenSampler {
 public:
  ChainSampler(std::shared_ptr<const Model> model, SamplerPtr chain, Grammar grammar)
      : model_(std::move(model)),
        chain_(std::move(chain)),
        grammar_(std::move(grammar.sampler)),
        hidden_(std::move(grammar.hidden)) {}

  Result<Token> sample(std::span<float> logits) override {
    Token token = -1;
    const Status status = guarded(ErrorCode::kInternal, "sampling", [&]() -> Status {
      token = choose(logits, false);
      // Checking one token costs microseconds, masking the whole vocabulary milliseconds.
      if (grammar_ && !grammar_allows(token)) token = choose(logits, true);
      if (token < 0) {
        return Error{ErrorCode::kInternal, "the grammar allows no token of this vocabulary"};
      }
      if (grammar_) llama_sampler_accept(grammar_.get(), token);
      llama_sampler_accept(chain_.get(), token);
      return {};
    });
    if (!status) return status.error();
    return token;
  }

 private:
  Token choose(std::span<const float> logits, bool masked) {
    candidates_.resize(logits.size());
    for (size_t i = 0; i < logits.size(); ++i) {
      candidates_[i] = {static_cast<llama_token>(i), logits[i], 0.0f};
    }
    llama_token_data_array array{candidates_.data(), candidates_.size(), -1, false};
    if (masked) {
      for (const Token token : hidden_) {
        candidates_[static_cast<size_t>(token)].logit = -std::numeric_limits<float>::infinity();
      }
      llama_sampler_apply(grammar_.get(), &array);
    }
    llama_sampler_apply(chain_.get(), &array);
    if (array.selected < 0 || array.size == 0) return -1;
    const llama_token_data& chosen = array.data[array.selected];
    return std::isinf(chosen.logit) && chosen.logit < 0 ? -1 : chosen.id;
  }

  bool grammar_allows(Token token) {
    if (token < 0 || std::binary_search(hidden_.begin(), hidden_.end(), token)) return false;
    llama_token_data one{token, 1.0f, 0.0f};
    llama_token_data_array array{&one, 1, -1, false};
    llama_sampler_apply(grammar_.get(), &array);
    return !std::isinf(one.logit);
  }

  // The grammar sampler refers to the vocabulary.
  std::shared_ptr<const Model> model_;
  SamplerPtr chain_;
  SamplerPtr grammar_;
  std::vector<Token> hidden_;
  std::vector<llama_token_data> candidates_;
};

SamplerPtr make_chain(const SamplingParams& params) {
  SamplerPtr chain(llama_sampler_chain_init(llama_sampler_chain_default_params()));
  if (params.temperature <= 0) {
    llama_sampler_chain_add(chain.get(), llama_sampler_init_greedy());
    return chain;
  }
  if (params.top_k > 0)
    llama_sampler_chain_add(chain.get(), llama_sampler_init_top_k(params.top_k));
  if (params.top_p < 1)
    llama_sampler_chain_add(chain.get(), llama_sampler_init_top_p(params.top_p, 1));
  if (params.min_p > 0)
    llama_sampler_chain_add(chain.get(), llama_sampler_init_min_p(params.min_p, 1));
  llama_sampler_chain_add(chain.get(), llama_sampler_init_temp(params.temperature));
  llama_sampler_chain_add(chain.get(), llama_sampler_init_dist(params.seed));
  return chain;
}

GbnfVocabulary vocabulary_of(const Model& model) {
  const auto is_token = [&model](std::string_view tag) {
    return model.tokenize(std::string(tag), false, true).size() == 1;
  };
  return {model.vocab_size(), is_token};
}

// Tokens that are no text of an answer: control tokens of which nothing is shown and, in JSON, tags
// as well. The end is decided by the grammar itself.
std::vector<Token> hidden_tokens(const Model& model, bool is_json) {
  std::vector<Token> hidden;
  for (size_t id = 0; id < model.vocab_size(); ++id) {
    const auto token = static_cast<Token>(id);
    const auto attributes = llama_vocab_get_attr(model.vocab(), token);
    const bool special =
        (attributes & (LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_USER_DEFINED)) != 0;
    if (!special || model.is_end(token)) continue;
    const std::string text = model.piece(token);
    if (text.empty() || (is_json && model.spells_special_token(text))) hidden.push_back(token);
  }
  return hidden;
}

Result<Grammar> make_grammar(const Model& model, const SamplingParams& params) {
  Grammar grammar;
  LogCapture log;
  const bool is_schema = !params.json_schema.empty();
  const std::string what = is_schema ? "preferences.json_schema" : "preferences.grammar";
  const Status status = guarded(ErrorCode::kInvalidRequest, what, [&]() -> Status {
    const std::string text =
        is_schema ? json_schema_to_grammar(common_json::parse(params.json_schema)) : params.grammar;
    const auto facts = check_gbnf(text, vocabulary_of(model));
    if (!facts) return Error{facts.error().code, what + ": " + facts.error().message};
    // Who names tokens means them.
    if (!facts.value().names_tokens) grammar.hidden = hidden_tokens(model, is_schema);
    grammar.sampler.reset(llama_sampler_init_grammar(model.vocab(), text.c_str(), "root"));
    if (!grammar.sampler) {
      return Error{
          ErrorCode::kInvalidRequest,
          what + ": expected a grammar llama.cpp can compile; " + log.reason("it gave no reason")};
    }
    return {};
  });
  if (!status) return status.error();
  return grammar;
}

}  // namespace

namespace {

// Sixteen independent maxima keep the vector units busy, whatever their width.
PM_TARGET_CLONES float largest(const float* values, size_t count) {
  constexpr size_t kLanes = 16;
  float lane[kLanes];
  for (float& value : lane) value = -std::numeric_limits<float>::infinity();
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (size_t l = 0; l < kLanes; ++l) {
      lane[l] = values[i + l] > lane[l] ? values[i + l] : lane[l];
    }
  }
  float best = lane[0];
  for (const float value : lane) best = value > best ? value : best;
  for (; i < count; ++i) best = values[i] > best ? values[i] : best;
  return best;
}

}  // namespace

size_t argmax(std::span<const float> values) {
  const float best = largest(values.data(), values.size());
  for (size_t k = 0; k < values.size(); ++k) {
    if (values[k] == best) return k;
  }
  return 0;
}

Result<std::unique_ptr<TokenSampler>> make_sampler(std::shared_ptr<const Model> model,
                                                   const SamplingParams& params) {
  const bool constrained = !params.grammar.empty() || !params.json_schema.empty();
  if (params.temperature <= 0 && !constrained) {
    return std::unique_ptr<TokenSampler>(std::make_unique<GreedySampler>());
  }
  Grammar grammar;
  if (constrained) {
    auto made = make_grammar(*model, params);
    if (!made) return made.error();
    grammar = std::move(made).value();
  }
  return std::unique_ptr<TokenSampler>(
      std::make_unique<ChainSampler>(std::move(model), make_chain(params), std::move(grammar)));
}

}  // namespace pm::llama

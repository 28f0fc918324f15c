#include "engines/llama/preparer.h"

#include "engines/llama/sampler.h"

namespace pm::llama {
namespace {

// A prompt is to be continued, so the end token that some vocabularies add to a text has no place
// in it: at its end it would say that nothing follows, and after the first of several parts it
// would stand in the middle.
void drop_added_end(const Model& model, std::vector<Token>& tokens) {
  const bool added = llama_vocab_get_add_eos(model.vocab()) && !tokens.empty() &&
                     tokens.back() == llama_vocab_eos(model.vocab());
  if (added) tokens.pop_back();
}

}  // namespace

std::vector<Token> Preparer::tokenize(const std::vector<PromptPart>& parts,
                                      bool add_special) const {
  std::vector<Token> tokens;
  for (size_t i = 0; i < parts.size(); ++i) {
    const bool first = add_special && i == 0;
    auto piece = model_->tokenize(parts[i].text, first, parts[i].parse_special);
    if (first) drop_added_end(*model_, piece);
    tokens.insert(tokens.end(), piece.begin(), piece.end());
  }
  return tokens;
}

// Before the tokenizer: some of llama.cpp's take seconds, or the whole stack, for megabytes.
Status Preparer::check_length(const std::vector<PromptPart>& parts) const {
  size_t bytes = 0;
  for (const auto& part : parts) bytes += part.text.size();
  if (bytes <= max_bytes_) return {};
  return Error{ErrorCode::kContextOverflow,
               "expected a prompt of at most " + std::to_string(max_bytes_) +
                   " bytes (the context), found " + std::to_string(bytes)};
}

Result<PreparedPrompt> Preparer::prepare(const Request& request) {
  PreparedPrompt prepared;
  auto sampler = make_sampler(model_, request.sampling);
  if (!sampler) return sampler.error();
  prepared.sampler = std::move(sampler).value();

  auto rendered = chat_->render(request);
  if (!rendered) return rendered.error();
  prepared.starts_in_reasoning = rendered.value().starts_in_reasoning;
  const auto& parts = rendered.value().parts;
  PM_TRY(check_length(parts));

  if (request.media.empty()) {
    prepared.prompt.push_back({tokenize(parts, true), nullptr});
    return prepared;
  }
  if (!encoder_) {
    return Error{ErrorCode::kMediaInvalid,
                 "expected text only: the model was loaded without a multimodal projector"};
  }
  auto prompt = encoder_->encode(parts, request.media, true, *request.cancel);
  if (!prompt) return prompt.error();
  prepared.prompt = std::move(prompt).value();
  if (auto& last = prepared.prompt.back(); !last.media) {
    drop_added_end(*model_, last.tokens);
    if (last.tokens.empty()) prepared.prompt.pop_back();
  }
  prepared.encode_ms =
      std::chrono::duration<double, std::milli>(Clock::now() - request.submitted).count();
  return prepared;
}

Result<ToolAnswer> Preparer::tool_answer(const Request& request, const std::string& call_body,
                                         const std::string& content) {
  auto rendered = chat_->render_tool_answer(request, call_body, content);
  if (!rendered) return rendered.error();
  PM_TRY(check_length(rendered.value().parts));
  return ToolAnswer{tokenize(rendered.value().parts, false), rendered.value().starts_in_reasoning};
}

}  // namespace pm::llama

// PromptPreparer for llama.cpp models: chat template, tokenizer, media encoder, sampler.
#pragma once

#include <memory>

#include "engines/llama/chat_prompt.h"
#include "engines/llama/media_encoder.h"
#include "engines/llama/model.h"

namespace pm::llama {

class Preparer final : public PromptPreparer {
 public:
  // `encoder` may be null (text only).
  Preparer(std::shared_ptr<Model> model, std::shared_ptr<MediaEncoder> encoder,
           std::unique_ptr<ChatPrompt> chat, size_t context_tokens)
      : model_(std::move(model)),
        encoder_(std::move(encoder)),
        chat_(std::move(chat)),
        max_bytes_(context_tokens * model_->longest_piece()) {}

  Result<PreparedPrompt> prepare(const Request& request) override;
  Result<ToolAnswer> tool_answer(const Request& request, const std::string& call_body,
                                 const std::string& content) override;

 private:
  std::vector<Token> tokenize(const std::vector<PromptPart>& parts, bool add_special) const;
  Status check_length(const std::vector<PromptPart>& parts) const;

  std::shared_ptr<Model> model_;
  std::shared_ptr<MediaEncoder> encoder_;
  std::unique_ptr<ChatPrompt> chat_;
  // No text longer than this can fit the context, whatever its tokens.
  size_t max_bytes_;
};

}  // namespace pm::llama

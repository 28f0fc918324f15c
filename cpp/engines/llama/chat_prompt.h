// Conversations → prompt parts, through the model's own chat template. Text from users and tools
// never becomes a control token, whatever it spells.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "chat.h"
#include "engines/llama/media_encoder.h"
#include "engines/llama/model.h"

namespace pm::llama {

struct RenderedPrompt {
  std::vector<PromptPart> parts;
  bool starts_in_reasoning = false;
};

class ChatPrompt {
 public:
  static Result<std::unique_ptr<ChatPrompt>> create(std::shared_ptr<Model> model);

  Result<RenderedPrompt> render(const Request& request) const;
  // What follows an open tool call: its result and what the template puts around it.
  Result<RenderedPrompt> render_tool_answer(const Request& request, const std::string& call_body,
                                            const std::string& content) const;
  bool has_template() const { return has_template_; }

 private:
  struct Insertion;
  class Draft;

  explicit ChatPrompt(std::shared_ptr<Model> model) : model_(std::move(model)) {}
  std::string apply(const common_chat_templates_inputs& inputs) const;
  Draft draft_of(const Request& request) const;
  std::string render_result(Draft& draft, const std::string& tool, const std::string& result) const;

  std::shared_ptr<Model> model_;
  common_chat_templates_ptr templates_;
  bool has_template_ = false;
  // The template engine's caches are not documented as thread-safe.
  mutable std::mutex mutex_;
};

}  // namespace pm::llama

#include "engines/llama/chat_prompt.h"

#include <nlohmann/json.hpp>
#include <random>

#include "engines/llama/backend.h"

namespace pm::llama {

using nlohmann::json;

// Something that takes the place of a marker in the rendered prompt.
struct ChatPrompt::Insertion {
  std::string marker;
  PromptPart part;
};

namespace {

// Unguessable, so that no text of a request can stand in for a marker.
std::string random_marker() {
  static thread_local std::mt19937_64 generator{std::random_device{}()};
  char buffer[40];
  std::snprintf(buffer, sizeof buffer, "[[mm-%016llx]]",
                static_cast<unsigned long long>(generator()));
  return buffer;
}

common_chat_tool_call parse_call(const json& call) {
  common_chat_tool_call parsed;
  parsed.id = call.value("id", "");
  parsed.name = call.contains("tool") ? call.value("tool", "") : call.value("name", "");
  const char* key = call.contains("args") ? "args" : "arguments";
  parsed.arguments = call.contains(key) ? call[key].dump() : "{}";
  return parsed;
}

}  // namespace

// Collects messages and remembers what stands behind each marker.
class ChatPrompt::Draft {
 public:
  explicit Draft(const Model& model) : model_(model) {}

  void add(const json& message) {
    common_chat_msg msg;
    msg.role = message.at("role").get<std::string>();
    msg.tool_call_id = message.value("tool_call_id", "");
    const json& content = message.at("content");
    for (const json& part : content) {
      if (part.at("type") == "text") {
        add_text(msg, part.at("text").get<std::string>());
      } else {
        PromptPart medium;
        medium.media = part.at("index").get<int>();
        add_marker(msg, std::move(medium));
      }
    }
    if (message.contains("tool_calls")) {
      for (const json& call : message["tool_calls"]) msg.tool_calls.push_back(parse_call(call));
    }
    inputs.messages.push_back(std::move(msg));
  }

  void add_tools(const std::string& tools_json) {
    if (tools_json.empty()) return;
    for (const json& tool : json::parse(tools_json)) {
      inputs.tools.push_back({tool.at("name").get<std::string>(), tool.value("description", ""),
                              tool.value("parameters", json::object()).dump()});
    }
  }

  // Text that must reach the tokenizer as plain text.
  std::string plain(std::string text) {
    PromptPart part;
    part.text = std::move(text);
    part.parse_special = false;
    return mark(std::move(part));
  }

  // Splits the rendered prompt at the markers.
  std::vector<PromptPart> split(const std::string& rendered) const {
    std::vector<PromptPart> parts;
    size_t from = 0;
    while (from < rendered.size()) {
      size_t at = std::string::npos;
      const Insertion* next = nullptr;
      for (const auto& insertion : insertions_) {
        const size_t found = rendered.find(insertion.marker, from);
        if (found < at) {
          at = found;
          next = &insertion;
        }
      }
      if (at > from) parts.push_back({rendered.substr(from, at - from), true, -1});
      if (next == nullptr) break;
      if (next->part.media >= 0 || !next->part.text.empty()) parts.push_back(next->part);
      from = at + next->marker.size();
    }
    return parts;
  }

  common_chat_templates_inputs inputs;

 private:
  void add_text(common_chat_msg& msg, const std::string& text) {
    // Ordinary text goes through the template as it is and is tokenized together with it.
    const bool hostile = model_.spells_special_token(text);
    append(msg, "text", hostile ? plain(text) : text);
  }
  void add_marker(common_chat_msg& msg, PromptPart part) {
    append(msg, "media_marker", mark(std::move(part)));
  }
  static void append(common_chat_msg& msg, const char* type, std::string text) {
    msg.content_parts.push_back({type, std::move(text)});
  }
  std::string mark(PromptPart part) {
    insertions_.push_back({random_marker(), std::move(part)});
    return insertions_.back().marker;
  }

  const Model& model_;
  std::vector<Insertion> insertions_;
};

Result<std::unique_ptr<ChatPrompt>> ChatPrompt::create(std::shared_ptr<Model> model) {
  std::unique_ptr<ChatPrompt> prompt(new ChatPrompt(std::move(model)));
  prompt->has_template_ = llama_model_chat_template(prompt->model_->get(), nullptr) != nullptr;
  const Status status =
      guarded(ErrorCode::kModelInvalid, "tokenizer.chat_template", [&]() -> Status {
        prompt->templates_ = common_chat_templates_init(prompt->model_->get(), "");
        return {};
      });
  if (!status) return status.error();
  return prompt;
}

std::string ChatPrompt::apply(const common_chat_templates_inputs& inputs) const {
  std::lock_guard lock(mutex_);
  return common_chat_templates_apply(templates_.get(), inputs).prompt;
}

Result<RenderedPrompt> ChatPrompt::render(const Request& request) const {
  RenderedPrompt rendered;
  const Status status = guarded(ErrorCode::kInvalidRequest, "chat template", [&]() -> Status {
    Draft draft(*model_);
    for (const json& message : json::parse(request.messages)) draft.add(message);
    draft.add_tools(request.tools);
    draft.inputs.enable_thinking = request.cot;
    draft.inputs.force_pure_content = true;  // the tool router reads the calls, not llama.cpp
    const std::string prompt = apply(draft.inputs);
    const size_t last = prompt.find_last_not_of(" \n");
    rendered.starts_in_reasoning =
        last != std::string::npos && prompt.substr(0, last + 1).ends_with("<think>");
    rendered.parts = draft.split(prompt);
    return {};
  });
  if (!status) return status.error();
  return rendered;
}

Result<std::vector<PromptPart>> ChatPrompt::render_tool_answer(const Request& request,
                                                               const std::string& call_body,
                                                               const std::string& content) const {
  std::vector<PromptPart> parts;
  const Status status = guarded(ErrorCode::kToolFailed, "chat template", [&]() -> Status {
    std::string safe = content;
    if (model_->spells_special_token(safe)) {
      // JSON may spell '<' as an escape: then it is no tag for any tokenizer.
      for (size_t at = 0; (at = safe.find('<', at)) != std::string::npos; at += 6) {
        safe.replace(at, 1, "\\u003c");
      }
    }
    Draft draft(*model_);
    for (const json& message : json::parse(request.messages)) draft.add(message);
    draft.add_tools(request.tools);
    draft.inputs.enable_thinking = request.cot;
    draft.inputs.force_pure_content = true;

    json call = json::parse(call_body, nullptr, false);
    if (!call.is_object()) call = json{{"tool", "unknown"}, {"args", json::object()}};
    const std::string result = draft.plain(safe);
    common_chat_msg assistant;
    assistant.role = "assistant";
    assistant.tool_calls.push_back(parse_call(call));
    assistant.tool_calls.back().id = "call_0";
    common_chat_msg tool;
    tool.role = "tool";
    tool.tool_call_id = "call_0";
    tool.tool_name = assistant.tool_calls.back().name;
    tool.content = result;
    draft.inputs.messages.push_back(assistant);
    draft.inputs.messages.push_back(tool);
    std::string prompt = apply(draft.inputs);
    size_t after = std::string::npos;
    const size_t at = prompt.find(result);
    if (at != std::string::npos) {
      const std::string closing = "</tool_call>";
      const size_t close = prompt.rfind(closing, at);
      if (close != std::string::npos) after = close + closing.size();
    }
    if (after == std::string::npos) {
      // The template has no tool role: the result comes back as the user's next message.
      draft.inputs.messages.resize(draft.inputs.messages.size() - 2);
      const std::string call_end = draft.plain("");
      common_chat_msg said;
      said.role = "assistant";
      said.content = call_end;
      common_chat_msg answer;
      answer.role = "user";
      answer.content = "<tool_response>" + result + "</tool_response>";
      draft.inputs.messages.push_back(said);
      draft.inputs.messages.push_back(answer);
      prompt = apply(draft.inputs);
      const size_t end = prompt.find(call_end);
      if (end == std::string::npos) {
        return Error{ErrorCode::kToolFailed,
                     "the model's chat template shows neither tool results nor replies"};
      }
      after = end + call_end.size();
    }
    parts = draft.split(prompt.substr(after));
    return {};
  });
  if (!status) return status.error();
  return parts;
}

}  // namespace pm::llama

#include "engines/llama/chat_prompt.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>

#include "engines/llama/backend.h"

namespace pm::llama {

// Ordered: models are trained on arguments and schemas as they were written.
using json = nlohmann::ordered_json;

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

// A string field, or "" where the model or caller put something else.
std::string text_field(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

std::string tool_name(const json& call) {
  const std::string tool = text_field(call, "tool");
  return tool.empty() ? text_field(call, "name") : tool;
}

// '<' spelt as an escape is no tag for any tokenizer; only valid inside JSON.
std::string without_tags(std::string json_text) {
  for (size_t at = 0; (at = json_text.find('<', at)) != std::string::npos; at += 6) {
    json_text.replace(at, 1, "\\u003c");
  }
  return json_text;
}

bool ends_in_reasoning(const std::string& prompt) {
  const size_t last = prompt.find_last_not_of(" \n");
  return last != std::string::npos && prompt.substr(0, last + 1).ends_with("<think>");
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
    std::vector<std::string> texts;  // a run of text parts: together they may spell a tag
    for (const json& part : message.at("content")) {
      if (part.at("type") == "text") {
        texts.push_back(part.at("text").get<std::string>());
        continue;
      }
      add_texts(msg, texts);
      PromptPart medium;
      medium.media = part.at("index").get<int>();
      append(msg, "media_marker", mark(std::move(medium)));
    }
    add_texts(msg, texts);
    if (message.contains("tool_calls")) {
      for (const json& call : message["tool_calls"]) msg.tool_calls.push_back(past_call(call));
    }
    inputs.messages.push_back(std::move(msg));
  }

  void add_tools(const std::string& tools_json) {
    if (tools_json.empty()) return;
    for (const json& tool : json::parse(tools_json)) {
      std::string description = text_field(tool, "description");
      if (model_.spells_special_token(description)) description = plain(std::move(description));
      const json parameters = tool.value("parameters", json::object());
      inputs.tools.push_back(
          {tool.at("name").get<std::string>(), description, defused(parameters).dump()});
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
      if (next->part.media >= 0) {
        parts.push_back(next->part);
      } else {
        for (auto& piece : model_.split_inside_tags(next->part.text)) {
          parts.push_back({std::move(piece), false, -1});
        }
      }
      from = at + next->marker.size();
    }
    return parts;
  }

  common_chat_templates_inputs inputs;

 private:
  void add_texts(common_chat_msg& msg, std::vector<std::string>& texts) {
    std::string all;
    for (const auto& text : texts) all += text;
    if (model_.spells_special_token(all)) {
      append(msg, "text", plain(all));
    } else {
      // Ordinary text goes through the template as it is and is tokenized together with it.
      for (auto& text : texts) append(msg, "text", std::move(text));
    }
    texts.clear();
  }
  // The same value with a marker for every string that spells a tag. Escapes would not last: the
  // template engine parses the arguments and writes them again.
  json defused(const json& value) {
    if (value.is_string()) {
      const auto text = value.get<std::string>();
      if (!model_.spells_special_token(text)) return value;
      const std::string quoted = json(text).dump();
      return plain(quoted.substr(1, quoted.size() - 2));
    }
    if (value.is_array()) {
      json copy = json::array();
      for (const json& item : value) copy.push_back(defused(item));
      return copy;
    }
    if (value.is_object()) {
      json copy = json::object();
      for (const auto& [key, item] : value.items()) {
        copy[defused(json(key)).get<std::string>()] = defused(item);
      }
      return copy;
    }
    return value;
  }
  common_chat_tool_call past_call(const json& call) {
    common_chat_tool_call past;
    past.id = text_field(call, "id");
    past.name = tool_name(call);
    const char* key = call.contains("args") ? "args" : "arguments";
    past.arguments = call.contains(key) ? defused(call[key]).dump() : "{}";
    return past;
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

ChatPrompt::Draft ChatPrompt::draft_of(const Request& request) const {
  Draft draft(*model_);
  for (const json& message : json::parse(request.messages)) draft.add(message);
  draft.add_tools(request.tools);
  draft.inputs.enable_thinking = request.cot;
  draft.inputs.force_pure_content = true;  // the tool router reads the calls, not llama.cpp
  return draft;
}

Result<RenderedPrompt> ChatPrompt::render(const Request& request) const {
  RenderedPrompt rendered;
  const Status status = guarded(ErrorCode::kInvalidRequest, "chat template", [&]() -> Status {
    const Draft draft = draft_of(request);
    const std::string prompt = apply(draft.inputs);
    rendered.starts_in_reasoning = ends_in_reasoning(prompt);
    rendered.parts = draft.split(prompt);
    return {};
  });
  if (!status) return status.error();
  return rendered;
}

// What the template writes after a call of `tool` whose result stands behind the marker `result`.
std::string ChatPrompt::render_result(Draft& draft, const std::string& tool,
                                      const std::string& result) const {
  const auto conversation = draft.inputs.messages;
  draft.inputs.add_generation_prompt = false;
  const std::string before = apply(draft.inputs);
  draft.inputs.add_generation_prompt = true;

  // The arguments are cut off again: what the model wrote is in the cache already.
  common_chat_msg call;
  call.role = "assistant";
  call.tool_calls.push_back({tool, "{}", "call_0"});
  common_chat_msg answer;
  answer.role = "tool";
  answer.tool_call_id = "call_0";
  answer.tool_name = tool;
  answer.content = result;
  draft.inputs.messages.push_back(call);
  draft.inputs.messages.push_back(answer);
  std::string prompt = apply(draft.inputs);
  const size_t at = prompt.find(result);
  const std::string closing = "</tool_call>";
  if (at != std::string::npos) {
    const size_t close = prompt.rfind(closing, at);
    // Not one that somebody wrote earlier in the conversation.
    const auto shared = std::mismatch(before.begin(), before.end(), prompt.begin(), prompt.end());
    const auto common = static_cast<size_t>(shared.first - before.begin());
    if (close != std::string::npos && close >= common) return prompt.substr(close + closing.size());
  }

  // The template has no tool role: the result comes back as the user's next message.
  draft.inputs.messages = conversation;
  const std::string call_end = draft.plain("");
  common_chat_msg said;
  said.role = "assistant";
  said.content = call_end;
  common_chat_msg told;
  told.role = "user";
  told.content = "<tool_response>" + result + "</tool_response>";
  draft.inputs.messages.push_back(said);
  draft.inputs.messages.push_back(told);
  prompt = apply(draft.inputs);
  const size_t end = prompt.find(call_end);
  return end == std::string::npos ? "" : prompt.substr(end + call_end.size());
}

Result<RenderedPrompt> ChatPrompt::render_tool_answer(const Request& request,
                                                      const std::string& call_body,
                                                      const std::string& content) const {
  RenderedPrompt rendered;
  const Status status = guarded(ErrorCode::kToolFailed, "chat template", [&]() -> Status {
    Draft draft = draft_of(request);
    const json call = json::parse(call_body, nullptr, false);
    const std::string name = call.is_object() ? tool_name(call) : "";
    const bool usable = !name.empty() && !model_->spells_special_token(name);
    const std::string safe =
        model_->spells_special_token(content) ? without_tags(content) : content;
    const std::string result = draft.plain(safe);
    const std::string after = render_result(draft, usable ? name : "unknown", result);
    if (after.empty()) {
      return Error{ErrorCode::kToolFailed,
                   "the model's chat template shows neither tool results nor replies"};
    }
    rendered.starts_in_reasoning = ends_in_reasoning(after);
    rendered.parts = draft.split(after);
    return {};
  });
  if (!status) return status.error();
  return rendered;
}

}  // namespace pm::llama

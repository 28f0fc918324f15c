#include "addon/convert.h"

#include "core/json_writer.h"

namespace pm::addon {
namespace {

std::string string_of(const Napi::Object& object, const char* key) {
  return object.Get(key).As<Napi::String>().Utf8Value();
}

double number_of(const Napi::Object& object, const char* key) {
  return object.Get(key).As<Napi::Number>().DoubleValue();
}

std::string details_json(const Error& error) {
  JsonWriter json;
  json.begin_object();
  for (const auto& [key, value] : error.details) json.field(key, value);
  json.end_object();
  return json.str();
}

MediaInput to_media(const Napi::Object& object) {
  MediaInput media;
  media.is_audio = string_of(object, "kind") == "audio";
  media.digest = string_of(object, "digest");
  const auto data = object.Get("data").As<Napi::Uint8Array>();
  media.data.assign(data.Data(), data.Data() + data.ByteLength());
  if (media.is_audio) return media;
  media.width = object.Get("width").As<Napi::Number>().Uint32Value();
  media.height = object.Get("height").As<Napi::Number>().Uint32Value();
  const uint64_t expected = uint64_t{3} * media.width * media.height;
  if (expected == 0 || expected != media.data.size()) {
    throw_error(object.Env(),
                {ErrorCode::kMediaInvalid, "expected 3 × width × height bytes of RGB (" +
                                               std::to_string(expected) + "), found " +
                                               std::to_string(media.data.size())});
  }
  return media;
}

const char* type_name(EventType type) {
  switch (type) {
    case EventType::kStart:
      return "start";
    case EventType::kText:
      return "text";
    case EventType::kReasoning:
      return "reasoning";
    case EventType::kToolCall:
      return "tool_call";
    case EventType::kFinish:
      return "finish";
    case EventType::kError:
      return "error";
  }
  return "error";
}

const char* reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kBudget:
      return "budget";
  }
  return "stop";
}

Napi::Object to_js_usage(Napi::Env env, const Usage& usage) {
  auto media = Napi::Object::New(env);
  media["image"] = static_cast<double>(usage.image_tokens);
  media["audio"] = static_cast<double>(usage.audio_tokens);
  media["video"] = 0.0;
  auto object = Napi::Object::New(env);
  object["input_tokens"] = static_cast<double>(usage.input_tokens);
  object["output_tokens"] = static_cast<double>(usage.output_tokens);
  object["cached_tokens"] = static_cast<double>(usage.cached_tokens);
  object["media_tokens"] = media;
  object["draft_tokens"] = 0.0;
  object["accepted_tokens"] = 0.0;
  return object;
}

Napi::Object to_js_timings(Napi::Env env, const Timings& timings) {
  auto object = Napi::Object::New(env);
  object["queue_ms"] = timings.queue_ms;
  object["encode_ms"] = timings.encode_ms;
  object["prefill_ms"] = timings.prefill_ms;
  object["ttft_ms"] = timings.ttft_ms;
  object["decode_ms"] = timings.decode_ms;
  object["tokens_per_second"] = timings.tokens_per_second;
  return object;
}

Napi::Object to_js_event(Napi::Env env, const Event& event) {
  auto object = Napi::Object::New(env);
  object["id"] = static_cast<double>(event.id);
  object["type"] = type_name(event.type);
  switch (event.type) {
    case EventType::kStart:
      object["input_tokens"] = static_cast<double>(event.usage.input_tokens);
      break;
    case EventType::kText:
    case EventType::kReasoning:
      object["text"] = event.text;
      break;
    case EventType::kToolCall:
      object["call_id"] = event.call_id;
      object["body"] = event.text;
      break;
    case EventType::kFinish:
      object["reason"] = reason_name(event.reason);
      object["unfinished"] = event.text;
      break;
    case EventType::kError:
      object["code"] = code_name(event.error.code);
      object["message"] = event.error.message;
      object["details"] = details_json(event.error);
      break;
  }
  if (is_terminal(event)) {
    object["usage"] = to_js_usage(env, event.usage);
    object["timings"] = to_js_timings(env, event.timings);
  }
  return object;
}

}  // namespace

Napi::Value to_js_error(Napi::Env env, const Error& error) {
  auto value = Napi::Error::New(env, error.message).Value();
  value.Set("code", code_name(error.code));
  value.Set("details", details_json(error));
  return value;
}

void throw_error(Napi::Env env, const Error& error) {
  throw Napi::Error(env, to_js_error(env, error));
}

RequestPtr to_request(const Napi::Object& object) {
  auto request = std::make_shared<Request>();
  request->id = object.Get("id").As<Napi::Number>().Int32Value();
  request->messages = string_of(object, "messages");
  request->tools = string_of(object, "tools");
  const auto media = object.Get("media").As<Napi::Array>();
  for (uint32_t i = 0; i < media.Length(); ++i) {
    request->media.push_back(to_media(media.Get(i).As<Napi::Object>()));
  }
  request->cot = object.Get("cot").As<Napi::Boolean>();
  request->sampling.temperature = static_cast<float>(number_of(object, "temperature"));
  request->sampling.top_p = static_cast<float>(number_of(object, "top_p"));
  request->sampling.top_k = object.Get("top_k").As<Napi::Number>().Int32Value();
  request->sampling.min_p = static_cast<float>(number_of(object, "min_p"));
  request->sampling.seed = object.Get("seed").As<Napi::Number>().Uint32Value();
  request->sampling.grammar = string_of(object, "grammar");
  request->sampling.json_schema = string_of(object, "json_schema");
  const auto stop = object.Get("stop").As<Napi::Array>();
  for (uint32_t i = 0; i < stop.Length(); ++i) {
    std::string text = stop.Get(i).As<Napi::String>().Utf8Value();
    if (!text.empty()) request->stop.push_back(std::move(text));
  }
  request->max_tokens = object.Get("max_tokens").As<Napi::Number>().Int64Value();
  request->budget_ms = number_of(object, "budget_ms");
  return request;
}

namespace {

std::optional<KvType> to_kv_type(const std::string& name) {
  if (name == "bf16") return KvType::kBf16;
  if (name == "int8") return KvType::kInt8;
  if (name == "fp8") return KvType::kFp8;
  return std::nullopt;  // "auto"
}

llama::KvOptions to_kv_options(const Napi::Object& object) {
  llama::KvOptions kv;
  const std::string memory = string_of(object, "memory");
  if (memory == "paged") kv.memory = llama::KvOptions::Memory::kPaged;
  if (memory == "stock") kv.memory = llama::KvOptions::Memory::kStock;
  kv.k_type = to_kv_type(string_of(object, "k"));
  kv.v_type = to_kv_type(string_of(object, "v"));
  kv.budget_bytes = static_cast<size_t>(number_of(object, "budget_bytes"));
  kv.spill_dir = string_of(object, "spill_dir");
  kv.spill_bytes = static_cast<uint64_t>(number_of(object, "spill_bytes"));
  kv.prefix_cache = object.Get("prefix_cache").As<Napi::Boolean>().Value();
  return kv;
}

}  // namespace

llama::LoadOptions to_load_options(const Napi::Object& object) {
  llama::LoadOptions options;
  options.model = string_of(object, "model");
  options.mmproj = string_of(object, "mmproj");
  options.threads = object.Get("threads").As<Napi::Number>().Int32Value();
  const auto size = [&](const char* key) { return static_cast<size_t>(number_of(object, key)); };
  options.context_tokens = size("context_tokens");
  options.max_requests = size("max_requests");
  options.tokens_per_step = size("tokens_per_step");
  options.kv = to_kv_options(object.Get("kv").As<Napi::Object>());
  options.media_cache_bytes = size("media_cache_bytes");
  return options;
}

bool is_terminal(const Event& event) {
  return event.type == EventType::kFinish || event.type == EventType::kError;
}

Napi::Array to_js_events(Napi::Env env, const EventBatch& events) {
  auto array = Napi::Array::New(env, events.size());
  for (size_t i = 0; i < events.size(); ++i) {
    const Napi::HandleScope scope(env);
    array.Set(static_cast<uint32_t>(i), to_js_event(env, events[i]));
  }
  return array;
}

}  // namespace pm::addon

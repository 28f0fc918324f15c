#include "addon/engine_object.h"

#include "addon/cancel_token.h"
#include "addon/convert.h"
#include "addon/instance_data.h"
#include "addon/promise_worker.h"
#include "addon/type_tags.h"
#include "core/json_writer.h"
#include "core/utf8.h"
#include "engines/llama/jobs.h"

namespace pm::addon {
namespace {

template <typename JsArray, typename T>
JsArray to_typed_array(Napi::Env env, const std::vector<T>& values) {
  auto array = JsArray::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}

class LoadWorker final : public PromiseWorker {
 public:
  LoadWorker(Napi::Env env, llama::LoadOptions options, Napi::Function on_events,
             Napi::Function on_progress)
      : PromiseWorker(env),
        options_(std::move(options)),
        on_events_(Napi::Persistent(on_events)),
        on_progress_(std::make_shared<Napi::FunctionReference>(Napi::Persistent(on_progress))),
        js_(std::make_shared<JsThread>(env, "mm-load-progress")),
        cancel_(options_.cancel) {
    // A worker that is terminated must not wait until gigabytes have been read.
    napi_add_env_cleanup_hook(env, &LoadWorker::on_environment_exit, cancel_.get());
    // Weak: after the worker has gone a late report has nobody to tell. The end is not posted: the
    // promise would overtake it. result() reports it.
    options_.on_progress = [js = js_, callback = std::weak_ptr(on_progress_)](float fraction) {
      if (fraction >= 1.0f) return;
      js->post([callback, fraction](Napi::Env task_env) {
        if (const auto function = callback.lock()) {
          function->Call({Napi::Number::New(task_env, fraction)});
        }
      });
    };
  }

  ~LoadWorker() override {
    napi_remove_env_cleanup_hook(Env(), &LoadWorker::on_environment_exit, cancel_.get());
  }

 protected:
  Status execute() override {
    auto opened = EngineCore::open(options_);
    if (!opened) return opened.error();
    core_ = std::move(opened).value();
    return {};
  }

  Napi::Value result(Napi::Env env) override {
    on_progress_->Call({Napi::Number::New(env, 1)});
    auto handle = Napi::External<std::shared_ptr<EngineCore>>::New(env, &core_);
    handle.TypeTag(&kEngineCoreTag);
    return InstanceData::of(env).engine_class.New({handle, on_events_.Value()});
  }

 private:
  llama::LoadOptions options_;
  Napi::FunctionReference on_events_;
  std::shared_ptr<Napi::FunctionReference> on_progress_;
  static void on_environment_exit(void* token) { static_cast<CancelToken*>(token)->cancel(); }

  std::shared_ptr<JsThread> js_;
  CancelTokenPtr cancel_;
  std::shared_ptr<EngineCore> core_;
};

class TokenizeWorker final : public PromiseWorker {
 public:
  TokenizeWorker(Napi::Env env, std::shared_ptr<llama::Model> model, std::string text,
                 bool add_special, bool parse_special)
      : PromiseWorker(env),
        model_(std::move(model)),
        text_(std::move(text)),
        add_special_(add_special),
        parse_special_(parse_special) {}

 protected:
  Status execute() override {
    tokens_ = model_->tokenize(text_, add_special_, parse_special_);
    return {};
  }
  Napi::Value result(Napi::Env env) override {
    return to_typed_array<Napi::Int32Array>(env, tokens_);
  }

 private:
  std::shared_ptr<llama::Model> model_;
  std::string text_;
  bool add_special_;
  bool parse_special_;
  std::vector<Token> tokens_;
};

class DetokenizeWorker final : public PromiseWorker {
 public:
  DetokenizeWorker(Napi::Env env, std::shared_ptr<llama::Model> model, std::vector<Token> tokens)
      : PromiseWorker(env), model_(std::move(model)), tokens_(std::move(tokens)) {}

 protected:
  Status execute() override {
    for (const Token token : tokens_) {
      if (token < 0 || static_cast<size_t>(token) >= model_->vocab_size()) {
        return Error{ErrorCode::kInvalidRequest, "expected token ids from 0 to " +
                                                     std::to_string(model_->vocab_size() - 1) +
                                                     ", found " + std::to_string(token)};
      }
    }
    text_ = sanitize_utf8(model_->detokenize(tokens_));
    return {};
  }
  Napi::Value result(Napi::Env env) override { return Napi::String::New(env, text_); }

 private:
  std::shared_ptr<llama::Model> model_;
  std::vector<Token> tokens_;
  std::string text_;
};

// Stops the engine, then resolves as the last task of its JsThread: whoever awaits dispose() has
// seen every event of every run.
class DisposeWorker final : public Napi::AsyncWorker {
 public:
  DisposeWorker(Napi::Env env, std::shared_ptr<EngineCore> core, std::shared_ptr<JsThread> js)
      : Napi::AsyncWorker(env),
        deferred_(Napi::Promise::Deferred::New(env)),
        core_(std::move(core)),
        js_(std::move(js)) {}
  Napi::Promise promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override { core_->shutdown(); }
  void OnOK() override {
    if (!js_->is_open()) return deferred_.Resolve(Env().Undefined());  // disposed before
    js_->hold();
    js_->post([js = js_, deferred = deferred_](Napi::Env env) {
      js->release_hold();
      js->close();
      deferred.Resolve(env.Undefined());
    });
  }

 private:
  Napi::Promise::Deferred deferred_;
  std::shared_ptr<EngineCore> core_;
  std::shared_ptr<JsThread> js_;
};

}  // namespace

Napi::Function EngineObject::define(Napi::Env env) {
  return DefineClass(env, "NativeEngine",
                     {
                         InstanceMethod<&EngineObject::info>("info"),
                         InstanceMethod<&EngineObject::stats>("stats"),
                         InstanceMethod<&EngineObject::submit>("submit"),
                         InstanceMethod<&EngineObject::cancel>("cancel"),
                         InstanceMethod<&EngineObject::finish>("finish"),
                         InstanceMethod<&EngineObject::tool_result>("toolResult"),
                         InstanceMethod<&EngineObject::tokenize>("tokenize"),
                         InstanceMethod<&EngineObject::detokenize>("detokenize"),
                         InstanceMethod<&EngineObject::score>("score"),
                         InstanceMethod<&EngineObject::save_prefix>("savePrefix"),
                         InstanceMethod<&EngineObject::load_prefix>("loadPrefix"),
                         InstanceMethod<&EngineObject::kv_pages>("kvPages"),
                         InstanceMethod<&EngineObject::embed>("embed"),
                         InstanceMethod<&EngineObject::dispose>("dispose"),
                     });
}

EngineObject::EngineObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  Napi::Env env = info.Env();
  if (info.Length() != 2 || !info[0].IsExternal() || !info[1].IsFunction()) {
    throw_error(env, {ErrorCode::kInvalidRequest, "NativeEngine is made by loadEngine()"});
  }
  const auto handle = info[0].As<Napi::External<std::shared_ptr<EngineCore>>>();
  if (!handle.CheckTypeTag(&kEngineCoreTag)) {
    throw_error(env, {ErrorCode::kInvalidRequest, "expected an EngineCore, found another handle"});
  }
  core_ = *handle.Data();
  js_ = std::make_shared<JsThread>(env, "mm-events");
  on_events_ =
      std::make_shared<Napi::FunctionReference>(Napi::Persistent(info[1].As<Napi::Function>()));
  core_->start([js = js_, weak_js = std::weak_ptr(js_),
                weak_callback = std::weak_ptr(on_events_)](EventBatch&& events) {
    auto batch = std::make_shared<EventBatch>(std::move(events));
    js->post([weak_js, weak_callback, batch](Napi::Env task_env) {
      const auto thread = weak_js.lock();
      const auto callback = weak_callback.lock();
      for (const Event& event : *batch) {
        if (thread && is_terminal(event)) thread->release_hold();
      }
      if (callback) callback->Call({to_js_events(task_env, *batch)});
    });
  });
  exit_hook_set_ =
      napi_add_env_cleanup_hook(env, &EngineObject::on_environment_exit, this) == napi_ok;
}

// The environment (a worker, or the process) goes away: no thread may outlive it.
void EngineObject::on_environment_exit(void* self) {
  auto* engine = static_cast<EngineObject*>(self);
  engine->exit_hook_set_ = false;
  engine->core_->shutdown();
}

EngineObject::~EngineObject() {
  if (exit_hook_set_) napi_remove_env_cleanup_hook(Env(), &EngineObject::on_environment_exit, this);
  // Collected without dispose(): waits for the step in progress at most.
  if (core_) core_->shutdown();
}

Napi::Value EngineObject::load(const Napi::CallbackInfo& info) {
  auto options = to_load_options(info[0].As<Napi::Object>());
  options.cancel = CancelTokenObject::unwrap_token(info[1]);
  return PromiseWorker::start(new LoadWorker(
      info.Env(), std::move(options), info[2].As<Napi::Function>(), info[3].As<Napi::Function>()));
}

std::shared_ptr<Engine> EngineObject::live_engine(Napi::Env env) const {
  auto engine = core_->engine();
  if (!engine) throw_error(env, {ErrorCode::kDisposed, "the engine was disposed"});
  return engine;
}

Napi::Value EngineObject::info(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), core_->info_json());
}

Napi::Value EngineObject::stats(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), core_->stats_json());
}

Napi::Value EngineObject::submit(const Napi::CallbackInfo& info) {
  const auto engine = live_engine(info.Env());
  if (!engine->submit(to_request(info[0].As<Napi::Object>()))) {
    throw_error(info.Env(), {ErrorCode::kDisposed, "the engine was disposed"});
  }
  js_->hold();  // until its terminal event has been delivered
  return info.Env().Undefined();
}

Napi::Value EngineObject::cancel(const Napi::CallbackInfo& info) {
  if (const auto engine = core_->engine()) engine->cancel(info[0].As<Napi::Number>().Int32Value());
  return info.Env().Undefined();
}

Napi::Value EngineObject::finish(const Napi::CallbackInfo& info) {
  if (const auto engine = core_->engine()) engine->finish(info[0].As<Napi::Number>().Int32Value());
  return info.Env().Undefined();
}

Napi::Value EngineObject::tool_result(const Napi::CallbackInfo& info) {
  if (const auto engine = core_->engine()) {
    engine->tool_result(info[0].As<Napi::Number>().Int32Value(),
                        info[1].As<Napi::String>().Utf8Value(),
                        info[2].As<Napi::String>().Utf8Value());
  }
  return info.Env().Undefined();
}

Napi::Value EngineObject::tokenize(const Napi::CallbackInfo& info) {
  live_engine(info.Env());
  return PromiseWorker::start(
      new TokenizeWorker(info.Env(), core_->model(), info[0].As<Napi::String>().Utf8Value(),
                         info[1].As<Napi::Boolean>(), info[2].As<Napi::Boolean>()));
}

Napi::Value EngineObject::detokenize(const Napi::CallbackInfo& info) {
  live_engine(info.Env());
  const auto ids = info[0].As<Napi::Int32Array>();
  return PromiseWorker::start(
      new DetokenizeWorker(info.Env(), core_->model(),
                           std::vector<Token>(ids.Data(), ids.Data() + ids.ElementLength())));
}

// A promise that stays pending, and keeps the event loop alive, until `settle` is called on any
// thread.
template <typename T, typename ToJs>
EngineObject::Pending<T> EngineObject::pending(Napi::Env env, ToJs to_js) {
  auto deferred = std::make_shared<Napi::Promise::Deferred>(Napi::Promise::Deferred::New(env));
  js_->hold();
  auto settle = [js = js_, deferred, to_js](Result<T> outcome) {
    auto shared = std::make_shared<Result<T>>(std::move(outcome));
    js->post([weak_js = std::weak_ptr(js), deferred, to_js, shared](Napi::Env task_env) {
      if (const auto thread = weak_js.lock()) thread->release_hold();
      if (shared->ok()) {
        deferred->Resolve(to_js(task_env, shared->value()));
      } else {
        deferred->Reject(to_js_error(task_env, shared->error()));
      }
    });
  };
  return {deferred->Promise(), std::move(settle)};
}

template <typename T, typename ToJs>
Napi::Value EngineObject::run_job(Napi::Env env,
                                  EngineJob (*make)(std::shared_ptr<llama::Model>, std::string,
                                                    CancelTokenPtr, std::function<void(Result<T>)>),
                                  std::string text, CancelTokenPtr cancel, ToJs to_js) {
  const auto engine = live_engine(env);
  auto [promise, settle] = pending<T>(env, to_js);
  // A job that is not taken is destroyed and answers by itself that the engine was disposed.
  cancel->on_cancel([weak_engine = std::weak_ptr(engine)] {
    if (const auto live = weak_engine.lock()) live->wake();
  });
  engine->run_job(make(core_->model(), std::move(text), cancel, std::move(settle)), cancel);
  return promise;
}

namespace {

Napi::Value to_js_saved(Napi::Env env, const Engine::SavedPrefix& saved) {
  auto object = Napi::Object::New(env);
  object["tokens"] = Napi::Number::New(env, static_cast<double>(saved.tokens));
  object["pages"] = Napi::Number::New(env, static_cast<double>(saved.pages));
  return object;
}

}  // namespace

Napi::Value EngineObject::save_prefix(const Napi::CallbackInfo& info) {
  const auto engine = live_engine(info.Env());
  RequestPtr request = to_request(info[0].As<Napi::Object>());
  auto [promise, settle] = pending<Engine::SavedPrefix>(info.Env(), to_js_saved);
  engine->save_prefix(std::move(request), info[1].As<Napi::String>().Utf8Value(),
                      std::move(settle));
  return promise;
}

Napi::Value EngineObject::load_prefix(const Napi::CallbackInfo& info) {
  const auto engine = live_engine(info.Env());
  auto [promise, settle] = pending<Engine::SavedPrefix>(info.Env(), to_js_saved);
  engine->load_prefix(info[0].As<Napi::String>().Utf8Value(), std::move(settle));
  return promise;
}

Napi::Value EngineObject::kv_pages(const Napi::CallbackInfo& info) {
  const auto engine = live_engine(info.Env());
  auto [promise, settle] = pending<std::string>(
      info.Env(),
      [](Napi::Env env, const std::string& json) { return Napi::String::New(env, json); });
  engine->inspect_memory([settle = std::move(settle)](std::vector<PoolPicture> pools) {
    JsonWriter json;
    json.begin_object().key("groups").begin_array();
    for (const PoolPicture& pool : pools) {
      json.begin_object().field("page_bytes", pool.page_bytes);
      json.field("pages_total", pool.states.size()).field("states", pool.states).end_object();
    }
    settle(json.end_array().end_object().str());
  });
  return promise;
}

Napi::Value EngineObject::score(const Napi::CallbackInfo& info) {
  return run_job<llama::Score>(
      info.Env(), llama::make_score_job, info[0].As<Napi::String>().Utf8Value(),
      CancelTokenObject::unwrap_token(info[1]), [](Napi::Env env, const llama::Score& score) {
        auto object = Napi::Object::New(env);
        object["tokens"] = to_typed_array<Napi::Int32Array>(env, score.tokens);
        object["logprobs"] = to_typed_array<Napi::Float32Array>(env, score.logprobs);
        return object;
      });
}

Napi::Value EngineObject::embed(const Napi::CallbackInfo& info) {
  return run_job<std::vector<float>>(info.Env(), llama::make_embed_job,
                                     info[0].As<Napi::String>().Utf8Value(),
                                     CancelTokenObject::unwrap_token(info[1]),
                                     [](Napi::Env env, const std::vector<float>& vector) {
                                       return to_typed_array<Napi::Float32Array>(env, vector);
                                     });
}

Napi::Value EngineObject::dispose(const Napi::CallbackInfo& info) {
  auto* worker = new DisposeWorker(info.Env(), core_, js_);
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

}  // namespace pm::addon

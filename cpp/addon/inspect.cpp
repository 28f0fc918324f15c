#include "addon/inspect.h"

#include "addon/promise_worker.h"
#include "engines/gguf/gguf.h"

namespace pm::addon {
namespace {

class InspectWorker final : public PromiseWorker {
 public:
  InspectWorker(Napi::Env env, std::string path) : PromiseWorker(env), path_(std::move(path)) {}

 protected:
  Status execute() override {
    const auto file = gguf::read_gguf(path_);
    if (!file) return file.error();
    json_ = gguf::to_json(file.value());
    return {};
  }
  Napi::Value result(Napi::Env env) override { return Napi::String::New(env, json_); }

 private:
  std::string path_;
  std::string json_;
};

}  // namespace

Napi::Value inspect_gguf(const Napi::CallbackInfo& info) {
  return PromiseWorker::start(
      new InspectWorker(info.Env(), info[0].As<Napi::String>().Utf8Value()));
}

}  // namespace pm::addon

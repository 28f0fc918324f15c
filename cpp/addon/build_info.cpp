#include "addon/build_info.h"

#include <string>

#include "engines/llama/backend.h"
#include "ggml-backend.h"
#include "llama.h"

// Set by CMake.
#ifndef POLYMIND_VERSION
#define POLYMIND_VERSION "unknown"
#endif
#ifndef POLYMIND_CPU_BUILD
#define POLYMIND_CPU_BUILD "native"
#endif
#ifndef POLYMIND_SANITIZER
#define POLYMIND_SANITIZER "none"
#endif

namespace pm::addon {
namespace {

#if defined(__clang__)
constexpr const char* kCompiler = "clang " __clang_version__;
#elif defined(__GNUC__)
constexpr const char* kCompiler = "gcc " __VERSION__;
#elif defined(_MSC_VER)
constexpr const char* kCompiler = "msvc";
#else
constexpr const char* kCompiler = "unknown";
#endif

Napi::Array cpu_features(Napi::Env env) {
  auto list = Napi::Array::New(env);
  ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  if (device == nullptr) return list;
  const auto get_features =
      reinterpret_cast<ggml_backend_get_features_t>(ggml_backend_reg_get_proc_address(
          ggml_backend_dev_backend_reg(device), "ggml_backend_get_features"));
  if (get_features == nullptr) return list;
  uint32_t count = 0;
  for (auto* feature = get_features(ggml_backend_dev_backend_reg(device)); feature->name != nullptr;
       ++feature) {
    if (std::string(feature->value) != "0") list.Set(count++, feature->name);
  }
  return list;
}

}  // namespace

Napi::Value build_info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  llama::init_backend();
  auto object = Napi::Object::New(env);
  object["version"] = POLYMIND_VERSION;
  object["llama"] = llama_version();
  object["compiler"] = kCompiler;
  object["cpu_build"] = POLYMIND_CPU_BUILD;
  object["cpu_features"] = cpu_features(env);
  object["sanitizer"] = POLYMIND_SANITIZER;
  return object;
}

}  // namespace pm::addon

// Versions, processor, threads, seeds, grad mode.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <c10/core/GradMode.h>
#include <torch/headeronly/version.h>
#include <atomic>
#include "../kernels/cpu/instruction_set.h"
#include "addon.h"
#include "convert.h"
#include "env_state.h"
#include "jobs.h"

namespace a_infonce::addon {

namespace {

std::atomic<int> chosen_threads{0};  // of the process; 0: LibTorch's own choice

Napi::Value set_error_factory(const Napi::CallbackInfo& info) {
  EnvState::of(info.Env()).error_factory = Napi::Persistent(info[0].As<Napi::Function>());
  return info.Env().Undefined();
}

Napi::Value get_info(const Napi::CallbackInfo& info) {
  auto env = info.Env();
  auto result = Napi::Object::New(env);
  result.Set("libtorch", TORCH_VERSION);
  result.Set("instructionSet", kernels::name(kernels::current()));
  auto sets = Napi::Array::New(env);
  for (auto set : kernels::available()) sets.Set(sets.Length(), kernels::name(set));
  result.Set("instructionSets", sets);
  result.Set("threads", at::get_num_threads());
  result.Set("cuda", at::hasCUDA());
  result.Set("openmp", at::get_parallel_info().find("ATen parallel backend: OpenMP") != std::string::npos);
  result.Set("cpu", at::get_cpu_capability());
  return result;
}

Napi::Value set_threads(const Napi::CallbackInfo& info) {
  int threads = static_cast<int>(integer_arg(info[0], "threads"));
  chosen_threads = threads;
  at::set_num_threads(threads);
  return info.Env().Undefined();
}

Napi::Value get_threads(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), at::get_num_threads()); }

Napi::Value set_instruction_set(const Napi::CallbackInfo& info) {
  kernels::force(string_arg(info[0], "instructionSet"));
  return info.Env().Undefined();
}

Napi::Value manual_seed(const Napi::CallbackInfo& info) {
  bool lossless = false;
  at::manual_seed(info[0].As<Napi::BigInt>().Uint64Value(&lossless));
  return info.Env().Undefined();
}

Napi::Value set_grad_enabled(const Napi::CallbackInfo& info) {
  bool before = c10::GradMode::is_enabled();
  c10::GradMode::set_enabled(boolean_arg(info[0], "enabled"));
  return Napi::Boolean::New(info.Env(), before);
}

}  // namespace

void apply_threads_to_this_thread() {
  if (int threads = chosen_threads) at::set_num_threads(threads);
}

void export_runtime(Napi::Env env, Napi::Object exports) {
  export_function(env, exports, "set_error_factory", set_error_factory);
  export_function(env, exports, "info", get_info);
  export_function(env, exports, "set_threads", set_threads);
  export_function(env, exports, "get_threads", get_threads);
  export_function(env, exports, "set_instruction_set", set_instruction_set);
  export_function(env, exports, "manual_seed", manual_seed);
  export_function(env, exports, "set_grad_enabled", set_grad_enabled);
}

}  // namespace a_infonce::addon

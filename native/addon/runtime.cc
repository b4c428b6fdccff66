// Versions, processor, threads, seeds, grad mode.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <c10/core/GradMode.h>
#include <torch/headeronly/version.h>
#include <atomic>
#include "../device.h"
#include "../error.h"
#include "../kernels/cpu/instruction_set.h"
#include "../ops/backend.h"
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

// cuda_info(): the CUDA that LibTorch is built with, the cards, and what the kernels were compiled for, or why they cannot be loaded.
Napi::Value cuda_info(const Napi::CallbackInfo& info) {
  auto env = info.Env();
  auto result = Napi::Object::New(env);
  if (cuda_version().empty()) return result;
  result.Set("version", cuda_version());
  result.Set("devices", static_cast<double>(device_count()));
  try {
    const auto* backend = ops::backend(c10::kCUDA);
    result.Set("architectures", backend->architectures());
    auto cards = Napi::Array::New(env);
    for (const auto& card : backend->devices()) {
      auto entry = Napi::Object::New(env);
      entry.Set("device", "cuda:" + std::to_string(cards.Length()));
      entry.Set("name", card.name);
      entry.Set("architecture", std::to_string(card.major) + "." + std::to_string(card.minor));
      entry.Set("memory", static_cast<double>(card.memory));
      cards.Set(cards.Length(), entry);
    }
    result.Set("cards", cards);
  } catch (const Error& error) {
    result.Set("problem", error.what());
  }
  return result;
}

/// The argument as a CUDA device that is there.
c10::Device cuda_arg(const Napi::Value& value) {
  const auto device = a_infonce::device_named(string_arg(value, "device"));
  const std::string name = device.str();
  require_range(device.is_cuda(), "device", "'cuda' or 'cuda:<index>'", "'" + name + "'");
  return device;
}

Napi::Value cuda_memory(const Napi::CallbackInfo& info) {
  const auto memory = memory_of(cuda_arg(info[0]));
  auto result = Napi::Object::New(info.Env());
  result.Set("allocated", static_cast<double>(memory.allocated));
  result.Set("peak", static_cast<double>(memory.peak));
  result.Set("reserved", static_cast<double>(memory.reserved));
  result.Set("free", static_cast<double>(memory.free));
  result.Set("total", static_cast<double>(memory.total));
  return result;
}

Napi::Value cuda_reset_peak_memory(const Napi::CallbackInfo& info) {
  reset_peak_memory(cuda_arg(info[0]));
  return info.Env().Undefined();
}

Napi::Value cuda_synchronize(const Napi::CallbackInfo& info) {
  synchronize(cuda_arg(info[0]));
  return info.Env().Undefined();
}

// cuda_allow_tf32(allowed?): whether LibTorch's convolutions and products of float32 on a card may take TF32; sets it where it is given.
Napi::Value cuda_allow_tf32(const Napi::CallbackInfo& info) {
  if (!info[0].IsUndefined()) allow_tf32(boolean_arg(info[0], "cuda.allowTF32"));
  return Napi::Boolean::New(info.Env(), allows_tf32());
}

Napi::Value cuda_release_memory(const Napi::CallbackInfo& info) {
  release_memory();
  return info.Env().Undefined();
}

// device_named(text, argument): the device as tensors on it call it.
Napi::Value device_named(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), a_infonce::device_named(string_arg(info[0], "device"), string_arg(info[1], "argument").c_str()).str());
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
  export_function(env, exports, "cuda_info", cuda_info);
  export_function(env, exports, "cuda_memory", cuda_memory);
  export_function(env, exports, "cuda_reset_peak_memory", cuda_reset_peak_memory);
  export_function(env, exports, "cuda_synchronize", cuda_synchronize);
  export_function(env, exports, "cuda_allow_tf32", cuda_allow_tf32);
  export_function(env, exports, "cuda_release_memory", cuda_release_memory);
  export_function(env, exports, "device_named", device_named);
}

}  // namespace a_infonce::addon

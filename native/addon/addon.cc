#include "addon.h"

#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <new>
#include <string>
#include <string_view>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/headeronly/version.h>
#include "../device.h"
#include "env_state.h"
#include "jobs_runner.h"

namespace a_infonce::addon {

EnvState::EnvState() = default;
EnvState::~EnvState() = default;

namespace {

const char* name_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::ArgumentType: return "ArgumentType";
    case ErrorKind::ArgumentRange: return "ArgumentRange";
    case ErrorKind::Operator: return "Operator";
    case ErrorKind::NonFinite: return "NonFinite";
    case ErrorKind::Load: return "Load";
    case ErrorKind::File: return "File";
    case ErrorKind::Cancelled: return "Cancelled";
    case ErrorKind::OutOfMemory: return "OutOfMemory";
  }
  return "Unknown";
}

Error classify(std::exception_ptr exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const Error& error) {
    return error;
  } catch (const c10::Error& error) {
    return Error(kind_of(error), message_of(error));
  } catch (const std::bad_alloc&) {
    return Error(ErrorKind::OutOfMemory, "out of memory");
  } catch (const std::exception& error) {
    return Error(ErrorKind::Operator, error.what());
  } catch (...) {
    return Error(ErrorKind::Operator, "unknown C++ exception");
  }
}

Napi::Value call_guarded(const Napi::CallbackInfo& info) {
  try {
    return reinterpret_cast<NativeFunction>(info.Data())(info);
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw to_javascript_error(info.Env(), std::current_exception());
  }
}

}  // namespace

ErrorKind kind_of(const c10::Error& error) {
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error)) return ErrorKind::OutOfMemory;
  // The CPU's allocator, the CUDA runtime, cuBLAS and cuDNN (to version 8, and from 9 on) have a plain c10::Error each.
  const std::string_view text = error.what();
  for (const char* sign : {"can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "_ALLOCATION_FAILED"})
    if (text.find(sign) != std::string_view::npos) return ErrorKind::OutOfMemory;
  return ErrorKind::Operator;
}

std::string message_of(const c10::Error& error) {
  std::string text = error.what_without_backtrace();
  if (text.starts_with("CUDA error")) return text.substr(0, text.find('\n'));
  // "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 3.00 GiB is free." and much advice.
  if (const auto end = text.find(" is free."); text.starts_with("CUDA out of memory") && end != std::string::npos) text.resize(end + 9);
  return text;
}

Napi::Error to_javascript_error(Napi::Env env, std::exception_ptr exception) {
  const Error error = classify(exception);
  if (error.kind == ErrorKind::OutOfMemory) try {
    release_memory();  // what the failed call held is free again, but in pieces
  } catch (...) {  // a device that is lost, or a graph that is captured: the error to tell is the first
  }
  auto& state = EnvState::of(env);
  if (state.error_factory.IsEmpty()) return Napi::Error::New(env, error.what());
  auto text = [&](const std::string& value) { return Napi::String::New(env, value); };
  Napi::Value made = state.error_factory.Call(
      {text(name_of(error.kind)), text(error.what()), text(error.argument), text(error.expected), text(error.received), text(error.more)});
  return Napi::Error(env, made);
}

void export_function(Napi::Env env, Napi::Object exports, const char* name, NativeFunction fn) {
  exports.Set(name, Napi::Function::New(env, call_guarded, name, reinterpret_cast<void*>(fn)));
}

namespace {

/// "2.13" of a LibTorch's number of its version.
std::string minor_version(uint64_t abi) { return std::to_string(abi >> 56) + "." + std::to_string(abi >> 48 & 0xff); }

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  // The C++ ABI changes between minor versions, mostly without a missing symbol to tell of it.
  const std::string built = minor_version(TORCH_ABI_VERSION), loaded = minor_version(aoti_torch_abi_version());
  if (loaded != built) throw Napi::Error::New(env, "the addon is of LibTorch " + built + ", but LibTorch " + loaded + " was loaded");
  // Once for all threads of JavaScript: on a card the same bits from the same seed, and the processor's numbers to rounding.
  [[maybe_unused]] static const bool reproducible = [] {
    at::globalContext().setDeterministicCuDNN(true);
    allow_tf32(false);
    return true;
  }();
  env.SetInstanceData(new EnvState());
  EnvState::of(env).jobs = JobRunner::create(env);
  export_runtime(env, exports);
  export_jobs(env, exports);
  export_tensor(env, exports);
  export_operators(env, exports);
  export_model(env, exports);
  export_attack(env, exports);
  export_data(env, exports);
  export_training(env, exports);
  export_analysis(env, exports);
  export_files(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(a_infonce, initialise)

}  // namespace a_infonce::addon

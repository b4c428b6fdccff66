// The lock on a run's folder.
#include "../training/lock.h"
#include "addon.h"
#include "convert.h"

namespace a_infonce::addon {

template <>
struct HandleTag<training::FileLock> {
  static constexpr napi_type_tag tag{0xd4e8a1b60f3c4927ULL, 0x9c7b2f5e8d0a1364ULL};
  static constexpr const char* name = "FileLock";
};

namespace {

Napi::Value lock_file(const Napi::CallbackInfo& info) {
  return wrap_handle(info.Env(), std::make_shared<training::FileLock>(string_arg(info[0], "path")));
}

Napi::Value unlock_file(const Napi::CallbackInfo& info) {
  handle_arg<training::FileLock>(info[0], "lock")->release();
  return info.Env().Undefined();
}

}  // namespace

void export_files(Napi::Env env, Napi::Object exports) {
  export_function(env, exports, "lock_file", lock_file);
  export_function(env, exports, "unlock_file", unlock_file);
}

}  // namespace a_infonce::addon

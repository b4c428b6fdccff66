// What one JavaScript environment (main thread or worker) owns. No statics: a worker's end takes its own state only.
#pragma once
#include <c10/core/StorageImpl.h>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>
#include "napi_setup.h"

namespace c10 {
class OperatorHandle;
}

namespace a_infonce::addon {

/// Live tensor handles and the storages under them. A storage that several handles share counts once.
struct Accounting {
  int64_t tensors = 0;
  int64_t bytes = 0;
  struct Held {
    int64_t handles = 0;
    int64_t bytes = 0;  // as entered: a storage may be resized later
  };
  std::unordered_map<const c10::StorageImpl*, Held> storages;
};

class JobRunner;

struct EnvState {
  EnvState();
  ~EnvState();
  static EnvState& of(Napi::Env env) { return *env.GetInstanceData<EnvState>(); }

  Napi::FunctionReference error_factory;
  std::shared_ptr<Accounting> accounting = std::make_shared<Accounting>();
  std::unordered_map<std::string, std::vector<c10::OperatorHandle>> overloads;  // by qualified name, in the order tried
  std::shared_ptr<JobRunner> jobs;
};

}  // namespace a_infonce::addon

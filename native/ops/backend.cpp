#include "ops/backend.h"
#include <dlfcn.h>
#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include "error.h"

namespace a_infonce::ops {
namespace {

Backends<Backend> backends;

/// Why the library that registers the backend of CUDA does not load; empty when it does.
std::string open_cuda() {
  Dl_info self{};
  dladdr(reinterpret_cast<void*>(&open_cuda), &self);
  const auto path = std::filesystem::path(self.dli_fname).replace_filename("liba_infonce_cuda.so");
  if (!std::filesystem::exists(path)) return path.string() + " is not there. Build from source with nvcc, and LibTorch of the same CUDA";
  return dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) ? "" : dlerror();
}

}  // namespace

void Graph::replay(const std::vector<at::Tensor>& tensors) {
  const auto same = [](const at::Tensor& one, const at::Tensor& other) { return one.is_same(other); };
  if (!std::ranges::equal(tensors, tensors_, same)) throw std::logic_error("work that was recorded for a graph is asked of other tensors");
  queue();
}

void Backend::require_no_capture(const at::Tensor& x, const char* name) const {
  if (capturing(x)) throw Error(ErrorKind::Operator, std::string(name) + " cannot be captured for a graph: it takes numbers from the host's memory");
}

const Backend* backend(c10::DeviceType device) {
  if (const Backend* known = backends.of(device); known || device != c10::kCUDA) return known;
  static const std::string problem = open_cuda();
  if (!problem.empty()) throw Error(ErrorKind::Load, "the CUDA kernels cannot be loaded: " + problem);
  return backends.of(device);
}

void register_backend(c10::DeviceType device, const Backend* backend) { backends.add(device, backend); }

const Backend* backend_of(const at::Tensor& x, const char* name) {
  const Backend* const found = backend(x.device().type());
  if (!found && !x.device().is_cpu()) throw Error(ErrorKind::ArgumentType, name, "a tensor on the CPU or a CUDA device", x.device().str());
  return found;
}

}  // namespace a_infonce::ops

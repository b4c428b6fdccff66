#include "objective/backend.h"
#include <string>
#include "error.h"

namespace a_infonce::objective {
namespace {
ops::Backends<Backend> backends;
}

const Backend* backend(c10::DeviceType device) {
  const Backend* known = backends.of(device);
  return known || !ops::backend(device) ? known : backends.of(device);
}
void register_backend(c10::DeviceType device, const Backend* backend) { backends.add(device, backend); }

void require_device(const at::Tensor& x, const char* argument) {
  if (x.device().is_cpu() || backend(x.device().type())) return;
  throw Error(ErrorKind::ArgumentType, argument, "a tensor on the CPU or a CUDA device", x.device().str());
}

void require_same_device(const at::Tensor& x, const char* argument, const at::Tensor& other, const char* name) {
  if (x.device() != other.device()) throw Error(ErrorKind::ArgumentType, argument, "a tensor on " + other.device().str() + ", as " + name + " are", x.device().str());
}

}  // namespace a_infonce::objective

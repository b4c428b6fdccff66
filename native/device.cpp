#include "device.h"
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/util/Exception.h>
#include "error.h"

namespace a_infonce {

bool built_with_cuda() { return at::detail::getCUDAHooks().hasCUDART(); }

int64_t device_count() { return at::detail::getCUDAHooks().getNumGPUs(); }

c10::Device device_named(const std::string& text, const char* argument) {
  c10::Device device(c10::kCPU);
  try {
    device = c10::Device(text);
  } catch (const c10::Error&) {
    throw Error(ErrorKind::ArgumentRange, argument, "'cpu', 'cuda' or 'cuda:<index>'", "'" + text + "'");
  }
  if (device.is_cpu() || device.is_meta()) return device;
  const int64_t count = device_count();
  const char* why = built_with_cuda() ? "no CUDA device was found" : "this LibTorch is built for the processor only";
  require_range(count > 0, argument, std::string("'cpu' (") + why + ")", "'" + text + "'");
  const std::string last = count == 1 ? "" : " to 'cuda:" + std::to_string(count - 1) + "'";
  require_range(device.is_cuda() && device.index() < count, argument, "'cpu', 'cuda' or 'cuda:0'" + last, "'" + text + "'");
  return device.has_index() ? device : c10::Device(c10::kCUDA, 0);
}

}  // namespace a_infonce

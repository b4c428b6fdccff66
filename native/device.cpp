#include "device.h"
#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/util/Exception.h>
#include "error.h"

namespace a_infonce {

std::string cuda_version() {
  const auto& hooks = at::detail::getCUDAHooks();
  if (!hooks.hasCUDART()) return "";
  const long version = hooks.versionCUDART();  // 13000
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

int64_t device_count() { return at::detail::getCUDAHooks().getNumGPUs(); }

c10::Device device_named(const std::string& text, const char* argument) {
  c10::Device device(c10::kCPU);
  try {
    device = c10::Device(text);
  } catch (const c10::Error&) {
    throw Error(ErrorKind::ArgumentRange, argument, "'cpu', 'cuda' or 'cuda:<index>'", "'" + text + "'");
  }
  if (device.is_meta()) return device;
  if (device.is_cpu()) {
    require_range(device.index() <= 0, argument, "'cpu', 'cuda' or 'cuda:<index>'", "'" + text + "'");
    return c10::kCPU;
  }
  const int64_t count = device_count();
  const char* why = cuda_version().empty() ? "this LibTorch is built for the processor only" : "no CUDA device was found";
  require_range(count > 0, argument, std::string("'cpu' (") + why + ")", "'" + text + "'");
  const std::string last = count == 1 ? "" : " to 'cuda:" + std::to_string(count - 1) + "'";
  require_range(device.is_cuda() && device.index() < count, argument, "'cpu', 'cuda' or 'cuda:0'" + last, "'" + text + "'");
  return device.has_index() ? device : c10::Device(c10::kCUDA, 0);
}

namespace {
/// Null until the first tensor on a CUDA device.
c10::DeviceAllocator* cuda_allocator() {
  auto* allocator = dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(c10::kCUDA));
  return allocator && allocator->initialized() ? allocator : nullptr;
}
}  // namespace

DeviceMemory memory_of(c10::Device device) {
  auto* allocator = cuda_allocator();
  if (!allocator) {
    at::detail::getCUDAHooks().init();
    allocator = cuda_allocator();
  }
  const auto stats = allocator->getDeviceStats(device.index());
  const auto [free, total] = allocator->getMemoryInfo(device.index());
  return {stats.allocated_bytes[0].current, stats.allocated_bytes[0].peak, stats.reserved_bytes[0].current, static_cast<int64_t>(free), static_cast<int64_t>(total)};
}

void reset_peak_memory(c10::Device device) {
  if (auto* allocator = cuda_allocator()) allocator->resetPeakStats(device.index());
}

std::mutex& capture_mutex() {
  static std::mutex mutex;
  return mutex;
}

void synchronize(c10::Device device) {
  const std::lock_guard lock(capture_mutex());
  at::detail::getCUDAHooks().deviceSynchronize(device.index());
}

bool allows_tf32() { return at::globalContext().allowTF32CuDNN(); }

void allow_tf32(bool allowed) {
  at::globalContext().setAllowTF32CuDNN(allowed);
  at::globalContext().setAllowTF32CuBLAS(allowed);
}

void release_memory() {
  if (auto* allocator = cuda_version().empty() ? nullptr : cuda_allocator()) allocator->emptyCache();
}

}  // namespace a_infonce

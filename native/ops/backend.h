// What another device than the CPU does by kernels of its own. The library that brings a device registers its backend when it is loaded; the operators check their
// arguments, and ask for the backend where a tensor is on one.
#pragma once
#include <c10/core/DeviceType.h>
#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

namespace a_infonce::ops {

/// The backends of one interface, by device type.
template <typename Backend>
class Backends {
  std::array<std::atomic<const Backend*>, static_cast<size_t>(c10::COMPILE_TIME_MAX_DEVICE_TYPES)> entries{};

 public:
  const Backend* of(c10::DeviceType device) const { return entries[static_cast<size_t>(device)].load(std::memory_order_acquire); }
  void add(c10::DeviceType device, const Backend* backend) { entries[static_cast<size_t>(device)].store(backend, std::memory_order_release); }
};

/// A card.
struct DeviceInfo {
  std::string name;
  int major, minor;  // of its architecture
  int64_t memory;    // bytes
};

/// Takes tensors that an operator has checked, all on one device of its kind, contiguous where it says so. Work is queued on the device's current stream.
struct Backend {
  virtual ~Backend() = default;
  virtual std::vector<DeviceInfo> devices() const { return {}; }
  /// What its kernels were compiled for.
  virtual std::string architectures() const { return {}; }
};

/// Null for a device without one; the CPU has none but in tests. That of CUDA is brought by liba_infonce_cuda.so beside this library, which the first call opens:
/// throws Error{Load} where it is not there or does not load.
const Backend* backend(c10::DeviceType device);
void register_backend(c10::DeviceType device, const Backend* backend);

}  // namespace a_infonce::ops

// What another device than the CPU does by kernels of its own. The library that brings a device registers its backend when it is loaded; the operators check their
// arguments, and ask for the backend where a tensor is on one.
#pragma once
#include <c10/core/DeviceType.h>

namespace a_infonce::ops {

/// Takes tensors that an operator has checked, all on one device of its kind, contiguous where it says so. Work is queued on the device's current stream.
struct Backend {
  virtual ~Backend() = default;
};

/// Null for a device without one; the CPU has none but in tests.
const Backend* backend(c10::DeviceType device);
void register_backend(c10::DeviceType device, const Backend* backend);

}  // namespace a_infonce::ops

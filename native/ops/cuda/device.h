// Where a backend's kernels run. Under A_INFONCE_EMULATED, which is for tests, the device is the CPU.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/core/DeviceType.h>
#include "error.h"
#include "kernels/cuda/launch.h"
#ifndef A_INFONCE_EMULATED
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace a_infonce::ops {

#ifdef A_INFONCE_EMULATED
constexpr c10::DeviceType device_type = c10::kCPU;
inline bool emulated_capture = false;
inline bool stream_captures(const at::Tensor&) { return emulated_capture; }
#else
constexpr c10::DeviceType device_type = c10::kCUDA;
/// Whether the current stream of x's device is captured.
inline bool stream_captures(const at::Tensor& x) {
  const c10::cuda::CUDAGuard guard(x.device());
  return c10::cuda::currentStreamCaptureStatusMayInitCtx() != c10::cuda::CaptureStatus::None;
}
#endif

/// work(stream) on the current stream of x's device, which is the current one meanwhile. What a launch throws becomes Error{Operator}, or
/// Error{OutOfMemory}.
template <typename Work>
void on_device_of(const at::Tensor& x, const Work& work) try {
#ifdef A_INFONCE_EMULATED
  work(kernels::cuda::Stream{});
#else
  const c10::cuda::CUDAGuard guard(x.device());
  work(kernels::cuda::Stream{c10::cuda::getCurrentCUDAStream()});
#endif
} catch (const kernels::cuda::Error& error) {
  throw Error(error.out_of_memory ? ErrorKind::OutOfMemory : ErrorKind::Operator, error.what());
}

}  // namespace a_infonce::ops

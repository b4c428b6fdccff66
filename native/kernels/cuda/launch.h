// How CUDA kernels are written here, so that the same source also runs on a CPU, thread by thread, where tests see every mistake (test/native/cuda/emulator.h):
//   * shared memory is dynamic and comes from `shared_memory<T>()` alone; no __shared__ variables. It holds garbage when a block begins;
//   * kernels start through `launch` alone, in blocks of whole warps; nothing of the CUDA libraries' headers is included;
//   * instructions that C++ does not have are functions of instructions.h (hopper.h for sm_90a), each with a twin under A_INFONCE_EMULATED that does what the PTX
//     manual says. A twin of a warp's instruction gathers its lanes: emulator::warp_collective("mma", full_warp, operands, [](Operands* const* lanes) { ... }), and
//     warpgroup_collective for four warps; one that waits for another thread's progress spins on emulator::yield("mbarrier"), whoever makes progress calls
//     emulator::progress();
//   * __syncthreads, __syncwarp, __shfl_*_sync, __ballot_sync, __any_sync, __all_sync, threadIdx ..., atomicAdd / atomicMax / atomicMin / atomicOr of integers, __ldg,
//     __threadfence and the vector types (uint4, float2, ...) are as in CUDA; blocks run one after another, so none may wait for another;
//   * sums have a fixed order: no atomics on floating-point numbers.
#pragma once
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include "kernels/cuda/stream.h"
#ifdef A_INFONCE_EMULATED
#include "emulator.h"
#else
#include <cuda_runtime.h>
#endif

namespace a_infonce::kernels::cuda {

constexpr unsigned full_warp = 0xffffffffu;

/// Blocks that take `each` of `work` pieces.
constexpr unsigned blocks_for(int64_t work, int64_t each) { return static_cast<unsigned>((work + each - 1) / each); }

struct Error : std::runtime_error {
  explicit Error(const std::string& message, bool out_of_memory = false) : std::runtime_error(message), out_of_memory(out_of_memory) {}
  bool out_of_memory;  // of the device
};

/// Of the current device.
struct Device {
  int capability;         // 80, 90, ...: ten times the major number and the minor one
  int multiprocessors;
  size_t shared_bytes;    // at most, a block
};

#ifdef A_INFONCE_EMULATED

inline Device device() { return {emulator::device.capability, emulator::device.multiprocessors, emulator::device.shared_bytes()}; }

template <typename T>
T* shared_memory() { return static_cast<T*>(emulator::shared_memory()); }

template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, Stream stream, const Arguments&... arguments) {
  const auto run = [=] { emulator::run(name, reinterpret_cast<const void*>(kernel), grid, block, shared_bytes, [&] { kernel(arguments...); }); };
  try {
    emulator::queue ? emulator::queue(stream, run) : run();
  } catch (const emulator::Failure& failure) {
    throw Error(failure.what());
  }
}

#else

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();  // an error of a launch must not be found again by whoever asks next
  throw Error(std::string(what) + ": " + cudaGetErrorName(status) + ": " + cudaGetErrorString(status), status == cudaErrorMemoryAllocation);
}

inline Device device() {
  int index = 0, major = 0, minor = 0, multiprocessors = 0, shared_bytes = 0;
  check(cudaGetDevice(&index), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index), "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index), "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, index), "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, index), "cudaDeviceGetAttribute");
  return {10 * major + minor, multiprocessors, static_cast<size_t>(shared_bytes)};
}

#ifdef __CUDACC__
template <typename T>
__device__ __forceinline__ T* shared_memory() {
  extern __shared__ __align__(1024) unsigned char a_infonce_shared_memory[];
  return reinterpret_cast<T*>(a_infonce_shared_memory);
}

template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, Stream stream, const Arguments&... arguments) {
  if (shared_bytes > 48 * 1024)
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)), name);
  cudaLaunchConfig_t configuration{};
  configuration.gridDim = grid, configuration.blockDim = block, configuration.dynamicSmemBytes = shared_bytes, configuration.stream = stream;
  check(cudaLaunchKernelEx(&configuration, kernel, arguments...), name);
}
#endif

#endif

}  // namespace a_infonce::kernels::cuda

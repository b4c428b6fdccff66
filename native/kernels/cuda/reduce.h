// What the threads of a block have, put together in a fixed order.
#pragma once
#include "kernels/cuda/launch.h"

namespace a_infonce::kernels::cuda {

/// combine(a, b), which must not mind the order of a and b, over a warp's lanes; every lane gets it, in the same bits.
template <typename T, typename Combine>
__device__ __forceinline__ T warp_reduce(T value, Combine combine) {
#pragma unroll
  for (int by = 16; by > 0; by /= 2) value = combine(value, __shfl_xor_sync(full_warp, value, by));
  return value;
}
__device__ __forceinline__ double warp_sum(double value) { return warp_reduce(value, [](double a, double b) { return a + b; }); }

/// Bytes of shared memory that `reduce` needs for numbers of type T.
template <typename T>
constexpr size_t reduce_bytes = 32 * sizeof(T);

/// The same over all threads of a block of whole warps. All of them call it.
template <typename T, typename Combine>
__device__ T reduce(T value, T* room, Combine combine) {
  value = warp_reduce(value, combine);
  __syncthreads();  // the room may still be read from the last time
  if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = value;
  __syncthreads();
  value = room[0];
  for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) value = combine(value, room[warp]);
  return value;
}

__device__ inline double sum(double value, double* room) { return reduce(value, room, [](double a, double b) { return a + b; }); }

}  // namespace a_infonce::kernels::cuda

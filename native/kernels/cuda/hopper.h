// Instructions of sm_90a: barriers that count bytes, bulk copies that arrive at them, products of a warpgroup (four warps) that run by themselves. Their twins for
// the emulator are as strict as the PTX manual allows a chip to be: what a copy overwrites is garbage from its start until somebody waits for it, and so are sums from
// the product's issue until they are waited for; a product's factors may not change in between.
#pragma once
#include "kernels/cuda/instructions.h"
#ifdef A_INFONCE_EMULATED
#include "emulator_hopper.h"
#endif

namespace a_infonce::kernels::cuda {

constexpr int warpgroup_threads = 128;

__device__ __forceinline__ uint32_t shared_address(const void* p) {
#ifdef A_INFONCE_EMULATED
  return emulator::shared_offset(p);
#else
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
#endif
}

// ---- barriers and copies ----------------------------------------------------------------------------------------------------------------

/// A barrier in shared memory. Its phases are numbered 0, 1, ...; one ends when all threads that it counts have arrived and all bytes that they expect have landed.
struct alignas(8) Barrier {
  uint64_t state;

  /// By one thread, before publish_barriers.
  __device__ __forceinline__ void initialise(int arrivals) {
#ifdef A_INFONCE_EMULATED
    emulator::initialise(this, arrivals);
#else
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(this)), "r"(arrivals) : "memory");
#endif
  }
  __device__ __forceinline__ void arrive() {
#ifdef A_INFONCE_EMULATED
    emulator::arrive(this, 0);
#else
    asm volatile("{ .reg .b64 state; mbarrier.arrive.shared::cta.b64 state, [%0]; }" ::"r"(shared_address(this)) : "memory");
#endif
  }
  /// Arrives, and lets this phase wait for `bytes` more of bulk copies.
  __device__ __forceinline__ void arrive_and_expect(uint32_t bytes) {
#ifdef A_INFONCE_EMULATED
    emulator::arrive(this, bytes);
#else
    asm volatile("{ .reg .b64 state; mbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1; }" ::"r"(shared_address(this)), "r"(bytes) : "memory");
#endif
  }
  /// Until the last phase of this parity has ended; at once for parity 1 of a new barrier.
  __device__ __forceinline__ void wait(uint32_t parity) {
#ifdef A_INFONCE_EMULATED
    emulator::wait(this, parity);
#else
    uint32_t ended;
    do {
      asm volatile("{ .reg .pred ended; mbarrier.try_wait.parity.shared::cta.b64 ended, [%1], %2; selp.b32 %0, 1, 0, ended; }"
                   : "=r"(ended)
                   : "r"(shared_address(this)), "r"(parity)
                   : "memory");
    } while (!ended);
#endif
  }
};
static_assert(sizeof(Barrier) == 8);

/// Makes initialised barriers known to the copies; other threads know them after __syncthreads.
__device__ __forceinline__ void publish_barriers() {
#ifdef A_INFONCE_EMULATED
  emulator::fence_async();
#else
  asm volatile("fence.mbarrier_init.release.cluster; fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

/// `bytes`, a multiple of 16, between 16-byte aligned addresses of global and shared memory, by one thread; they count at the barrier when they have landed.
__device__ __forceinline__ void copy_bulk(void* to, const void* from, uint32_t bytes, Barrier& barrier) {
#ifdef A_INFONCE_EMULATED
  emulator::copy_bulk(to, from, bytes, &barrier);
#else
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(to)),
               "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(shared_address(&barrier))
               : "memory");
#endif
}

// ---- registers --------------------------------------------------------------------------------------------------------------------------

/// Of each thread, by all threads of a warpgroup; a multiple of 8.
template <int registers>
__device__ __forceinline__ void release_registers() {
  static_assert(registers % 8 == 0 && registers >= 24 && registers <= 256);
#ifdef A_INFONCE_EMULATED
  emulator::converge("setmaxnreg.dec");
#else
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
#endif
}
template <int registers>
__device__ __forceinline__ void claim_registers() {
  static_assert(registers % 8 == 0 && registers >= 24 && registers <= 256);
#ifdef A_INFONCE_EMULATED
  emulator::converge("setmaxnreg.inc");
#else
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
#endif
}

/// threadIdx.x, which the compiler does not keep in a register from one use to the next.
__device__ __forceinline__ unsigned thread_now() {
#ifdef A_INFONCE_EMULATED
  return threadIdx.x;
#else
  unsigned thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
#endif
}

// ---- products of a warpgroup ------------------------------------------------------------------------------------------------------------

/// A matrix in shared memory whose rows of 128 bytes have their 16-byte pieces swizzled: piece c of row r at c ^ (r % 8), rows 128 bytes apart, 1024-byte aligned. `at` is its
/// first element; eight rows are `stride` bytes from the next eight; of matrices with the rows along k, 64 columns are `leading` bytes from the next 64.
__device__ __forceinline__ uint64_t matrix_descriptor(const void* at, uint32_t stride, uint32_t leading) {
  constexpr uint64_t swizzle_128 = 1;
  return (shared_address(at) & 0x3ffff) >> 4 | uint64_t{leading >> 4} << 16 | uint64_t{stride >> 4} << 32 | swizzle_128 << 62;
}
/// The same matrix from `bytes` further on.
__device__ __forceinline__ uint64_t advance(uint64_t descriptor, uint32_t bytes) { return descriptor + (bytes >> 4); }

/// Before the first product, and whenever registers that products read or add to have been touched since.
__device__ __forceinline__ void fence_products() {
#ifdef A_INFONCE_EMULATED
  emulator::fence_products();
#else
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
/// The products since the last call are a group.
__device__ __forceinline__ void commit_products() {
#ifdef A_INFONCE_EMULATED
  emulator::commit_products();
#else
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
/// The compiler has these numbers in registers now, not earlier or later: sums, and left factors before the fence and again once their products have been waited for.
template <int count>
__device__ __forceinline__ void pin([[maybe_unused]] float (&x)[count]) {
#ifndef A_INFONCE_EMULATED
#pragma unroll
  for (int i = 0; i < count; ++i) asm volatile("" : "+f"(x[i])::"memory");
#endif
}
template <int count>
__device__ __forceinline__ void pin([[maybe_unused]] uint32_t (&x)[count][4]) {
#ifndef A_INFONCE_EMULATED
#pragma unroll
  for (int i = 0; i < count; ++i) asm volatile("" : "+r"(x[i][0]), "+r"(x[i][1]), "+r"(x[i][2]), "+r"(x[i][3])::"memory");
#endif
}
/// All groups but the last `groups` have ended; of these sums, which the compiler must not read earlier.
template <int groups, int count>
__device__ __forceinline__ void wait_products(float (&sums)[count]) {
#ifdef A_INFONCE_EMULATED
  emulator::wait_products(groups);
#else
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(groups) : "memory");
#endif
  pin(sums);
}

/// Which way a factor b [16, columns] of a product lies in shared memory: along_k: column by column, k side by side; across: k by k, columns side by side.
enum class Major { AlongK, Across };

/// c [64, columns] = a [64, 16] b [16, columns] of bfloat16, c += ... if `add`. Warp w of the warpgroup has rows 16 w to 16 w + 15; within them a is as in mma_bf16, and
/// c[4 m] ... c[4 m + 3] are columns 8 m to 8 m + 7 as there.
template <Major major, int count>
__device__ __forceinline__ void multiply(float (&c)[count], const uint32_t (&a)[4], uint64_t b, bool add) {
  static_assert(count == 32 || count == 64, "64 or 128 columns");
#ifdef A_INFONCE_EMULATED
  emulator::multiply(c, 2 * count, a, b, add, major == Major::Across);
#else
#define A_INFONCE_4(i) "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3])
#define A_INFONCE_16(i) A_INFONCE_4(i), A_INFONCE_4(i + 4), A_INFONCE_4(i + 8), A_INFONCE_4(i + 12)
  if constexpr (count == 32)
    asm volatile(
        "{ .reg .pred add; setp.ne.b32 add, %37, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
        "{%32, %33, %34, %35}, %36, add, 1, 1, %38; }"
        : A_INFONCE_16(0), A_INFONCE_16(16)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)), "n"(static_cast<int>(major)));
  else
    asm volatile(
        "{ .reg .pred add; setp.ne.b32 add, %69, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
        "{%64, %65, %66, %67}, %68, add, 1, 1, %70; }"
        : A_INFONCE_16(0), A_INFONCE_16(16), A_INFONCE_16(32), A_INFONCE_16(48)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)), "n"(static_cast<int>(major)));
#undef A_INFONCE_16
#undef A_INFONCE_4
#endif
}

}  // namespace a_infonce::kernels::cuda

// Instructions of sm_80 and later that C++ does not have, and their twins for the emulator. Fragments are as in the PTX manual: with group = lane / 4 and
// pair = lane % 4, an accumulator holds rows group (c0, c1) and group + 8 (c2, c3), columns 2 pair and 2 pair + 1.
#pragma once
#include "kernels/cuda/launch.h"

namespace a_infonce::kernels::cuda {

__device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x) & 31; }
__device__ __forceinline__ int warp() { return static_cast<int>(threadIdx.x) >> 5; }

// ---- numbers ----------------------------------------------------------------------------------------------------------------------------

/// Two numbers as bfloat16, to nearest, ties to even: `low` in the lower half.
__device__ __forceinline__ uint32_t bf16_pair(float low, float high) {
#ifdef A_INFONCE_EMULATED
  const auto rounded = [](float x) {
    const uint32_t bits = __float_as_uint(x);
    return x != x ? 0x7fffu : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  };
  return rounded(low) | rounded(high) << 16;
#else
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#endif
}
__device__ __forceinline__ float bf16_low(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float bf16_high(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

/// The bits of x as tf32, to nearest, ties away.
__device__ __forceinline__ uint32_t tf32(float x) {
#ifdef A_INFONCE_EMULATED
  return (__float_as_uint(x) + 0x1000) & 0xffffe000u;
#else
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
#endif
}

/// 2^x to 2^-22 of it; results below 2^-126 are 0.
__device__ __forceinline__ float exp2_approximate(float x) {
#ifdef A_INFONCE_EMULATED
  const float y = std::exp2(x) * (__float_as_uint(x) & 1 ? 1 + 0x1p-22f : 1 - 0x1p-22f);  // as wrong as it may be
  return y < 0x1p-126f ? 0 : y;
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

#ifdef A_INFONCE_EMULATED
/// The lanes' accumulators c [16, 8] += a [16, depth] b [depth, 8].
template <typename Lanes>
A_INFONCE_UNCHECKED void add_product(const float* a, const float* b, int depth, int element_bytes, Lanes lanes) {
  float sums[16][8];
  for (int l = 0; l < 32; ++l)
    for (int r = 0; r < 4; ++r) sums[l / 4 + r / 2 * 8][l % 4 * 2 + r % 2] = lanes[l]->c[r];
  emulator::multiply_add(a, b, &sums[0][0], 16, 8, depth, element_bytes);
  for (int l = 0; l < 32; ++l)
    for (int r = 0; r < 4; ++r) lanes[l]->c[r] = sums[l / 4 + r / 2 * 8][l % 4 * 2 + r % 2];
}
#endif

// ---- products ---------------------------------------------------------------------------------------------------------------------------

/// c [16, 8] += a [16, 16] b [16, 8] of bfloat16 pairs, k and k + 1: a0 (group, 2 pair), a1 (group + 8, 2 pair), a2 (group, 2 pair + 8), a3 (group + 8, 2 pair + 8);
/// b0 (2 pair, group), b1 (2 pair + 8, group).
__device__ __forceinline__ void mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#ifdef A_INFONCE_EMULATED
  struct { float* c; const uint32_t* a; uint32_t b[2]; } mine{c, a, {b0, b1}};
  emulator::warp_collective("mma.m16n8k16.bf16", full_warp, mine, [](auto* const* lanes) A_INFONCE_UNCHECKED {
    float A[16][16], B[16][8];
    for (int l = 0; l < 32; ++l) {
      const int group = l / 4, k = l % 4 * 2;
      for (int half = 0; half < 2; ++half) {
        for (int row = 0; row < 2; ++row) {
          const uint32_t bits = lanes[l]->a[2 * half + row];
          A[group + 8 * row][k + 8 * half] = bf16_low(bits), A[group + 8 * row][k + 8 * half + 1] = bf16_high(bits);
        }
        B[k + 8 * half][group] = bf16_low(lanes[l]->b[half]), B[k + 8 * half + 1][group] = bf16_high(lanes[l]->b[half]);
      }
    }
    add_product(&A[0][0], &B[0][0], 16, sizeof(uint16_t), lanes);
  });
#else
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

/// c [16, 8] += a [16, 8] b [8, 8] of tf32 numbers: a0 (group, pair), a1 (group + 8, pair), a2 (group, pair + 4), a3 (group + 8, pair + 4); b0 (pair, group),
/// b1 (pair + 4, group).
__device__ __forceinline__ void mma_tf32(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#ifdef A_INFONCE_EMULATED
  struct { float* c; const uint32_t* a; uint32_t b[2]; } mine{c, a, {b0, b1}};
  emulator::warp_collective("mma.m16n8k8.tf32", full_warp, mine, [](auto* const* lanes) A_INFONCE_UNCHECKED {
    const auto value = [](uint32_t bits) { return __uint_as_float(bits & 0xffffe000u); };  // the rest of the bits is not looked at
    float A[16][8], B[8][8];
    for (int l = 0; l < 32; ++l) {
      const int group = l / 4, k = l % 4;
      for (int half = 0; half < 2; ++half) {
        for (int row = 0; row < 2; ++row) A[group + 8 * row][k + 4 * half] = value(lanes[l]->a[2 * half + row]);
        B[k + 4 * half][group] = value(lanes[l]->b[half]);
      }
    }
    add_product(&A[0][0], &B[0][0], 8, sizeof(float), lanes);
  });
#else
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

// ---- shared memory ----------------------------------------------------------------------------------------------------------------------

/// Four 8 x 8 matrices of 16-bit numbers: lane l names row l % 8 of matrix l / 8 (16 aligned bytes) and receives of each matrix the pair at row group, columns 2 pair;
/// transposed: at rows 2 pair, column group.
template <bool transposed>
__device__ __forceinline__ void load_matrices(uint32_t (&x)[4], const void* row) {
#ifdef A_INFONCE_EMULATED
  emulator::read_shared("ldmatrix", row, 16, 16);
  struct { uint32_t* x; const uint16_t* row; } mine{x, static_cast<const uint16_t*>(row)};
  emulator::warp_collective(transposed ? "ldmatrix.x4.trans" : "ldmatrix.x4", full_warp, mine, [](auto* const* lanes) {
    for (int l = 0; l < 32; ++l)
      for (int m = 0; m < 4; ++m) {
        const auto at = [&](int r, int c) -> uint32_t { return lanes[8 * m + r]->row[c]; };
        const int group = l / 4, pair = l % 4;
        lanes[l]->x[m] = transposed ? at(2 * pair, group) | at(2 * pair + 1, group) << 16 : at(group, 2 * pair) | at(group, 2 * pair + 1) << 16;
      }
  });
#else
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(address) : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(address) : "memory");
#endif
}

/// 16 aligned bytes from global to shared memory, asynchronously.
__device__ __forceinline__ void copy_async(void* to, const void* from) {
#ifdef A_INFONCE_EMULATED
  emulator::copy_async(to, from, 16, 16);
#else
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(to))), "l"(__cvta_generic_to_global(from)) : "memory");
#endif
}
/// This thread's copies since the last call are a group.
__device__ __forceinline__ void commit_copies() {
#ifdef A_INFONCE_EMULATED
  emulator::commit_copies();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
/// This thread's groups but the last `groups` have landed; other threads know after a barrier.
template <int groups>
__device__ __forceinline__ void wait_copies() {
#ifdef A_INFONCE_EMULATED
  emulator::wait_copies(groups);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
#endif
}

/// All threads of the block that name barrier `id` (1 .. 15), `threads` of them.
__device__ __forceinline__ void named_barrier(int id, int threads) {
#ifdef A_INFONCE_EMULATED
  emulator::barrier(id, threads, true, "bar.sync", "", 0);
#else
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}
/// Counts for named_barrier of the others, and goes on.
__device__ __forceinline__ void arrive_at_barrier(int id, int threads) {
#ifdef A_INFONCE_EMULATED
  emulator::barrier(id, threads, false, "bar.arrive", "", 0);
#else
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}

}  // namespace a_infonce::kernels::cuda

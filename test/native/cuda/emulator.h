// CUDA's execution model on one CPU thread: every thread of a block is a fiber, blocks run one after another. What a chip leaves to chance is made visible: shared
// memory begins as NaNs in an allocation of its own (AddressSanitizer sees every access beyond it), asynchronous copies land as late as they may, threads run in either
// order or a random one, and a block in which no thread can go on names the kernel, the block and what each of its threads waits for.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <set>
#include <stdexcept>
#include <string>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
/// For what only touches variables of the lanes that a collective gathers.
#define A_INFONCE_UNCHECKED __attribute__((no_sanitize_address, no_sanitize_undefined, no_sanitize_thread))
#define __align__(n) __attribute__((aligned(n)))

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct uint3 { unsigned x, y, z; };
#define A_INFONCE_VECTOR(T, name)                                                                                                   \
  struct alignas(2 * sizeof(T)) name##2 { T x, y; };                                                                               \
  struct alignas(sizeof(T) == 8 ? 16 : 4 * sizeof(T)) name##4 { T x, y, z, w; };                                                   \
  constexpr name##2 make_##name##2(T x, T y) { return {x, y}; }                                                                    \
  constexpr name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
A_INFONCE_VECTOR(unsigned char, uchar)
A_INFONCE_VECTOR(unsigned short, ushort)
A_INFONCE_VECTOR(int, int)
A_INFONCE_VECTOR(unsigned, uint)
A_INFONCE_VECTOR(float, float)
A_INFONCE_VECTOR(double, double)
#undef A_INFONCE_VECTOR

struct CUstream_st;
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace a_infonce::emulator {

/// What the kernels are told of the device; tests set it.
struct Device {
  int capability = 80, multiprocessors = 4;
  size_t shared_bytes() const { return (capability >= 90 ? 227 : 163) * 1024; }  // of a block
};
extern Device device;

/// In which the threads of a block get their turn. Results must not depend on it.
enum class Order { Forward, Backward, Random };
extern Order order;
#ifdef A_INFONCE_RACES
constexpr bool looks_for_races = true;
#else
constexpr bool looks_for_races = false;
#endif
/// body() in each order; where that takes long, in a random one to look for races, and in the others to look at results.
template <typename Body>
void in_each_order(bool takes_long, const Body& body) {
  for (const Order each : {Order::Forward, Order::Backward, Order::Random})
    if (!takes_long || looks_for_races == (each == Order::Random)) order = each, body();
}
extern int64_t launches;  // so far
extern std::set<const void*> kernels;  // that have been launched

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Takes the launches of a stream in place of `run` at once, for those who keep streams (../cuda_runtime/values.cpp). Null: nobody does.
extern void (*queue)(CUstream_st* stream, std::function<void()> launch);

/// One launch. Failure: a deadlock, a collective that its threads do not agree on, what a device refuses, or whatever a thread throws.
void run(const char* name, const void* kernel, dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body);

// For the kernels' instructions, on a thread of a block:
int thread();  // in the block
bool in_kernel();                 // and not in what a collective runs
bool on_stack(const void* p);     // of any thread
/// The launch fails; does not return.
[[noreturn]] void abandon(const std::string& message);
inline int lane() { return thread() & 31; }
void* shared_memory();
size_t shared_bytes();
uint64_t block();  // its number among all that have run
/// Lets the others run, for a loop that waits for them. If all spin and nobody calls `progress` meanwhile, that is a deadlock.
void yield(const char* what);
void progress();
/// bar.sync, or bar.arrive where it does not wait.
void barrier(int id, int threads, bool wait, const char* what, const char* file, int line);
/// Threads first .. first + 31 (those of `mask`), or all 128 from `first`, meet; the last one runs `run` on all operands, by lane.
void meet(const char* name, bool warpgroup, unsigned mask, void* operands, void (*run)(void* const* operands, const void* context), const void* context);
template <typename Operands, typename Run>
void collective(const char* name, bool warpgroup, unsigned mask, Operands& mine, const Run& run) {
  meet(name, warpgroup, mask, &mine, [](void* const* operands, const void* context) { (*static_cast<const Run*>(context))(reinterpret_cast<Operands* const*>(operands)); }, &run);
}
/// run(Operands* const lanes[32]) once for the lanes of `mask` (the others' are null); each lane's operands are its own variable, and hold what `run` wrote there after.
template <typename Operands, typename Run>
void warp_collective(const char* name, unsigned mask, Operands& mine, const Run& run) { collective(name, false, mask, mine, run); }
/// run(Operands* const lanes[128]) once for four warps, the first of them a multiple of four.
template <typename Operands, typename Run>
void warpgroup_collective(const char* name, Operands& mine, const Run& run) { collective(name, true, ~0u, mine, run); }
/// c [m, n] += a [m, k] b [k, n] with the rounding of tensor cores, which take 16 bytes of each factor at once, 32 from Hopper on. Of these products, which are exact, and of the sum
/// so far the bits below 2^-24 (2^-25) of the largest addend's power of two are dropped, and of the result those that a float does not hold; a product's power of two is that of its
/// factors. Khattak and Mikaitis, "Accurate Models of NVIDIA Tensor Cores" (arXiv 2512.07004), after Fasi et al. (PeerJ Computer Science 7:e330).
void multiply_add(const float* a, const float* b, float* c, int m, int n, int k, int element_bytes);
/// cp.async: `valid` bytes of `bytes` from global to shared memory, the rest zeros. They land when they are waited for, not before.
void copy_async(void* to, const void* from, int bytes, int valid);
void commit_copies();
void wait_copies(int groups_left);
/// Throws unless all `bytes` are in shared memory and aligned to `alignment`.
void require_shared(const char* what, const void* memory, size_t bytes, size_t alignment);
/// The same, for a thread that names what its warp reads.
void read_shared(const char* what, const void* memory, size_t bytes, size_t alignment);
void sync_warp(unsigned mask);

template <typename T>
T exchange(const char* name, unsigned mask, T value, int from) {  // the value of lane `from`
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
  struct { T value; int from; } mine{value, from};
  warp_collective(name, mask, mine, [](auto* const* lanes) {
    T values[32];
    for (int l = 0; l < 32; ++l)
      if (lanes[l]) values[l] = lanes[l]->value;
    for (int l = 0; l < 32; ++l)
      if (lanes[l] && lanes[lanes[l]->from]) lanes[l]->value = values[lanes[l]->from];
  });
  return mine.value;
}

}  // namespace a_infonce::emulator

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  a_infonce::emulator::barrier(0, static_cast<int>(blockDim.x * blockDim.y * blockDim.z), true, "__syncthreads", file, line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  struct { unsigned vote; } mine{predicate != 0};
  a_infonce::emulator::warp_collective("__ballot_sync", mask, mine, [](auto* const* lanes) {
    unsigned votes = 0;
    for (int l = 0; l < 32; ++l)
      if (lanes[l]) votes |= lanes[l]->vote << l;
    for (int l = 0; l < 32; ++l)
      if (lanes[l]) lanes[l]->vote = votes;
  });
  return mine.vote;
}
inline void __syncwarp(unsigned mask = ~0u) { a_infonce::emulator::sync_warp(mask); }
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == mask; }
template <typename T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
  const int lane = a_infonce::emulator::lane();
  return a_infonce::emulator::exchange("__shfl_sync", mask, value, (lane & ~(width - 1)) | (from & (width - 1)));
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  const int lane = a_infonce::emulator::lane(), from = lane ^ bits;
  return a_infonce::emulator::exchange("__shfl_xor_sync", mask, value, (from & ~(width - 1)) > (lane & ~(width - 1)) ? lane : from);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
  const int lane = a_infonce::emulator::lane(), from = lane + static_cast<int>(by);
  return a_infonce::emulator::exchange("__shfl_down_sync", mask, value, (from & ~(width - 1)) != (lane & ~(width - 1)) ? lane : from);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
  const int lane = a_infonce::emulator::lane(), from = lane - static_cast<int>(by);
  return a_infonce::emulator::exchange("__shfl_up_sync", mask, value, from < (lane & ~(width - 1)) ? lane : from);
}

inline void __threadfence() {}
inline void __threadfence_block() {}
template <typename T> T __ldg(const T* p) { return *p; }
// Threads take turns: plain reads and writes are atomic.
template <typename T>
[[gnu::no_sanitize_thread]] T atomicAdd(T* p, std::type_identity_t<T> value) {
  static_assert(std::is_integral_v<T>, "sums of floating-point numbers have a fixed order");
  const T old = *p;
  *p = static_cast<T>(old + value);
  return old;
}
template <typename T> [[gnu::no_sanitize_thread]] T atomicMax(T* p, std::type_identity_t<T> value) { static_assert(std::is_integral_v<T>); const T old = *p; if (value > old) *p = value; return old; }
template <typename T> [[gnu::no_sanitize_thread]] T atomicMin(T* p, std::type_identity_t<T> value) { static_assert(std::is_integral_v<T>); const T old = *p; if (value < old) *p = value; return old; }
template <typename T> [[gnu::no_sanitize_thread]] T atomicOr(T* p, std::type_identity_t<T> value) { static_assert(std::is_integral_v<T>); const T old = *p; *p = old | value; return old; }

inline float __uint_as_float(unsigned x) { return __builtin_bit_cast(float, x); }
inline unsigned __float_as_uint(float x) { return __builtin_bit_cast(unsigned, x); }
inline float __int_as_float(int x) { return __builtin_bit_cast(float, x); }
inline int __float_as_int(float x) { return __builtin_bit_cast(int, x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline double rsqrt(double x) { return 1 / std::sqrt(x); }
template <typename T> constexpr T min(T a, std::type_identity_t<T> b) { return b < a ? b : a; }
template <typename T> constexpr T max(T a, std::type_identity_t<T> b) { return a < b ? b : a; }

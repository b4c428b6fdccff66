// The emulator itself: what it must do, and what it must not let pass.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>
#include "../check.h"
#include "kernels/cuda/instructions.h"

using namespace a_infonce;
using namespace a_infonce::kernels::cuda;

namespace {

/// The message of the launch's error, which has to name the kernel and to contain `part`.
template <typename Kernel>
void refuses(const char* part, int threads, size_t shared_bytes, Kernel kernel) {
  try {
    launch("wrong", kernel, 1, threads, shared_bytes, nullptr);
  } catch (const Error& error) {
    CHECK(std::strstr(error.what(), "kernel wrong") && std::strstr(error.what(), part), "%s: expected %s", error.what(), part);
    return;
  }
  CHECK(false, "no error: %s", part);
}

void sum_of_block(const int* x, int* sums) {
  int* const shared = shared_memory<int>();
  shared[threadIdx.x] = x[blockIdx.x * blockDim.x + threadIdx.x];
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
  }
  if (threadIdx.x == 0) sums[blockIdx.x] = shared[0];
}
void shuffles(int* out) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  int x = lane;
  for (int step = 1; step < 32; step *= 2) x += __shfl_xor_sync(full_warp, x, step);
  const int down = __shfl_down_sync(full_warp, lane, 3), quarter = __shfl_sync(full_warp, lane, 1, 4);
  const unsigned odd = __ballot_sync(full_warp, lane & 1);
  int halves = 0;
  if (lane < 16) halves = __shfl_sync(0xffffu, lane, 5);
  else halves = __shfl_sync(0xffff0000u, lane, 20);
  out[threadIdx.x] = x == 496 && down == (lane < 29 ? lane + 3 : lane) && quarter == lane / 4 * 4 + 1 && odd == 0xaaaaaaaau && halves == (lane < 16 ? 5 : 20);
}
void copies(const int* x, int* out) {
  int* const shared = shared_memory<int>();
  copy_async(shared + 4 * threadIdx.x, x + 4 * threadIdx.x);
  commit_copies();
  copy_async(shared + 128 + 4 * threadIdx.x, x + 128 + 4 * threadIdx.x);
  commit_copies();
  const bool early = shared[4 * threadIdx.x] == -1;
  wait_copies<1>();
  const bool second = shared[128 + 4 * threadIdx.x] == -1 && shared[4 * threadIdx.x] == x[4 * threadIdx.x];
  wait_copies<0>();
  __syncthreads();
  const unsigned other = (threadIdx.x + 7) % 32;
  out[threadIdx.x] = early && second && shared[128 + 4 * other + 3] == x[128 + 4 * other + 3];
}
void producers(int* out) {  // warp 0 feeds warp 1 through named barriers
  int* const shared = shared_memory<int>();
  for (int round = 0; round < 3; ++round) {
    if (threadIdx.x < 32) {
      if (round > 0) named_barrier(2, 64);
      shared[threadIdx.x] = 100 * round + static_cast<int>(threadIdx.x);
      arrive_at_barrier(1, 64);
    } else {
      named_barrier(1, 64);
      out[32 * round + threadIdx.x - 32] = shared[threadIdx.x - 32];
      if (round < 2) arrive_at_barrier(2, 64);
    }
  }
}
void products(const float* a, const float* b, float* c) {  // [16, 16] x [16, 8], from shared memory, whose rows are those of a and those of b's transpose
  const int l = lane();
  uint16_t* const shared = shared_memory<uint16_t>();
  for (int i = l; i < 256; i += 32) shared[i] = static_cast<uint16_t>(bf16_pair(a[i], 0));
  for (int i = l; i < 128; i += 32) shared[256 + i] = static_cast<uint16_t>(bf16_pair(b[i], 0));  // [16, 8] as it is
  for (int i = l; i < 128; i += 32) shared[384 + i % 8 * 16 + i / 8] = static_cast<uint16_t>(bf16_pair(b[i], 0));
  __syncwarp();
  uint32_t left[4], right[4], turned[4];
  load_matrices<false>(left, shared + l % 16 * 16 + l / 16 * 8);
  load_matrices<true>(right, shared + 256 + l % 16 * 8);
  load_matrices<false>(turned, shared + 384 + l % 8 * 16 + l / 8 % 2 * 8);
  float sums[4] = {}, same[4] = {};
  mma_bf16(sums, left, right[0], right[1]);
  mma_bf16(same, left, turned[0], turned[1]);
  float exact[4] = {};
  const int group = l / 4, pair = l % 4;
  for (int k = 0; k < 16; k += 8) {
    const uint32_t x[4] = {tf32(a[group * 16 + k + pair]), tf32(a[(group + 8) * 16 + k + pair]), tf32(a[group * 16 + k + pair + 4]), tf32(a[(group + 8) * 16 + k + pair + 4])};
    mma_tf32(exact, x, tf32(b[(k + pair) * 8 + group]), tf32(b[(k + pair + 4) * 8 + group]));
  }
  for (int r = 0; r < 4; ++r) {
    const int at = (group + r / 2 * 8) * 8 + pair * 2 + r % 2;
    c[at] = sums[r], c[128 + at] = same[r], c[256 + at] = exact[r];
  }
}

/// What tensor cores keep of c + a_0 b_0 + ... + a_k b_k, by the compute capability 8 and 9; b is 1 unless it is given.
void rounds() {
  struct Case { float c; std::vector<float> a; float b, expected[2]; };
  const float unit = 0x1p-24f;
  const Case cases[] = {
      {1, {unit}, 1, {1, 1}}, {-1, {-unit}, 1, {-1, -1}}, {-1, {unit / 2}, 1, {-1, -1 + unit}},                        // towards zero, where the addend was kept
      {1, std::vector<float>(8, unit), 1, {1 + 8 * unit, 1 + 8 * unit}}, {1, std::vector<float>(8, unit / 2), 1, {1, 1 + 4 * unit}}, {1, std::vector<float>(8, unit / 4), 1, {1, 1}},
      {0, {1.5f * 0x1p10f, 0x1p-14f, 0x1p-14f}, 1.5f, {2304, 2304}}, {0, {0x1p10f, -0x1p10f, 0x1p-15f}, 1, {0, 0x1p-15f}},
      {1, {0, 0, 0, 0, 0, 0, 0, 1, unit, unit}, 1, {2, 2}}, {-1, {0, 0, 0, 0, 0, 0, 0, 1, unit, unit}, 1, {2 * unit, 2 * unit}}, {0, {INFINITY}, 1, {INFINITY, INFINITY}},
  };
  for (const Case& each : cases)
    for (const int capability : {80, 90}) {
      float a[16] = {}, b[16 * 8], c[8];
      std::copy(each.a.begin(), each.a.end(), a), std::fill(std::begin(b), std::end(b), each.b), std::fill(std::begin(c), std::end(c), each.c);
      emulator::device.capability = capability;
      emulator::multiply_add(a, b, c, 1, 8, 16, sizeof(uint16_t));
      const float expected = each.expected[capability / 90];
      for (const float found : c) CHECK(found == expected, "compute capability %d, case %ld: %.9g for %.9g", capability, long(&each - cases), found, expected);
    }
  emulator::device.capability = 80;
}

void works() {
  std::vector<int> x(3 * 128), sums(3), out(96);
  std::iota(x.begin(), x.end(), 1);
  launch("sum_of_block", sum_of_block, 3, 128, 128 * sizeof(int), nullptr, x.data(), sums.data());
  for (int b = 0; b < 3; ++b) CHECK(sums[b] == 128 * 129 / 2 + 128 * 128 * b, "the sum of block %d is %d", b, sums[b]);
  launch("shuffles", shuffles, 1, 64, 0, nullptr, out.data());
  for (int t = 0; t < 64; ++t) CHECK(out[t] == 1, "shuffles of thread %d", t);
  launch("copies", copies, 1, 32, 256 * sizeof(int), nullptr, x.data(), out.data());
  for (int t = 0; t < 32; ++t) CHECK(out[t] == 1, "copies of thread %d", t);
  launch("producers", producers, 1, 64, 32 * sizeof(int), nullptr, out.data());
  for (int t = 0; t < 96; ++t) CHECK(out[t] == t / 32 * 100 + t % 32, "%d for %d", out[t], t);
  std::vector<float> a(256), b(128), c(384);
  for (int i = 0; i < 256; ++i) a[i] = static_cast<float>((i * 7 + i / 16 * 5) % 31 - 15);
  for (int i = 0; i < 128; ++i) b[i] = static_cast<float>((i * 11 + i / 8 * 3) % 29 - 14);
  launch("products", products, 1, 32, 512 * sizeof(uint16_t), nullptr, a.data(), b.data(), c.data());
  for (int i = 0; i < 128; ++i) {
    float sum = 0;
    for (int k = 0; k < 16; ++k) sum += a[i / 8 * 16 + k] * b[k * 8 + i % 8];
    for (int of = 0; of < 3; ++of) CHECK(c[128 * of + i] == sum, "product %d at %d: %g for %g", of, i, c[128 * of + i], sum);
  }
}

void catches() {
  refuses("threads in a block", 33, 0, +[] {});
  refuses("bytes of shared memory", 32, 1 << 20, +[] {});
  refuses("threads 32 to 63 wait at __syncthreads", 64, 0, +[] { if (threadIdx.x >= 32) __syncthreads(); });
  refuses("divergent barrier", 64, 0, +[] {
    if (threadIdx.x >= 32) __syncthreads();
    else
      __syncthreads();
  });
  refuses("divergent collective", 32, 0, +[] {
    if (threadIdx.x == 3) (void)__shfl_sync(full_warp, 1, 0);
    else __syncwarp();
  });
  refuses("not in its own mask", 32, 0, +[] { __syncwarp(1); });
  refuses("spin on a flag", 32, 0, +[] { for (;;) emulator::yield("a flag"); });
  refuses("outside of shared memory", 32, 64, +[] { static const uint4 x{}; copy_async(shared_memory<uint4>() + threadIdx.x, &x); });
  refuses("not a multiple of 16", 32, 64, +[] { uint32_t x[4]; load_matrices<false>(x, shared_memory<char>() + 4); });
  refuses("arrivals at barrier 3", 32, 0, +[] { arrive_at_barrier(3, 32 + 32 * (threadIdx.x > 99)); if (threadIdx.x == 0) arrive_at_barrier(3, 32); });
  std::vector<unsigned> out(32);
  launch("poison", +[](unsigned* out) { out[threadIdx.x] = shared_memory<unsigned>()[threadIdx.x]; }, 1, 32, 128, nullptr, out.data());
  for (const unsigned word : out) CHECK(word == ~0u, "shared memory begins as %x", word);
}

#ifdef A_INFONCE_RACES
/// Results are right in this order of threads or the other, and by chance.
void races() {
  static int numbers[2];
  refuses("nothing orders the two", 64, 256, +[] { shared_memory<int>()[threadIdx.x] = 1, numbers[0] = shared_memory<int>()[threadIdx.x ^ 32]; });
  refuses("nothing orders the two", 32, 128, +[] {  // a shuffle is no barrier
    shared_memory<int>()[threadIdx.x] = 1;
    (void)__shfl_sync(full_warp, 1, 0);
    (void)*const_cast<volatile int*>(shared_memory<int>() + (threadIdx.x ^ 1));
  });
  refuses("nothing orders the two", 64, 4, +[] {  // read before, written to after
    int* const shared = shared_memory<int>();
    if (threadIdx.x == 0) *shared = 1;
    __syncthreads();
    if (*shared == 1 && threadIdx.x == 40) *shared = 2;
  });
  refuses("nothing orders the two", 64, 4, +[] {  // who arrives and does not wait learns nothing
    if (threadIdx.x >= 32) *shared_memory<int>() = 3, named_barrier(1, 64);
    else arrive_at_barrier(1, 64), __syncwarp(), (void)*const_cast<volatile int*>(shared_memory<int>());
  });
  refuses("nothing orders the two", 64, 512, +[] {  // waits for its copies after the barrier
    static const uint4 x{1, 2, 3, 4};
    if (threadIdx.x < 32) copy_async(shared_memory<uint4>() + threadIdx.x, &x), commit_copies();
    __syncthreads();
    if (threadIdx.x >= 32) (void)*const_cast<volatile unsigned*>(shared_memory<unsigned>() + 4 * (threadIdx.x - 32));
    else wait_copies<0>();
  });
  refuses("nothing orders the two", 64, 1024, +[] {  // ldmatrix
    uint32_t x[4];
    if (threadIdx.x < 32) load_matrices<false>(x, shared_memory<uint4>() + threadIdx.x);
    else shared_memory<uint4>()[threadIdx.x - 32] = {};
  });
  refuses("nothing orders the two", 64, 0, +[] {  // one of two readers of global memory is not known
    if (threadIdx.x % 32 == 0) (void)*const_cast<volatile int*>(numbers);
    __syncwarp();
    if (threadIdx.x == 33) numbers[0] ^= 1;
  });
  refuses("nothing orders the two", 64, 4, +[] {  // one of those who wrote two bytes each is not known
    if (threadIdx.x % 32 == 0) shared_memory<uint16_t>()[threadIdx.x / 32] = 1;
    __syncwarp();
    if (threadIdx.x == 33) (void)*const_cast<volatile uint32_t*>(shared_memory<uint32_t>());
  });
  launch("halves", +[] {  // of one word, by two threads; and bytes that one thread writes one after the other, while another reads the first of them
    volatile uint16_t* const mine = shared_memory<uint16_t>() + threadIdx.x / 32;
    volatile uint8_t* const bytes = shared_memory<uint8_t>() + 4;
    if (threadIdx.x % 32 == 0) *mine = static_cast<uint16_t>(threadIdx.x);
    if (threadIdx.x == 0) bytes[0] = 1;
    __syncthreads();
    if (threadIdx.x == 0) bytes[1] = 2;
    if (threadIdx.x == 32) (void)bytes[0];
    (void)*const_cast<volatile uint32_t*>(shared_memory<uint32_t>());
    __syncthreads();
    if (threadIdx.x % 32 == 0) *mine = static_cast<uint16_t>(*mine + 1);
  }, 1, 64, 8, nullptr);
  const auto blocks = [](const char* part, auto* kernel) {
    try {
      launch("wrong", kernel, 2, 32, 0, nullptr);
    } catch (const Error& error) {
      CHECK(std::strstr(error.what(), part), "%s: expected %s", error.what(), part);
      return true;
    }
    return false;
  };
  CHECK(blocks("which another block has written", +[] { if (threadIdx.x == 0) numbers[0] = static_cast<int>(blockIdx.x); }), "two blocks write to one number");
  CHECK(blocks("which another block has", +[] { if (threadIdx.x == 0 && blockIdx.x == 1) numbers[0] = numbers[1] + 1; else numbers[1] = numbers[0]; }), "a block reads what another writes");
  CHECK(blocks("which another block has", +[] {  // of one word, whose first byte all threads of the reader know to be read
    alignas(4) static volatile uint8_t bytes[4];
    if (threadIdx.x == 0 && blockIdx.x == 1) bytes[0] = static_cast<uint8_t>(bytes[0] + 1);
    if (threadIdx.x == 0 && blockIdx.x == 0) (void)bytes[0];
    __syncthreads();
    if (threadIdx.x == 0 && blockIdx.x == 0) (void)bytes[1];
  }), "a block writes what another has read before a barrier");
  CHECK(!blocks("", +[] { numbers[1] = 7; }), "the same number from all");
  CHECK(!blocks("", +[] { atomicAdd(numbers, 1); }), "atomics");
}
#endif

}  // namespace

int main() {
  emulator::in_each_order(false, [] {
    works(), catches();
#ifdef A_INFONCE_RACES
    races();
#endif
  });
  rounds();
  std::puts("passed");
}

#include "emulator.h"
#include "emulator_races.h"
#include <malloc.h>
#include <sys/mman.h>
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#if defined(A_INFONCE_ADDRESS_SANITIZER)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

// Saves the registers that a function must keep on this stack and its place in *from, and goes on where another stack stopped.
extern "C" void a_infonce_switch_stack(void** from, void* to);
asm(R"(
.text
.type a_infonce_switch_stack, @function
a_infonce_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size a_infonce_switch_stack, . - a_infonce_switch_stack
)");

namespace a_infonce::emulator {

Device device;
Order order = Order::Forward;
int64_t launches = 0;
std::set<const void*> kernels;
void (*queue)(CUstream_st*, std::function<void()>) = nullptr;

namespace {

constexpr size_t stack_bytes = 512 * 1024, guard_bytes = 4096;
constexpr int most_threads = 1024, named_barriers = 16;

enum class State { Ready, Waits, Ended };
struct Copy {
  void* to;
  const void* from;
  int bytes, valid;
};
struct Fiber {
  void* stack_pointer = nullptr;
  void* fake_stack = nullptr;  // AddressSanitizer's
  char* stack = nullptr;
  State state = State::Ended;
  const char *what = "", *file = "";  // it waits for
  int line = 0;
  std::vector<Copy> copies;   // not landed
  std::vector<size_t> groups; // copies of each committed group
};
struct Barrier {
  int arrived = 0, expected = 0;
  const char* file = nullptr;
  int line = 0;
  std::vector<int> waiting;
};
struct Meeting {
  const char* name;
  unsigned mask, arrived;  // of a warp
  int count;               // of a warpgroup
  bool warpgroup;
  int first;               // thread
  void* operands[128];
};

struct Emulator {
  Fiber fibers[most_threads];
  void* main_stack_pointer = nullptr;
  void* main_fake_stack = nullptr;
  const void* main_stack = nullptr;
  size_t main_stack_bytes = 0;
  int threads = 0, current = -1, ended = 0;
  int64_t spins = 0;
  uint64_t block = 0;
  const char* kernel = "";
  char* stacks = nullptr;  // of all fibers
  const std::function<void()>* body = nullptr;
  char* shared = nullptr;
  size_t bytes = 0;
  bool failed = false, collective = false;  // collective: what runs is a collective's, on one of its threads
  uint64_t random = 1;
  std::string failure;
  Barrier barriers[named_barriers];
  std::vector<std::unique_ptr<Meeting>> meetings[most_threads / 128], kept;  // of four warps each; and those to be used again
};
Emulator e;
std::mutex one_launch;

std::string place() {
  return std::string("kernel ") + e.kernel + ", block (" + std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " + std::to_string(blockIdx.z) + ")";
}

/// On fiber `to` (-1: the caller of `run`) from the current one.
void switch_to(int to, [[maybe_unused]] bool ends = false) {
  races::settle();
  Fiber* const from = e.current < 0 ? nullptr : &e.fibers[e.current];
  void** const saved = from ? &from->stack_pointer : &e.main_stack_pointer;
  [[maybe_unused]] void** const fake = from ? &from->fake_stack : &e.main_fake_stack;
  Fiber* const next = to < 0 ? nullptr : &e.fibers[to];
  e.current = to;
  if (to >= 0) {
    const unsigned t = static_cast<unsigned>(to);
    threadIdx = {t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y};
  }
#if defined(A_INFONCE_ADDRESS_SANITIZER)
  __sanitizer_start_switch_fiber(ends ? nullptr : fake, next ? next->stack : e.main_stack, next ? stack_bytes : e.main_stack_bytes);
#endif
  a_infonce_switch_stack(saved, next ? next->stack_pointer : e.main_stack_pointer);
#if defined(A_INFONCE_ADDRESS_SANITIZER)
  const void* bottom = nullptr;
  size_t size = 0;
  __sanitizer_finish_switch_fiber(*fake, &bottom, &size);
#endif
}

[[noreturn]] void fail(const std::string& message) { throw Failure(message); }  // to `enter`

std::string waiters() {
  const auto text_of = [](const Fiber& f) {
    if (f.state == State::Ended) return std::string("ended");
    return std::string(f.state == State::Ready ? "spin on " : "wait at ") + f.what + (*f.file ? std::string(" (") + f.file + ":" + std::to_string(f.line) + ")" : "");
  };
  std::string text;
  for (int t = 0, next; t < e.threads; t = next) {
    const std::string state = text_of(e.fibers[t]);
    for (next = t + 1; next < e.threads && text_of(e.fibers[next]) == state;) ++next;
    text += (t ? "; " : "") + (next == t + 1 ? "thread " + std::to_string(t) : "threads " + std::to_string(t) + " to " + std::to_string(next - 1)) + " " + state;
  }
  return text;
}

/// The one whose turn is next, -1 if none is ready. Forward and backward the current one comes last of all.
int next_ready() {
  const int step = order == Order::Backward ? e.threads - 1 : 1;
  int t = e.current;
  if (order == Order::Random) {
    e.random ^= e.random << 13, e.random ^= e.random >> 7, e.random ^= e.random << 17;
    t = static_cast<int>(e.random % static_cast<uint64_t>(e.threads));
  }
  for (int k = 0; k < e.threads; ++k) {
    t = t < 0 ? (order == Order::Backward ? e.threads - 1 : 0) : t + step >= e.threads ? t + step - e.threads : t + step;
    if (e.fibers[t].state == State::Ready) return t;
  }
  return -1;
}

void wait(const char* what, const char* file = "", int line = 0) {
  Fiber& self = e.fibers[e.current];
  self.state = State::Waits, self.what = what, self.file = file, self.line = line;
  const int next = next_ready();
  if (next < 0) fail("no thread can go on: " + waiters());
  switch_to(next);
}

#if defined(A_INFONCE_ADDRESS_SANITIZER)
__attribute__((no_sanitize_address))
#endif
void enter() {
#if defined(A_INFONCE_ADDRESS_SANITIZER)
  const void* bottom = nullptr;
  size_t size = 0;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
  if (!e.main_stack) e.main_stack = bottom, e.main_stack_bytes = size;  // the block's first thread comes from there
#endif
  int next = -1;
  try {
    (*e.body)();
    e.fibers[e.current].state = State::Ended;
    ++e.ended, e.spins = 0;
    next = next_ready();
    if (next < 0 && e.ended < e.threads) fail("no thread can go on: " + waiters());
  } catch (const std::exception& error) {
    e.failed = true, e.failure = place() + ", thread " + std::to_string(e.current) + ": " + error.what(), next = -1;
  }
  switch_to(next, true);
  std::abort();
}

void prepare(Fiber& fiber) {
  if (!e.stacks) {
    void* const memory = mmap(nullptr, most_threads * (guard_bytes + stack_bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    e.stacks = static_cast<char*>(memory);
  }
  if (!fiber.stack) {
    char* const memory = e.stacks + (&fiber - e.fibers) * static_cast<std::ptrdiff_t>(guard_bytes + stack_bytes);
    if (mprotect(memory, guard_bytes, PROT_NONE)) throw std::bad_alloc();
    fiber.stack = memory + guard_bytes;
  }
#if defined(A_INFONCE_ADDRESS_SANITIZER)
  __asan_unpoison_memory_region(fiber.stack + stack_bytes - 12288, 12288);  // `enter` never returned
#endif
  const std::ptrdiff_t line = (&fiber - e.fibers) % 64;  // of the cache, which would have few places for tops of stacks that all begin a page
  void** top = reinterpret_cast<void**>(fiber.stack + stack_bytes - 64 * line);
  *--top = nullptr;  // where a call would have put its return address: the stack is aligned as a function expects
  *--top = reinterpret_cast<void*>(&enter);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  fiber.stack_pointer = top;
  fiber.state = State::Ready, fiber.what = "nothing yet", fiber.file = "", fiber.line = 0;
  fiber.copies.clear(), fiber.groups.clear();
}

}  // namespace

int thread() { return e.current; }
bool in_kernel() { return e.body && e.current >= 0 && !e.collective; }
bool on_stack(const void* p) {
  const char* const at = static_cast<const char*>(p);
  return e.stacks && at >= e.stacks && at < e.stacks + most_threads * (guard_bytes + stack_bytes);
}
void abandon(const std::string& message) {
  e.failed = true, e.failure = place() + ": " + message;
  switch_to(-1, true);
  std::abort();
}
void* shared_memory() { return e.shared; }
size_t shared_bytes() { return e.bytes; }
uint64_t block() { return e.block; }

void run(const char* name, const void* kernel, dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body) {
  const std::lock_guard<std::mutex> lock(one_launch);
  ++launches, kernels.insert(kernel);
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  const auto refuse = [&](const std::string& why) { throw Failure(std::string("kernel ") + name + ": " + why); };
  if (threads == 0 || threads > most_threads || threads % 32) refuse(std::to_string(threads) + " threads in a block");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) refuse("no such grid of blocks");
  if (shared_bytes > device.shared_bytes()) refuse(std::to_string(shared_bytes) + " bytes of shared memory");
  const auto freed = [](char* p) { std::free(p); };
  const std::unique_ptr<char, decltype(freed)> shared(shared_bytes ? static_cast<char*>(memalign(1024, shared_bytes)) : nullptr, freed);
  blockDim = block, gridDim = grid;
  races::begin_launch();
  e.kernel = name, e.body = &body, e.shared = shared.get(), e.bytes = shared_bytes, e.threads = static_cast<int>(threads), e.failed = false;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = {x, y, z}, ++e.block;
        if (shared) std::memset(e.shared, 0xff, shared_bytes);  // NaNs
        for (Barrier& barrier : e.barriers) barrier = {};
        for (auto& meetings : e.meetings) meetings.clear();
        for (int t = 0; t < e.threads; ++t) prepare(e.fibers[t]);
        races::begin_block(e.threads, e.shared, e.bytes);
        e.ended = 0, e.spins = 0, e.current = -1, e.main_stack = nullptr, e.collective = false;
        switch_to(next_ready());
        if (e.failed) {
#if defined(A_INFONCE_ADDRESS_SANITIZER)
          for (int t = 0; t < e.threads; ++t) __asan_unpoison_memory_region(e.fibers[t].stack, stack_bytes);
#endif
          throw Failure(e.failure);
        }
        for (int id = 0; id < named_barriers; ++id)
          if (e.barriers[id].arrived) throw Failure(place() + ": ended with " + std::to_string(e.barriers[id].arrived) + " arrivals at barrier " + std::to_string(id));
      }
}

void yield(const char* what) {
  Fiber& self = e.fibers[e.current];
  self.what = what, self.file = "";
  if (++e.spins > 64 * e.threads) fail("no thread makes progress: " + waiters());
  const int next = next_ready();
  if (next != e.current) switch_to(next);
}
void progress() { e.spins = 0; }

void barrier(int id, int threads, bool waits, const char* what, const char* file, int line) {
  if (id < 0 || id >= named_barriers || threads <= 0 || threads % 32 || threads > e.threads) fail(std::string(what) + ": barrier " + std::to_string(id) + " of " + std::to_string(threads) + " threads");
  Barrier& barrier = e.barriers[id];
  progress();
  if (barrier.arrived == 0) barrier.expected = threads, barrier.file = file, barrier.line = line;
  if (barrier.expected != threads) fail(std::string(what) + ": barrier " + std::to_string(id) + " of " + std::to_string(barrier.expected) + " threads elsewhere, of " + std::to_string(threads) + " here");
  if (id == 0 && (barrier.line != line || std::strcmp(barrier.file, file)))
    fail(std::string("divergent barrier: this one is at ") + file + ":" + std::to_string(line) + " while others are at " + barrier.file + ":" + std::to_string(barrier.line));
  races::settle();
  if (id != 0) races::give(e.current, id);
  if (++barrier.arrived == threads) {
    if (waits) barrier.waiting.push_back(e.current);
    for (const int t : barrier.waiting) e.fibers[t].state = State::Ready, races::take(t, id);
    barrier.waiting.clear(), barrier.arrived = 0;
    id == 0 ? races::meet_all() : races::forget(id);
    return;
  }
  if (!waits) return;
  barrier.waiting.push_back(e.current);
  wait(what, file, line);
}

void meet(const char* name, bool warpgroup, unsigned mask, void* operands, void (*run)(void* const*, const void*), const void* context) {
  const int size = warpgroup ? 128 : 32, first = e.current / size * size, mine = e.current - first;
  if (!warpgroup && !(mask >> mine & 1)) fail(std::string(name) + ": the thread is not in its own mask");
  if (first + size > e.threads) fail(std::string(name) + ": not four warps from a multiple of four");
  progress();
  const auto of_my_warp = [](const Meeting& other) {  // those that wait there
    void* const* const lanes = other.operands + (other.warpgroup ? e.current / 32 % 4 * 32 : 0);
    return other.first == e.current / (other.warpgroup ? 128 : 32) * (other.warpgroup ? 128 : 32) && std::any_of(lanes, lanes + 32, [](void* operands) { return operands; });
  };
  auto& meetings = e.meetings[e.current / 128];
  size_t at = 0;
  for (; at < meetings.size(); ++at) {
    const Meeting& other = *meetings[at];
    if (other.warpgroup == warpgroup ? other.first != first || !(warpgroup || other.mask & mask) : !of_my_warp(other)) continue;
    if (other.warpgroup != warpgroup || other.mask != mask || (other.name != name && std::strcmp(other.name, name)))
      fail(std::string("divergent collective: this one is at ") + name + " while others of its warp are at " + other.name);
    break;
  }
  if (at == meetings.size()) {
    if (e.kept.empty()) e.kept.push_back(std::make_unique<Meeting>());
    meetings.push_back(std::move(e.kept.back())), e.kept.pop_back();
    Meeting& meeting = *meetings.back();
    meeting.name = name, meeting.mask = mask, meeting.arrived = 0, meeting.count = 0, meeting.warpgroup = warpgroup, meeting.first = first;
    std::memset(meeting.operands, 0, static_cast<size_t>(size) * sizeof meeting.operands[0]);
  }
  Meeting& meeting = *meetings[at];
  meeting.operands[mine] = operands;
  meeting.arrived |= 1u << (mine & 31), ++meeting.count;
  if (warpgroup ? meeting.count < 128 : meeting.arrived != mask) return wait(name);
  e.collective = true;
  run(meeting.operands, context);
  e.collective = false;
  for (int t = 0; t < size; ++t)
    if (meeting.operands[t] && t != mine) e.fibers[first + t].state = State::Ready;
  e.kept.push_back(std::move(meetings[at]));
  meetings.erase(meetings.begin() + static_cast<std::ptrdiff_t>(at));
}

void sync_warp(unsigned mask) {
  struct {
    int thread;
  } mine{e.current};
  races::settle();
  warp_collective("__syncwarp", mask, mine, [](auto* const* lanes) {
    const races::Key key = named_barriers + static_cast<races::Key>(e.current / 32);
    for (int l = 0; l < 32; ++l)
      if (lanes[l]) races::give(lanes[l]->thread, key);
    for (int l = 0; l < 32; ++l)
      if (lanes[l]) races::take(lanes[l]->thread, key);
    races::forget(key);
  });
}

namespace {
constexpr int lanes = 8, most_depth = 16, most_rows = 64;
using Floats [[gnu::vector_size(4 * lanes)]] = float;
using Integers [[gnu::vector_size(4 * lanes)]] = int;
using Doubles [[gnu::vector_size(8 * lanes)]] = double;
using Longs [[gnu::vector_size(8 * lanes)]] = int64_t;

/// Of a number's exponent; zero has none.
[[gnu::always_inline]] inline int power_of(float x) {
  const int exponent = static_cast<int>(__float_as_uint(x) >> 23 & 255);
  return x == 0 ? -(1 << 20) : (exponent > 0 ? exponent : 1) - 127;
}
[[gnu::always_inline]] inline void powers_of(Integers& powers, const Floats& x) {
  const Integers exponent = (Integers)x >> 23 & 255;
  powers = x == 0 ? Integers{} - (1 << 20) : (exponent > 0 ? exponent : 1) - 127;
}

/// Columns column ... column + lanes - 1 of multiply_add, of factors a and their powers, where conversions round towards zero.
template <int at_once, bool finite>
[[gnu::always_inline]] inline void add_columns(const double* a, const int* a_powers, const float* b, float* c, int column, int m, int n, int k, int kept_bits) {
  Doubles factors[most_depth];
  Integers powers[most_depth];
  for (int l = 0; l < k; ++l) {
    Floats factor;
    std::memcpy(&factor, b + l * n + column, sizeof factor);
    powers_of(powers[l], factor), factors[l] = __builtin_convertvector(factor, Doubles);
  }
  for (int i = 0; i < m; ++i) {
    Floats sum;
    std::memcpy(&sum, c + i * n + column, sizeof sum);
    for (int first = 0; first < k; first += at_once) {
      const double* const row = a + i * k + first;
      Integers largest;
      powers_of(largest, sum);
#pragma GCC unroll 16
      for (int l = 0; l < at_once; ++l) {
        const Integers power = a_powers[i * k + first + l] + powers[first + l];
        largest = power > largest ? power : largest;
      }
      const Longs unit = __builtin_convertvector((largest > -300 ? largest : -300) - kept_bits, Longs), to_units = (1023 - unit) << 52, from_units = (1023 + unit) << 52;
      Doubles plain = __builtin_convertvector(sum, Doubles);
      Integers even = __builtin_convertvector(plain * (Doubles)to_units, Integers), odd = {};  // neither overflows: addends are less than 4 * 2^25
#pragma GCC unroll 8
      for (int l = 0; l < at_once; l += 2) {
        const Doubles product = row[l] * factors[first + l], next = row[l + 1] * factors[first + l + 1];
        even += __builtin_convertvector(product * (Doubles)to_units, Integers), odd += __builtin_convertvector(next * (Doubles)to_units, Integers);
        if constexpr (!finite) plain += product, plain += next;
      }
      sum = __builtin_convertvector((__builtin_convertvector(even, Doubles) + __builtin_convertvector(odd, Doubles)) * (Doubles)from_units, Floats);
      if constexpr (!finite) sum = __builtin_convertvector(plain - plain == 0, Integers) ? sum : __builtin_convertvector(plain, Floats);
    }
    std::memcpy(c + i * n + column, &sum, sizeof sum);
  }
}
}  // namespace

[[gnu::target_clones("avx512f", "avx2", "default")]] void multiply_add(const float* a, const float* b, float* c, int m, int n, int k, int element_bytes) {
  const bool hopper = device.capability >= 90;
  const int at_once = (hopper ? 32 : 16) / element_bytes, kept_bits = hopper ? 25 : 24;
  double values[most_rows * most_depth];
  int powers[most_rows * most_depth];
  for (int i = 0; i < m * k; ++i) values[i] = a[i], powers[i] = power_of(a[i]);
  bool finite = true;
  for (int i = 0; i < m * k; ++i) finite &= a[i] - a[i] == 0;
  for (int i = 0; i < k * n; ++i) finite &= b[i] - b[i] == 0;
  for (int i = 0; i < m * n; ++i) finite &= c[i] - c[i] == 0;
  const unsigned mode = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(mode | 0x6000);  // towards zero
  asm volatile("" ::: "memory");
  for (int column = 0; column < n; column += lanes) {
#define A_INFONCE_ADD(at_once) finite ? add_columns<at_once, true>(values, powers, b, c, column, m, n, k, kept_bits) : add_columns<at_once, false>(values, powers, b, c, column, m, n, k, kept_bits)
    if (at_once == 4) A_INFONCE_ADD(4);
    else if (at_once == 8) A_INFONCE_ADD(8);
    else A_INFONCE_ADD(16);
#undef A_INFONCE_ADD
  }
  asm volatile("" ::: "memory");
  __builtin_ia32_ldmxcsr(mode);
}

void require_shared(const char* what, const void* memory, size_t bytes, size_t alignment) {
  const auto at = reinterpret_cast<uintptr_t>(memory), base = reinterpret_cast<uintptr_t>(e.shared);
  if (at < base || at + bytes > base + e.bytes) fail(std::string(what) + ": outside of shared memory, at byte " + std::to_string(static_cast<int64_t>(at - base)));
  if (at % alignment) fail(std::string(what) + ": at byte " + std::to_string(at - base) + ", not a multiple of " + std::to_string(alignment));
}

void read_shared(const char* what, const void* memory, size_t bytes, size_t alignment) {
  require_shared(what, memory, bytes, alignment);
  races::read(e.current, memory, bytes);
}

void copy_async(void* to, const void* from, int bytes, int valid) {
  require_shared("cp.async", to, static_cast<size_t>(bytes), static_cast<size_t>(bytes));
  races::write(e.current, to, static_cast<size_t>(bytes));
  if (valid < 0 || valid > bytes || (valid && reinterpret_cast<uintptr_t>(from) % static_cast<size_t>(bytes))) fail("cp.async: reads from an address that is not aligned");
  e.fibers[e.current].copies.push_back({to, from, bytes, valid});
}
void commit_copies() {
  Fiber& self = e.fibers[e.current];
  size_t committed = 0;
  for (const size_t group : self.groups) committed += group;
  self.groups.push_back(self.copies.size() - committed);
}
void wait_copies(int groups_left) {
  Fiber& self = e.fibers[e.current];
  size_t landed = 0;
  while (self.groups.size() > static_cast<size_t>(groups_left)) {
    for (size_t k = 0; k < self.groups.front(); ++k) {
      const Copy& copy = self.copies[landed++];
      races::write(e.current, copy.to, static_cast<size_t>(copy.bytes));
      if (copy.valid) std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.valid));
      std::memset(static_cast<char*>(copy.to) + copy.valid, 0, static_cast<size_t>(copy.bytes - copy.valid));
    }
    self.groups.erase(self.groups.begin());
  }
  self.copies.erase(self.copies.begin(), self.copies.begin() + static_cast<std::ptrdiff_t>(landed));
}

}  // namespace a_infonce::emulator

#include "emulator_hopper.h"
#include "emulator_races.h"
#include <algorithm>
#include <string>
#include <vector>

namespace a_infonce::emulator {

namespace {

[[noreturn]] void refuse(const std::string& why) { throw Failure(why); }
void require(bool condition, const char* why) {
  if (!condition) refuse(why);
}

struct State {  // of a barrier, in its eight bytes
  uint16_t expected, missing;  // arrivals
  int32_t bytes : 31;          // not landed
  uint32_t phase : 1;          // its parity
};
static_assert(sizeof(State) == 8);
State& state_of(void* barrier, bool asynchronous = false) {
  require_shared("mbarrier", barrier, sizeof(State), 8);
  races::require_known("mbarrier", thread(), 1, barrier, sizeof(State), asynchronous);
  State& state = *static_cast<State*>(barrier);
  require(state.expected > 0 && state.expected <= 1024 && state.missing <= state.expected, "mbarrier: not initialised");
  return state;
}
races::Key key_of(const void* barrier) { return reinterpret_cast<races::Key>(barrier); }
void end_phase(State& state) {
  if (state.missing || state.bytes) return;
  races::publish(key_of(&state));
  state.missing = state.expected, state.phase ^= 1;
  progress();
}

struct Bulk {
  void* to;
  const void* from;
  uint32_t bytes;
  void* barrier;
};
std::vector<Bulk> bulks;  // not landed

constexpr uint32_t garbage = 0x7fc0beef;  // a NaN
bool is_garbage(float x) { return __float_as_uint(x) == garbage; }

struct Product {
  uint64_t descriptor;
  int columns;
  bool across;
  std::vector<uint16_t> b;                // what it has read: [16, columns]
  const uint32_t* a[128] = {};
  uint32_t a_values[128][4] = {};
  float* c[128] = {};
};
struct Sums {  // of products that have not ended
  float* c[128] = {};
  int columns;
  std::vector<float> values;  // [128, columns / 2]
};
struct Warpgroup {
  uint64_t block = 0;
  bool fenced = false;
  std::vector<Product> products{};  // in flight, the oldest first
  std::vector<size_t> groups{};     // products of each committed group in flight
  std::vector<Sums> sums{};
};
Warpgroup warpgroups[8];
Warpgroup& warpgroup() {
  Warpgroup& mine = warpgroups[thread() / 128];
  if (mine.block != block()) mine = {.block = block()};
  return mine;
}

/// One collective of all 128 threads.
template <typename Run>
void together(const char* name, const Run& run) {
  struct Nothing {} mine;
  warpgroup_collective(name, mine, [&](auto* const*) { run(); });
}

/// f(k, n, memory) for the 16-byte pieces of b [16, columns] that begin there, by the canonical layouts of the manual, in units of 16 bytes: rows along k ((8, n), 2) :
/// ((8, stride), 1), across it ((8, n), (8, k)) : ((1, leading), (8, stride)); the address bits 4 to 6 of each piece ^= its bits 7 to 9.
template <typename F>
void each_piece(uint64_t descriptor, int columns, bool across, const F& f) {
  const uint32_t start = (descriptor & 0x3fff) << 4, leading = (descriptor >> 16 & 0x3fff) << 4, stride = (descriptor >> 32 & 0x3fff) << 4;
  require(descriptor >> 62 == 1, "wgmma: the descriptor is not of 128-byte swizzled rows");
  require((descriptor >> 49 & 7) == 0, "wgmma: the descriptor has a base offset");
  require((stride & 1023) == 0 && (!across || columns <= 64 || (leading & 1023) == 0), "wgmma: the swizzle's pattern is not aligned");
  require((start & 0x380) == 0, "wgmma: the matrix does not begin at a row of the swizzle's pattern whose number is a multiple of 8");
  for (int k = 0; k < 16; k += across ? 1 : 8)
    for (int n = 0; n < columns; n += across ? 8 : 1) {
      uint32_t at = start + (across ? n % 64 * 2 + n / 64 * leading + k % 8 * 128 + k / 8 * stride : k * 2 + n % 8 * 128 + n / 8 * stride);
      at ^= (at >> 7 & 7) << 4;
      require(at + 16 <= shared_bytes(), "wgmma: outside of shared memory");
      f(k, n, static_cast<const char*>(shared_memory()) + at);
    }
}
std::vector<uint16_t> read(uint64_t descriptor, int columns, bool across) {
  std::vector<uint16_t> b(16 * columns);
  each_piece(descriptor, columns, across, [&](int k, int n, const char* from) {
    uint16_t piece[8];
    std::memcpy(piece, from, sizeof piece);
    for (int i = 0; i < 8; ++i) b[(across ? k : k + i) * columns + (across ? n + i : n)] = piece[i];
  });
  return b;
}

/// The oldest product has ended.
void retire(Warpgroup& group) {
  const Product& product = group.products.front();
  const int threads = thread() / 128 * 128;
  each_piece(product.descriptor, product.columns, product.across, [&](int, int, const char* from) {
    for (int t = threads; t < threads + 128; t += 32) races::read(t, from, 16);  // the warps are those that release it
  });
  require(read(product.descriptor, product.columns, product.across) == product.b, "wgmma: shared memory has changed before the end of the product that reads it");
  for (int t = 0; t < 128; ++t)
    require(std::equal(product.a[t], product.a[t] + 4, product.a_values[t]), "wgmma: registers have changed before the end of the product that reads them");
  float* const first = product.c[0];
  group.products.erase(group.products.begin());
  if (std::any_of(group.products.begin(), group.products.end(), [&](const Product& other) { return other.c[0] == first; })) return;
  const auto sums = std::find_if(group.sums.begin(), group.sums.end(), [&](const Sums& s) { return s.c[0] == first; });
  const int count = sums->columns / 2;
  for (int t = 0; t < 128; ++t) {
    require(std::all_of(sums->c[t], sums->c[t] + count, is_garbage), "wgmma: sums have been written to before the end of their product");
    std::copy_n(&sums->values[t * count], count, sums->c[t]);
  }
  group.sums.erase(sums);
}

}  // namespace

void initialise(void* barrier, int arrivals) {
  require_shared("mbarrier.init", barrier, sizeof(State), 8);
  require(arrivals > 0 && arrivals <= 1024, "mbarrier.init: arrivals");
  races::write(thread(), barrier, sizeof(State));
  *static_cast<State*>(barrier) = {.expected = static_cast<uint16_t>(arrivals), .missing = static_cast<uint16_t>(arrivals), .bytes = 0, .phase = 0};
  std::erase_if(bulks, [&](const Bulk& bulk) { return bulk.barrier == barrier; });  // of a block that failed
}
void arrive(void* barrier, uint32_t expected_bytes) {
  State& state = state_of(barrier);
  require(state.missing > 0, "mbarrier: more arrivals than the phase counts");
  races::settle(), races::give(thread(), key_of(barrier));
  --state.missing, state.bytes += static_cast<int32_t>(expected_bytes);
  progress();
  end_phase(state);
}
void wait(void* barrier, uint32_t parity) {
  require(parity <= 1, "mbarrier: a parity is 0 or 1");
  for (;;) {
    State& state = state_of(barrier);
    if (state.phase != parity) return races::take(thread(), races::published(key_of(barrier)));
    if (!state.missing) {
      std::erase_if(bulks, [&](const Bulk& bulk) {
        if (bulk.barrier != barrier) return false;
        require(state.bytes >= static_cast<int32_t>(bulk.bytes), "cp.async.bulk: more bytes than the barrier expects");
        std::memcpy(bulk.to, bulk.from, bulk.bytes);
        state.bytes -= static_cast<int32_t>(bulk.bytes);
        return true;
      });
      end_phase(state);
      if (state.phase != parity) continue;
    }
    yield("mbarrier");
  }
}
void copy_bulk(void* to, const void* from, uint32_t bytes, void* barrier) {
  require_shared("cp.async.bulk", to, bytes, 16);
  require(reinterpret_cast<uintptr_t>(from) % 16 == 0 && bytes % 16 == 0 && bytes > 0, "cp.async.bulk: 16-byte aligned addresses and sizes");
  state_of(barrier, true);
  races::write_by_copy(to, bytes, key_of(barrier));
  bulks.push_back({to, from, bytes, barrier});
  std::memset(to, 0xff, bytes);
  progress();
}

void fence_async() { races::fence_async(); }

void converge(const char* name) {
  together(name, [] {});
}

void fence_products() {
  together("wgmma.fence", [] { warpgroup().fenced = true; });
}
void commit_products() {
  together("wgmma.commit_group", [] {
    Warpgroup& group = warpgroup();
    size_t committed = 0;
    for (const size_t products : group.groups) committed += products;
    group.groups.push_back(group.products.size() - committed);
  });
}
void wait_products(int groups_left) {
  together("wgmma.wait_group", [=] {
    Warpgroup& group = warpgroup();
    for (; group.groups.size() > static_cast<size_t>(groups_left); group.groups.erase(group.groups.begin()))
      for (size_t k = 0; k < group.groups.front(); ++k) retire(group);
    group.fenced = false;  // the caller reads the sums now, and may write to what the next products read
  });
}

void multiply(float* c, int columns, const uint32_t* a, uint64_t descriptor, bool add, bool across) {
  struct Operands {
    float* c;
    const uint32_t* a;
    uint64_t descriptor;
    bool add;
  } mine{c, a, descriptor, add};
  warpgroup_collective(across ? "wgmma.mma_async (across)" : "wgmma.mma_async", mine, [=](Operands* const* lanes) {
    Warpgroup& group = warpgroup();
    require(group.fenced, "wgmma: no fence since registers were last touched");
    Product product{.descriptor = descriptor, .columns = columns, .across = across, .b = read(descriptor, columns, across)};
    for (int t = 0; t < 128; ++t) {
      require(lanes[t]->descriptor == descriptor && lanes[t]->add == add, "wgmma: threads of a warpgroup name different factors");
      product.a[t] = lanes[t]->a, product.c[t] = lanes[t]->c;
      std::copy_n(lanes[t]->a, 4, product.a_values[t]);
    }
    const int threads = thread() / 128 * 128;
    each_piece(descriptor, columns, across, [&](int, int, const char* from) { races::require_known("wgmma", threads, 128, from, 16, true); });
    const int count = columns / 2;
    auto sums = std::find_if(group.sums.begin(), group.sums.end(), [&](const Sums& s) { return s.c[0] == product.c[0]; });
    if (sums == group.sums.end()) {
      group.sums.push_back({.columns = columns, .values = std::vector<float>(128 * count)});
      sums = group.sums.end() - 1;
      for (int t = 0; t < 128; ++t) {
        sums->c[t] = product.c[t];
        std::copy_n(product.c[t], count, &sums->values[t * count]);
      }
    }
    else {
      require(sums->columns == columns && std::equal(sums->c, sums->c + 128, product.c), "wgmma: products in flight share some of their sums");
      for (int t = 0; t < 128; ++t)
        require(std::all_of(product.c[t], product.c[t] + count, is_garbage), "wgmma: sums have been written to before the end of their product");
    }
    const auto value = [](uint32_t bits) { return __uint_as_float(bits << 16); };
    std::vector<float> b(16 * columns), total(64 * columns);
    std::transform(product.b.begin(), product.b.end(), b.begin(), value);
    float x[64][16];
    for (int t = 0; t < 128; ++t)
      for (int r = 0; r < 4; ++r)
        for (int half = 0; half < 2; ++half)
          x[t / 32 * 16 + t % 32 / 4 + r % 2 * 8][t % 4 * 2 + r / 2 * 8 + half] = value(product.a_values[t][r] >> 16 * half & 0xffff);
    const auto at = [&](int t, int i) -> float& { return total[(t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8) * columns + i / 4 * 8 + t % 4 * 2 + i % 2]; };
    for (int t = 0; t < 128; ++t)
      for (int i = 0; i < count; ++i) at(t, i) = add ? sums->values[t * count + i] : 0;
    multiply_add(&x[0][0], b.data(), total.data(), 64, columns, 16, sizeof(uint16_t));
    for (int t = 0; t < 128; ++t)
      for (int i = 0; i < count; ++i) sums->values[t * count + i] = at(t, i), product.c[t][i] = __uint_as_float(garbage);
    group.products.push_back(std::move(product));
  });
}

}  // namespace a_infonce::emulator

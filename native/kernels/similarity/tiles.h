// The handful of AMX instructions that the products use, on tiles of 16 rows of 64 bytes; or, with A_INFONCE_EMULATED_TILES, what Intel's manual says they do.
#pragma once
#include "kernels/cpu/vector.h"

namespace a_infonce::kernels::A_INFONCE_ISA {

constexpr int64_t tile_rows = 16, tile_pairs = 16, tile_floats = 16;  // rows; pairs of bfloat16 numbers or floats a row

#ifndef A_INFONCE_EMULATED_TILES
/// Every use of tiles happens while one lives: other libraries configure them otherwise.
struct Session {
  Session() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } const configuration;
    static_assert(sizeof configuration == 64);
    asm volatile("ldtilecfg %0" ::"m"(configuration));
  }
  ~Session() { asm volatile("tilerelease"); }
};
template <int tile>
inline void tile_zero() { asm volatile("tilezero %%tmm%c0" ::"i"(tile)); }
/// Rows are `stride` pairs or floats apart.
template <int tile>
inline void tile_load(const void* from, int64_t stride) { asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(4 * stride), "i"(tile) : "memory"); }
template <int tile>
inline void tile_store(float* to, int64_t stride) { asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(4 * stride), "i"(tile) : "memory"); }
/// sums[m, n] += sum_k a[m, k].low b[k, n].low + a[m, k].high b[k, n].high
template <int sums, int a, int b>
inline void tile_multiply() { asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sums), "i"(a), "i"(b)); }

#else
struct Session {
  alignas(64) inline static thread_local uint32_t tiles[8][tile_rows][tile_pairs];
  inline static thread_local bool configured = false;
  Session() { configured = true, __builtin_memset(tiles, 0, sizeof tiles); }
  ~Session() { configured = false; }
};
inline void require_session() {
  if (!Session::configured) __builtin_trap();  // as the processor would
}
template <int tile>
inline void tile_zero() { require_session(), __builtin_memset(Session::tiles[tile], 0, sizeof Session::tiles[tile]); }
template <int tile>
inline void tile_load(const void* from, int64_t stride) {
  require_session();
  for (int64_t m = 0; m < tile_rows; ++m) __builtin_memcpy(Session::tiles[tile][m], static_cast<const char*>(from) + 4 * m * stride, sizeof Session::tiles[tile][m]);
}
template <int tile>
inline void tile_store(float* to, int64_t stride) {
  require_session();
  for (int64_t m = 0; m < tile_rows; ++m) __builtin_memcpy(to + m * stride, Session::tiles[tile][m], sizeof Session::tiles[tile][m]);
}
inline float without_subnormal(float x) { return __builtin_fabsf(x) < 0x1p-126f ? __builtin_copysignf(0, x) : x; }
template <int sums, int a, int b>
inline void tile_multiply() {
  require_session();
  const auto number = [](uint32_t pair, bool high) { return without_subnormal(__builtin_bit_cast(float, high ? pair & 0xffff0000 : pair << 16)); };
  for (int64_t m = 0; m < tile_rows; ++m)
    for (int64_t n = 0; n < tile_floats; ++n) {
      float total[2] = {};  // of the low numbers and of the high ones, each from 0
      for (int64_t k = 0; k < tile_pairs; ++k)
        for (int high = 0; high < 2; ++high)
          total[high] = without_subnormal(__builtin_fmaf(number(Session::tiles[a][m][k], high), number(Session::tiles[b][k][n], high), total[high]));
      uint32_t& sum = Session::tiles[sums][m][n];
      sum = __builtin_bit_cast(uint32_t, without_subnormal(without_subnormal(__builtin_bit_cast(float, sum)) + without_subnormal(total[0] + total[1])));
    }
}
#endif

}  // namespace a_infonce::kernels::A_INFONCE_ISA

// How the kernels of similarity_cuda_impl.h multiply: a warp's 16 rows with a tile's 64 columns, in the registers that mma.sync leaves its results in. With
// group = lane / 4 and pair = lane % 4, s[n][r] is of row group + 8 (r / 2) and column 8 n + 2 pair + r % 2.
//
// Tensor cores round their sums towards zero: every similarity of rows of 512 dimensions would be 1e-5 too small, more than float32 may lose. Where factors are split, the
// products of a step are therefore added up from zeros and the steps in registers (Ootomo and Yokota, "Recovering single precision accuracy from Tensor Cores").
#pragma once
#include "kernels/cuda/instructions.h"
#include "kernels/similarity/similarity_cuda.h"

namespace a_infonce::kernels::cuda {

constexpr int tile_groups = 8;  // of 8 columns

__device__ __forceinline__ float fused(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double fused(double a, double b, double c) { return fma(a, b, c); }
__device__ __forceinline__ float power_of_2(float x) { return exp2_approximate(x); }
__device__ __forceinline__ double power_of_2(double x) { return exp2(x); }
__device__ __forceinline__ float logarithm_2(float x) { return log2f(x); }
__device__ __forceinline__ double logarithm_2(double x) { return log2(x); }

/// Where piece c of row r of a chunk is, in bytes.
__device__ __forceinline__ int piece_at(int r, int c) { return r * static_cast<int>(chunk_row_bytes) + ((c ^ (r & 7)) << 4); }

/// Rows r .. r + 15, pieces c and c + 1, as an A fragment.
__device__ __forceinline__ void load_rows(uint32_t (&a)[4], const char* chunk, int r, int c) { load_matrices<false>(a, chunk + piece_at(r + lane() % 16, c + lane() / 16)); }
/// The same of columns j .. j + 15, as two B fragments: b[0] and b[1] of the first 8 columns.
__device__ __forceinline__ void load_columns(uint32_t (&b)[4], const char* chunk, int j, int c) {
  load_matrices<false>(b, chunk + piece_at(j + lane() % 8 + lane() / 16 * 8, c + lane() / 8 % 2));
}
/// Two B fragments of the second product, of columns k .. k + 15 (its depth) and the 16 dimensions of pieces c and c + 1.
__device__ __forceinline__ void load_dimensions(uint32_t (&b)[4], const char* chunk, int k, int c) { load_matrices<true>(b, chunk + piece_at(k + lane() % 16, c + lane() / 16)); }

__device__ __forceinline__ void add_to(float (&c)[4], const float (&x)[4]) {
#pragma unroll
  for (int r = 0; r < 4; ++r) c[r] += x[r];
}

/// Sums of `parts` numbers of bfloat16 each; products of two lesser parts are left out.
template <int parts_, int warps_>
struct Bf16Parts {
  using Number = float;
  static constexpr int parts = parts_, warps = warps_, chunk_groups = 8, slice_chunks = 2, scratch_bytes = 0;  // groups of 8 dimensions in a chunk, chunks of a slice of the gradient

  /// s += the products over a chunk's dimensions of rows r .. r + 15 of `rows`; the lesser parts are row_part and column_part bytes further on.
  static __device__ __forceinline__ void multiply(float (&s)[tile_groups][4], const char* rows, int row_part, int r, const char* columns, int column_part) {
#pragma unroll (parts == 1 ? 4 : 2)
    for (int k = 0; k < 4; ++k) {
      uint32_t a[parts][4];
#pragma unroll
      for (int part = 0; part < parts; ++part) load_rows(a[part], rows + part * row_part, r, 2 * k);
#pragma unroll
      for (int n = 0; n < tile_groups; n += 2) {
        uint32_t b[parts][4];
#pragma unroll
        for (int part = 0; part < parts; ++part) load_columns(b[part], columns + part * column_part, 8 * n, 2 * k);
        float step[2][4] = {};
        float (&left)[4] = parts == 1 ? s[n] : step[0], (&right)[4] = parts == 1 ? s[n + 1] : step[1];
#pragma unroll
        for (int first = parts - 1; first >= 0; --first)
#pragma unroll
          for (int second = parts - 1 - first; second >= 0; --second) {
            mma_bf16(left, a[first], b[second][0], b[second][1]);
            mma_bf16(right, a[first], b[second][2], b[second][3]);
          }
        if constexpr (parts > 1) add_to(s[n], left), add_to(s[n + 1], right);
      }
    }
  }

  /// A tile's weights as A fragments.
  struct Weights {
    uint32_t a[parts][4][4];
    __device__ __forceinline__ Weights(const float (&w)[tile_groups][4], char*) {
#pragma unroll
      for (int k = 0; k < 4; ++k)
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          float low = w[2 * k + r / 2][r % 2 * 2], high = w[2 * k + r / 2][r % 2 * 2 + 1];
#pragma unroll
          for (int part = 0; part < parts; ++part) {
            const uint32_t pair = a[part][k][r] = bf16_pair(low, high);
            low -= bf16_low(pair), high -= bf16_high(pair);
          }
        }
    }
  };
  /// g += the weights times a chunk's dimensions; from zeros, so that a long sum's rounding is that of additions.
  static __device__ __forceinline__ void apply(float (*g)[4], const Weights& weights, const char* columns, int column_part) {
#pragma unroll
    for (int m = 0; m < chunk_groups; m += 2) {
      float sums[2][4] = {};
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        uint32_t b[parts][4];
#pragma unroll
        for (int part = 0; part < parts; ++part) load_dimensions(b[part], columns + part * column_part, 16 * k, m);
#pragma unroll
        for (int first = parts - 1; first >= 0; --first)
#pragma unroll
          for (int second = parts - 1 - first; second >= 0; --second) {
            mma_bf16(sums[0], weights.a[first][k], b[second][0], b[second][1]);
            mma_bf16(sums[1], weights.a[first][k], b[second][2], b[second][3]);
          }
      }
      add_to(g[m], sums[0]), add_to(g[m + 1], sums[1]);
    }
  }
  static __device__ void pack(const float (&x)[8], uint4 (&pieces)[parts]) {
#pragma unroll
    for (int part = 0; part < parts; ++part) {
      uint32_t pairs[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        float low = x[2 * k], high = x[2 * k + 1];
        pairs[k] = bf16_pair(low, high);
        if (part == 1) pairs[k] = bf16_pair(low - bf16_low(pairs[k]), high - bf16_high(pairs[k]));
      }
      pieces[part] = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
    }
  }
};

/// float32, as sums of two tf32 numbers.
struct Tf32Parts {
  using Number = float;
  static constexpr int parts = 1, warps = 4, chunk_groups = 4, slice_chunks = 4, scratch_bytes = 0;

  static __device__ __forceinline__ void split(float x, uint32_t& high, uint32_t& low) { high = tf32(x), low = tf32(x - __uint_as_float(high)); }
  static __device__ __forceinline__ void split(const uint32_t (&x)[4], uint32_t (&high)[4], uint32_t (&low)[4]) {
#pragma unroll
    for (int r = 0; r < 4; ++r) split(__uint_as_float(x[r]), high[r], low[r]);
  }
  static __device__ __forceinline__ void add(float (&c)[4], const uint32_t (&high)[4], const uint32_t (&low)[4], uint32_t high0, uint32_t high1, uint32_t low0, uint32_t low1) {
    mma_tf32(c, low, high0, high1);
    mma_tf32(c, high, low0, low1);
    mma_tf32(c, high, high0, high1);
  }

  static __device__ __forceinline__ void multiply(float (&s)[tile_groups][4], const char* rows, int, int r, const char* columns, int) {
#pragma unroll 2
    for (int k = 0; k < 4; ++k) {
      uint32_t a[4], a_high[4], a_low[4];
      load_rows(a, rows, r, 2 * k);
      split(a, a_high, a_low);
#pragma unroll
      for (int n = 0; n < tile_groups; n += 2) {
        uint32_t b[4], high[4], low[4];
        load_columns(b, columns, 8 * n, 2 * k);
        split(b, high, low);
        float step[2][4] = {};
        add(step[0], a_high, a_low, high[0], high[1], low[0], low[1]);
        add(step[1], a_high, a_low, high[2], high[3], low[2], low[3]);
        add_to(s[n], step[0]), add_to(s[n + 1], step[1]);
      }
    }
  }

  /// The depth of the second product is numbered as the first one leaves its results: columns 2 pair, then 2 pair + 1.
  struct Weights {
    uint32_t high[tile_groups][4], low[tile_groups][4];
    __device__ __forceinline__ Weights(const float (&w)[tile_groups][4], char*) {
#pragma unroll
      for (int n = 0; n < tile_groups; ++n)
#pragma unroll
        for (int r = 0; r < 4; ++r) split(w[n][r % 2 * 2 + r / 2], high[n][r], low[n][r]);
    }
  };
  static __device__ __forceinline__ void apply(float (*g)[4], const Weights& weights, const char* columns, int) {
    const int group = lane() / 4, pair = lane() % 4;
#pragma unroll
    for (int m = 0; m < chunk_groups; ++m) {
      float sums[4] = {};
#pragma unroll
      for (int n = 0; n < tile_groups; ++n) {
        uint32_t high[2], low[2];
#pragma unroll
        for (int r = 0; r < 2; ++r)
          split(*reinterpret_cast<const float*>(columns + piece_at(8 * n + 2 * pair + r, 2 * m + group / 4) + group % 4 * 4), high[r], low[r]);
        add(sums, weights.high[n], weights.low[n], high[0], high[1], low[0], low[1]);
      }
      add_to(g[m], sums);
    }
  }
  static __device__ void pack(const float (&x)[4], uint4 (&pieces)[1]) {
    pieces[0] = make_uint4(__float_as_uint(x[0]), __float_as_uint(x[1]), __float_as_uint(x[2]), __float_as_uint(x[3]));
  }
};

/// float64, in the same registers.
struct Doubles {
  using Number = double;
  static constexpr int parts = 1, warps = 4, chunk_groups = 2, slice_chunks = 4, scratch_bytes = 16 * 65 * 8;  // of a warp

  static __device__ __forceinline__ double2 load(const char* chunk, int r, int c) { return *reinterpret_cast<const double2*>(chunk + piece_at(r, c)); }
  static __device__ __forceinline__ void multiply(double (&s)[tile_groups][4], const char* rows, int, int r, const char* columns, int) {
    const int group = lane() / 4, pair = lane() % 4;
#pragma unroll 1
    for (int c = 0; c < 8; ++c) {
      const double2 above = load(rows, r + group, c), below = load(rows, r + group + 8, c);
#pragma unroll
      for (int n = 0; n < tile_groups; ++n)
#pragma unroll
        for (int column = 0; column < 2; ++column) {
          const double2 x = load(columns, 8 * n + 2 * pair + column, c);
          s[n][column] = fma(above.y, x.y, fma(above.x, x.x, s[n][column]));
          s[n][2 + column] = fma(below.y, x.y, fma(below.x, x.x, s[n][2 + column]));
        }
    }
  }
  /// In the warp's scratch memory, where all of its threads read them.
  static constexpr int stride = 8 * tile_groups + 1;
  static_assert(scratch_bytes == 16 * stride * sizeof(double));
  struct Weights {
    const double* rows;
    __device__ __forceinline__ Weights(const double (&w)[tile_groups][4], char* scratch) : rows(reinterpret_cast<double*>(scratch) + lane() / 4 * stride) {
      __syncwarp();  // those of the last tile have been read
#pragma unroll
      for (int n = 0; n < tile_groups; ++n)
#pragma unroll
        for (int r = 0; r < 4; ++r) reinterpret_cast<double*>(scratch)[(lane() / 4 + r / 2 * 8) * stride + 8 * n + lane() % 4 * 2 + r % 2] = w[n][r];
      __syncwarp();
    }
  };
  static __device__ __forceinline__ void apply(double (*g)[4], const Weights& weights, const char* columns, int) {
#pragma unroll 4
    for (int column = 0; column < 8 * tile_groups; ++column) {
      const double above = weights.rows[column], below = weights.rows[8 * stride + column];
#pragma unroll
      for (int m = 0; m < chunk_groups; ++m) {
        const double2 x = load(columns, column, 4 * m + lane() % 4);
        g[m][0] = fma(above, x.x, g[m][0]), g[m][1] = fma(above, x.y, g[m][1]);
        g[m][2] = fma(below, x.x, g[m][2]), g[m][3] = fma(below, x.y, g[m][3]);
      }
    }
  }
  static __device__ void pack(const double (&x)[2], uint4 (&pieces)[1]) {
    const double2 pair = make_double2(x[0], x[1]);
    memcpy(pieces, &pair, sizeof pair);
  }
};

}  // namespace a_infonce::kernels::cuda

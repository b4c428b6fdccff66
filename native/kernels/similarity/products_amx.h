// Products of bfloat16 numbers with float32 sums by AMX: 2 x 2 tiles of sums, and two tiles of each factor.
#pragma once
#include "kernels/similarity/similarity.h"
#include "kernels/similarity/tiles.h"

namespace a_infonce::kernels::A_INFONCE_ISA {
constexpr int micro_rows = 2 * tile_rows;
template <typename T> constexpr int panel_columns = 2 * tile_floats;
constexpr int64_t depth_unit = 2 * tile_pairs;
}  // namespace a_infonce::kernels::A_INFONCE_ISA

#include "kernels/similarity/bf16.h"

namespace a_infonce::kernels::A_INFONCE_ISA {

/// The sums in tiles 0 and 1 (rows 0 .. 15), 2 and 3 (16 .. 31) += sum_k a(., k) b(k, .): rows of a are a_row pairs apart, those of b b_row; `wide`: 32 columns, not 16.
template <bool wide>
inline void multiply_tiles(const Pair* a, int64_t a_row, const Pair* b, int64_t b_row, int64_t depth) {
  for (int64_t k = 0; k < depth; k += tile_pairs) {
    tile_load<4>(a + k, a_row), tile_load<5>(a + tile_rows * a_row + k, a_row);
    tile_load<6>(b + k * b_row, b_row);
    tile_multiply<0, 4, 6>(), tile_multiply<2, 5, 6>();
    if constexpr (wide) tile_load<7>(b + k * b_row + tile_floats, b_row), tile_multiply<1, 4, 7>(), tile_multiply<3, 5, 7>();
  }
}
template <bool wide>
inline void store_tiles(float* c, int64_t row) {
  tile_store<0>(c, row), tile_store<2>(c + tile_rows * row, row);
  if constexpr (wide) tile_store<1>(c + tile_floats, row), tile_store<3>(c + tile_rows * row + tile_floats, row);
}

/// The products of micro_rows rows from row `i` of block I with a panel of columns from column `j` of block J: s [micro_rows, panel_columns] (row stride `stride`).
inline void multiply(const Matrix<float>& z, int64_t I, int64_t i, int64_t J, int64_t j, float* s, int64_t stride) {
  const int64_t depth = depth_of(z.d);
  tile_zero<0>(), tile_zero<1>(), tile_zero<2>(), tile_zero<3>();
  for (int first = parts - 1; first >= 0; --first)
    for (int second = parts - 1 - first; second >= 0; --second)
      multiply_tiles<true>(dimension_pairs(z, I, first) + i * depth, depth, panel(z, J, j, second), panel_columns<float>, depth);
  store_tiles<true>(s, stride);
}

/// turned[j, i / 2] = (w[i, j], w[i + 1, j]): 16 pairs of rows of 16 columns at a time, in registers.
inline void turn(const Half* w, Pair* turned, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; i += 2 * tile_pairs)
    for (int64_t j = 0; j < columns; j += tile_rows) {
      const Half* from = w + i * weight_stride + j;
      Pair* to = turned + j * (weight_stride / 2) + i / 2;
#if defined(__AVX512F__)
      __m512i x[16];
#pragma GCC unroll 16
      for (int m = 0; m < 16; ++m) {
        const auto read = [&](int64_t row) {
          return i + row < rows ? _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + row * weight_stride))) : _mm512_setzero_si512();
        };
        x[m] = _mm512_or_si512(read(2 * m), _mm512_slli_epi32(read(2 * m + 1), 16));
      }
      const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
#pragma GCC unroll 4
      for (int size = 8; size > 0; size /= 2) {  // squares of `size` change places across the diagonal
        const __m512i bit = _mm512_set1_epi32(size), sixteen = _mm512_set1_epi32(16);
        const __mmask16 right = _mm512_test_epi32_mask(lane, bit);
        const __m512i above = _mm512_mask_add_epi32(lane, right, lane, _mm512_sub_epi32(sixteen, bit)), below = _mm512_mask_add_epi32(_mm512_add_epi32(lane, bit), right, lane, sixteen);
#pragma GCC unroll 16
        for (int m = 0; m < 16; ++m)
          if (!(m & size)) {
            const __m512i top = x[m], bottom = x[m + size];
            x[m] = _mm512_permutex2var_epi32(top, above, bottom), x[m + size] = _mm512_permutex2var_epi32(top, below, bottom);
          }
      }
#pragma GCC unroll 16
      for (int n = 0; n < 16; ++n) _mm512_storeu_si512(to + n * (weight_stride / 2), x[n]);
#else
      for (int n = 0; n < tile_rows; ++n)
        for (int m = 0; m < tile_pairs; ++m) {
          const auto read = [&](int64_t row) { return i + row < rows ? from[row * weight_stride + n] : Half(0); };
          to[n * (weight_stride / 2) + m] = {read(2 * m), read(2 * m + 1)};
        }
#endif
    }
}
template <bool is_turned>
inline void add_products(const Pair* w, const Pair* z, int64_t rows, int64_t columns, int64_t stride, bool diagonal, float* g) {
  constexpr int64_t row = weight_stride / 2;
  const auto strip = [&](auto wide, int64_t k) {
    for (int64_t i = 0; i < rows; i += micro_rows) {
      const int64_t from = diagonal && !is_turned ? i : 0, to = diagonal && is_turned ? smaller(columns, i + micro_rows) : columns;
      float* c = g + i * stride + k;
      tile_load<0>(c, stride), tile_load<2>(c + tile_rows * stride, stride);
      if constexpr (wide.value) tile_load<1>(c + tile_floats, stride), tile_load<3>(c + tile_rows * stride + tile_floats, stride);
      multiply_tiles<wide.value>(w + i * row + from / 2, row, z + from / 2 * stride + k, stride, round_up(to - from, depth_unit) / 2);
      store_tiles<wide.value>(c, stride);
    }
  };
  int64_t k = 0;
  for (; k + 2 * tile_floats <= stride; k += 2 * tile_floats) strip(Constant<true>{}, k);
  for (; k < stride; k += tile_floats) strip(Constant<false>{}, k);
}

}  // namespace a_infonce::kernels::A_INFONCE_ISA

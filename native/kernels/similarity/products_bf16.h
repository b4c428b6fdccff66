// Products of bfloat16 numbers with float32 sums by AVX512_BF16.
#pragma once
#include "kernels/similarity/tile.h"

namespace a_infonce::kernels::A_INFONCE_ISA {
template <> inline constexpr int per<Pair> = 2;
constexpr int64_t depth_unit = 2;
}  // namespace a_infonce::kernels::A_INFONCE_ISA

#include "kernels/similarity/bf16.h"

namespace a_infonce::kernels::A_INFONCE_ISA {

struct Session {};

/// The products of micro_rows rows from row `i` of block I with a panel of columns from column `j` of block J: s [micro_rows, panel_columns] (row stride `stride`).
inline void multiply(const Matrix<float>& z, int64_t I, int64_t i, int64_t J, int64_t j, float* s, int64_t stride) {
  const int64_t depth = depth_of(z.d);
  const auto product = [&](auto add, int first, int second) {
    multiply_tile<add.value, micro_vectors>(dimension_pairs(z, I, first) + i * depth, depth, 1, panel(z, J, j, second), panel_columns<float>, depth, s, stride);
  };
  if constexpr (parts == 2) product(Constant<false>{}, 1, 0), product(Constant<true>{}, 0, 1);
  product(Constant<parts == 2>{}, 0, 0);
}

/// turned[i / 2, j] = (w[i, j], w[i + 1, j])
inline void turn(const Half* w, Pair* turned, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; i += 2)
    for (int64_t j = 0; j < columns; j += 16) {
      const auto read = [&](int64_t row) { return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + row * weight_stride + j))); };
      const __m512i low = read(i), high = i + 1 < rows ? _mm512_slli_epi32(read(i + 1), 16) : _mm512_setzero_si512();
      _mm512_storeu_si512(turned + i / 2 * weight_stride + j, _mm512_or_si512(low, high));
    }
}
template <bool is_turned>
inline void add_products(const Pair* w, const Pair* z, int64_t rows, int64_t columns, int64_t stride, bool diagonal, float* g) {
  accumulate<is_turned ? 1 : weight_stride / 2, is_turned ? weight_stride : 1>(w, z, rows, columns, stride, diagonal, g);
}

}  // namespace a_infonce::kernels::A_INFONCE_ISA

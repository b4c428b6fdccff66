// Products of bfloat16 numbers with float32 sums (AVX512_BF16): rows and weights are rounded to 8 bits of mantissa, everything else is float32. The memory of
// Matrix holds, within a block's share of `rows`, the rows [block_rows, padded_d] and then pairs of rows [block_rows / 2, padded_d, 2]; in `panels`, pairs of
// dimensions [d / 2 rounded up, panel columns, 2].
#pragma once
#include "kernels/similarity/tile.h"

namespace a_infonce::kernels::A_INFONCE_ISA {

constexpr int64_t weight_stride = block_rows + 2 * lane_multiple;
static_assert(micro_rows % 2 == 0);

inline Half rounded(float x) {  // to nearest, ties to even; x is finite
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return static_cast<Half>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
template <> inline constexpr int per<Pair> = 2;

inline void pack(const float* z, int64_t size, int64_t d, float* panels, float* rows) {
  constexpr int width = panel_columns<float>;
  const int64_t padded_d = round_up(d, lane_multiple);
  Half *halves = reinterpret_cast<Half*>(rows), *pairs = halves + block_rows * padded_d, *panel = reinterpret_cast<Half*>(panels);
  for (int64_t j = 0; j < block_rows; ++j)
    for (int64_t k = 0; k < padded_d; ++k) halves[j * padded_d + k] = pairs[(j / 2 * padded_d + k) * 2 + j % 2] = j < size && k < d ? rounded(z[j * d + k]) : 0;
  const int64_t depth = (d + 1) / 2;
  for (int64_t j0 = 0; j0 < block_rows; j0 += width)
    for (int64_t k = 0; k < depth; ++k)
      for (int j = 0; j < width; ++j) {
        Half* at = panel + (j0 * depth + k * width + j) * 2;
        at[0] = halves[(j0 + j) * padded_d + 2 * k];
        at[1] = 2 * k + 1 < d ? halves[(j0 + j) * padded_d + 2 * k + 1] : 0;
      }
}

/// The products of micro_rows rows from row `i` of block I with a panel of columns from column `j` of block J: s [micro_rows, panel_columns] (row stride `stride`).
inline void multiply(const Matrix<float>& z, int64_t I, int64_t i, int64_t J, int64_t j, float* s, int64_t stride) {
  const int64_t depth = (z.d + 1) / 2, row = z.padded_d / 2;
  const Pair *rows = reinterpret_cast<const Pair*>(z.rows + I * block_rows * z.padded_d), *panels = reinterpret_cast<const Pair*>(z.panels + J * block_rows * z.d);
  multiply_tile<false, micro_vectors>(rows + i * row, row, 1, panels + j * depth, panel_columns<float>, depth, s, stride);
}

/// As the weights of products.h, rounded; towards J they are interleaved by pairs of rows before they are used.
template <typename T>
struct Weights {
  static constexpr bool in_place = false;
  Half *first, *second, *pairs;  // [block_rows, weight_stride] each
  explicit Weights(T* workspace) : first(reinterpret_cast<Half*>(workspace)), second(first + block_rows * weight_stride), pairs(second + block_rows * weight_stride) {}
  static_assert(3 * block_rows * weight_stride <= 2 * workspace_elements);
  static void write(Half* at, Vector<T> w) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), (__m256i)_mm512_cvtneps_pbh(w)); }
  void put(int64_t i, int64_t j, Vector<T> w) const { write(first + i * weight_stride + j, w); }
  void put_second(int64_t i, int64_t j, Vector<T> w) const { write(second + i * weight_stride + j, w); }

  /// pairs[i / 2, j] = (w[i, j], w[i + 1, j]); a row beyond the last one is 0.
  void interleave(const Half* w, int64_t rows, int64_t columns) const {
    for (int64_t i = 0; i < rows; i += 2)
      for (int64_t j = 0; j < columns; j += 16) {
        const auto read = [&](int64_t row) { return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + row * weight_stride + j))); };
        const __m512i low = read(i), high = i + 1 < rows ? _mm512_slli_epi32(read(i + 1), 16) : _mm512_setzero_si512();
        _mm512_storeu_si512(pairs + i * weight_stride + 2 * j, _mm512_or_si512(low, high));
      }
  }
  void apply(const Matrix<T>& z, int64_t I, int64_t J, Ends ends, bool agree, T* gradient) const {
    const int64_t width = block_rows * z.padded_d;
    const auto row_pairs = [&](int64_t block) { return reinterpret_cast<const Pair*>(reinterpret_cast<const Half*>(z.rows + block * width) + width); };
    if (ends & First) accumulate<weight_stride / 2, 1>(reinterpret_cast<const Pair*>(first), row_pairs(J), z.sizes[I], z.sizes[J], z.padded_d, I == J, gradient + I * width);
    if (!(ends & Second)) return;
    interleave(agree ? first : second, z.sizes[I], round_up(z.sizes[J], 16));
    accumulate<1, weight_stride>(reinterpret_cast<const Pair*>(pairs), row_pairs(I), z.sizes[J], z.sizes[I], z.padded_d, I == J, gradient + J * width);
  }
};

}  // namespace a_infonce::kernels::A_INFONCE_ISA

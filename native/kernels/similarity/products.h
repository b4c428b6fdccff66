// Products in the precision of the elements: what the kernels of similarity_impl.h multiply with.
#pragma once
#include "kernels/similarity/tile.h"

namespace a_infonce::kernels::A_INFONCE_ISA {

constexpr int64_t weight_stride = block_rows + lane_multiple;  // no power of two: rows of a column fall into different sets of the cache

struct Session {};
inline int64_t panel_width(int64_t d) { return d; }
inline int64_t row_width(int64_t d) { return round_up(d, lane_multiple); }

/// to(k, j) = z(j, k), four columns of a panel: z's first `rows` rows, `d` apart, then zeros.
template <typename T>
inline void turn(const T* z, int64_t rows, int64_t d, int64_t dimensions, T* to, int64_t width) {
  int64_t k = 0;
  if constexpr (sizeof(T) == 4)
    for (; rows >= 4 && k + 4 <= dimensions; k += 4) {
      __m128 x[4];
      for (int j = 0; j < 4; ++j) x[j] = _mm_loadu_ps(z + j * d + k);
      _MM_TRANSPOSE4_PS(x[0], x[1], x[2], x[3]);
      for (int j = 0; j < 4; ++j) _mm_storeu_ps(to + (k + j) * width, x[j]);
    }
  for (; k < dimensions; ++k)
    for (int j = 0; j < 4; ++j) to[k * width + j] = j < rows ? z[j * d + k] : T(0);
}
template <typename T>
void pack(const T* z, int64_t size, int64_t d, T* panels, T* rows) {
  constexpr int width = panel_columns<T>;
  const int64_t padded_d = round_up(d, lane_multiple);
  for (int64_t j0 = 0; j0 < block_rows; j0 += width) {
    T* panel = panels + j0 * d;
    if (j0 >= size) {
      for (int64_t k = 0; k < d * width; ++k) panel[k] = 0;
      continue;
    }
    for (int64_t k0 = 0; k0 < d; k0 += 16)  // by cache lines of z
      for (int64_t j = 0; j < width; j += 4) turn(z + (j0 + j) * d + k0, size - j0 - j, d, smaller(16, d - k0), panel + k0 * width + j, width);
  }
  for (int64_t j = 0; j < block_rows; ++j) {
    const int64_t known = j < size ? d : 0;
    for (int64_t k = 0; k < known; ++k) rows[j * padded_d + k] = z[j * d + k];
    for (int64_t k = known; k < padded_d; ++k) rows[j * padded_d + k] = 0;
  }
}

/// The products of micro_rows rows from row `i` of block I with a panel of columns from column `j` of block J: s [micro_rows, panel_columns] (row stride `stride`).
template <typename T>
inline void multiply(const Matrix<T>& z, int64_t I, int64_t i, int64_t J, int64_t j, T* s, int64_t stride) {
  multiply_tile<false, micro_vectors>(z.rows + (I * block_rows + i) * z.padded_d, z.padded_d, 1, z.panels + (J * block_rows + j) * z.d, panel_columns<T>, z.d, s, stride);
}

/// The weights of a task towards its two ends, and the products with the rows.
template <typename T>
struct Weights {
  static constexpr bool in_place = true;  // a tile's products lie where its weights will
  T* first;                               // towards I: [block_rows, weight_stride]
  T* second;                              // towards J, where they differ
  explicit Weights(T* workspace) : first(workspace), second(workspace + block_rows * weight_stride) {}
  void put(int64_t i, int64_t j, Vector<T> w) const { store(first + i * weight_stride + j, w); }
  void put_second(int64_t i, int64_t j, Vector<T> w) const { store(second + i * weight_stride + j, w); }
  void apply(const Matrix<T>& z, int64_t I, int64_t J, Ends ends, bool agree, T* gradient) const {
    const int64_t width = block_rows * z.padded_d;
    if (ends & First) accumulate<weight_stride, 1>(first, z.rows + J * width, z.sizes[I], z.sizes[J], z.padded_d, I == J, gradient + I * width);
    if (ends & Second) accumulate<1, weight_stride>(agree ? first : second, z.rows + I * width, z.sizes[J], z.sizes[I], z.padded_d, I == J, gradient + J * width);
  }
};

}  // namespace a_infonce::kernels::A_INFONCE_ISA

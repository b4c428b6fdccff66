// Products in the precision of the elements: what the kernels of similarity_impl.h multiply with.
#pragma once
#include "kernels/cpu/vector.h"
#include "kernels/similarity/similarity.h"

namespace a_infonce::kernels::A_INFONCE_ISA {

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Micro tile: micro_rows x (micro_vectors vectors) of accumulators, chosen to fill the registers.
constexpr int micro_rows = 6;
constexpr int micro_vectors = registers == 32 ? 4 : 2;
template <typename T> constexpr int panel_columns = micro_vectors * lanes<T>;
constexpr int64_t weight_stride = block_rows + lane_multiple;  // no power of two: rows of a column fall into different sets of the cache
static_assert(block_rows % micro_rows == 0 && block_rows % tile_columns == 0 && tile_columns % panel_columns<float> == 0 && tile_columns % panel_columns<double> == 0);

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
      for (int j = 0; j < width; ++j)
        for (int64_t k = k0; k < smaller(d, k0 + 16); ++k) panel[k * width + j] = j0 + j < size ? z[(j0 + j) * d + k] : T(0);
  }
  for (int64_t j = 0; j < block_rows; ++j)
    for (int64_t k = 0; k < padded_d; ++k) rows[j * padded_d + k] = j < size && k < d ? z[j * d + k] : T(0);
}

/// The products of micro_rows rows from row `i` of block I with a panel of columns from column `j` of block J: s [micro_rows, panel_columns] (row stride `stride`).
template <typename T>
inline void multiply(const Matrix<T>& z, int64_t I, int64_t i, int64_t J, int64_t j, T* __restrict s, int64_t stride) {
  const int64_t d = z.d, a_stride = z.padded_d;
  const T* __restrict a = z.rows + (I * block_rows + i) * a_stride;
  const T* __restrict b = z.panels + (J * block_rows + j) * d;
  Vector<T> c[micro_rows][micro_vectors] = {};
  for (int64_t k = 0; k < d; ++k) {
    Vector<T> x[micro_vectors];
#pragma GCC unroll 8
    for (int v = 0; v < micro_vectors; ++v) x[v] = load(b + k * panel_columns<T> + v * lanes<T>);
#pragma GCC unroll 8
    for (int r = 0; r < micro_rows; ++r) {
      const Vector<T> y = splat(a[r * a_stride + k]);
#pragma GCC unroll 8
      for (int v = 0; v < micro_vectors; ++v) c[r][v] = fma(y, x[v], c[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < micro_rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < micro_vectors; ++v) store(s + r * stride + v * lanes<T>, c[r][v]);
}

/// g [micro_rows, vectors] += sum_j w(r, j) z_j over j in [0, count), w(r, j) = w[r * row + j * column]; g and z have row stride `stride`.
template <typename T, int vectors, bool transposed>
inline void accumulate(const T* __restrict w, const T* __restrict z, int64_t count, int64_t stride, T* __restrict g) {
  constexpr int64_t row = transposed ? 1 : weight_stride, column = transposed ? weight_stride : 1;
  Vector<T> c[micro_rows][vectors];
#pragma GCC unroll 8
  for (int r = 0; r < micro_rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) c[r][v] = load(g + r * stride + v * lanes<T>);
  for (int64_t j = 0; j < count; ++j) {
    Vector<T> x[vectors];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) x[v] = load(z + j * stride + v * lanes<T>);
#pragma GCC unroll 8
    for (int r = 0; r < micro_rows; ++r) {
      const Vector<T> y = splat(w[r * row + j * column]);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) c[r][v] = fma(y, x[v], c[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < micro_rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) store(g + r * stride + v * lanes<T>, c[r][v]);
}

/// One panel of dimensions of a block's gradient, from the weights of a task; `diagonal`: from the pairs above the diagonal alone.
template <typename T, int vectors, bool transposed>
inline void accumulate_panel(const T* w, const T* z, int64_t rows, int64_t columns, int64_t stride, bool diagonal, T* g) {
  for (int64_t i = 0; i < rows; i += micro_rows) {
    if constexpr (transposed) accumulate<T, vectors, true>(w + i, z, diagonal ? smaller(columns, i + micro_rows) : columns, stride, g + i * stride);
    else {
      const int64_t first = diagonal ? i : 0;
      accumulate<T, vectors, false>(w + i * weight_stride + first, z + first * stride, columns - first, stride, g + i * stride);
    }
  }
}
template <typename T, bool transposed>
inline void accumulate_block(const T* w, const T* z, int64_t rows, int64_t columns, int64_t stride, bool diagonal, T* g) {
  int64_t k = 0;
  for (; k + panel_columns<T> <= stride; k += panel_columns<T>) accumulate_panel<T, micro_vectors, transposed>(w, z + k, rows, columns, stride, diagonal, g + k);
  if constexpr (micro_vectors > 2)
    for (; k + 2 * lanes<T> <= stride; k += 2 * lanes<T>) accumulate_panel<T, 2, transposed>(w, z + k, rows, columns, stride, diagonal, g + k);
  for (; k < stride; k += lanes<T>) accumulate_panel<T, 1, transposed>(w, z + k, rows, columns, stride, diagonal, g + k);
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
    if (ends & First) accumulate_block<T, false>(first, z.rows + J * width, z.sizes[I], z.sizes[J], z.padded_d, I == J, gradient + I * width);
    if (ends & Second) accumulate_block<T, true>(agree ? first : second, z.rows + I * width, z.sizes[J], z.sizes[I], z.padded_d, I == J, gradient + J * width);
  }
};

}  // namespace a_infonce::kernels::A_INFONCE_ISA

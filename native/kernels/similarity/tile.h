// The register tile that all products are made of. A factor is a number, or a pair of numbers whose two products are added: `per` says how many.
#pragma once
#include "kernels/cpu/vector.h"
#include "kernels/similarity/similarity.h"

namespace a_infonce::kernels::A_INFONCE_ISA {

// micro_rows x (micro_vectors vectors) of accumulators fill the registers.
constexpr int micro_rows = 6;
constexpr int micro_vectors = registers == 32 ? 4 : 2;
template <typename T> constexpr int panel_columns = micro_vectors * lanes<T>;
static_assert(block_rows % micro_rows == 0 && block_rows % tile_columns == 0 && tile_columns % panel_columns<float> == 0 && tile_columns % panel_columns<double> == 0);

template <typename Factor> constexpr int per = 1;

/// c [micro_rows, vectors] = (`add`: +=) sum_k a(r, k) b(k): a(r, k) = a[r * a_row + k * a_step], b(k) the vectors from b + k * b_step; rows of c are c_row apart.
template <bool add, int vectors, typename Factor, typename T>
[[gnu::always_inline]] inline void multiply_tile(const Factor* __restrict a, int64_t a_row, int64_t a_step, const Factor* __restrict b, int64_t b_step, int64_t depth,
                                                 T* __restrict c, int64_t c_row) {
  Vector<T> sums[micro_rows][vectors];
#pragma GCC unroll 8
  for (int r = 0; r < micro_rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) sums[r][v] = add ? load(c + r * c_row + v * lanes<T>) : Vector<T>{};
  for (int64_t k = 0; k < depth; ++k) {
    decltype(load(b)) x[vectors];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) x[v] = load(b + k * b_step + v * lanes<T>);
#pragma GCC unroll 8
    for (int r = 0; r < micro_rows; ++r) {
      const auto y = splat(a[r * a_row + k * a_step]);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sums[r][v] = fma(y, x[v], sums[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < micro_rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) store(c + r * c_row + v * lanes<T>, sums[r][v]);
}

/// g [rows, stride] += W z, with W's factors at w[i * row + j * step] and z the other block's rows; `diagonal`: from the pairs above the diagonal alone, where W is
/// transposed if row == 1. A strip of rows at a time, `vectors` vectors of dimensions.
template <int64_t row, int64_t step, int vectors, typename Factor, typename T>
inline void accumulate_panel(const Factor* w, const Factor* z, int64_t rows, int64_t columns, int64_t stride, bool diagonal, T* g) {
  for (int64_t i = 0; i < rows; i += micro_rows) {
    const int64_t from = diagonal && row != 1 ? i : 0, to = diagonal && row == 1 ? smaller(columns, i + micro_rows) : columns;
    constexpr int64_t n = per<Factor>;
    multiply_tile<true, vectors>(w + i * row + from / n * step, row, step, z + from / n * stride, stride, (to - from + n - 1) / n, g + i * stride, stride);
  }
}
template <int64_t row, int64_t step, typename Factor, typename T>
inline void accumulate(const Factor* w, const Factor* z, int64_t rows, int64_t columns, int64_t stride, bool diagonal, T* g) {
  int64_t k = 0;
  for (; k + panel_columns<T> <= stride; k += panel_columns<T>) accumulate_panel<row, step, micro_vectors>(w, z + k, rows, columns, stride, diagonal, g + k);
  if constexpr (micro_vectors > 2)
    for (; k + 2 * lanes<T> <= stride; k += 2 * lanes<T>) accumulate_panel<row, step, 2>(w, z + k, rows, columns, stride, diagonal, g + k);
  for (; k < stride; k += lanes<T>) accumulate_panel<row, step, 1>(w, z + k, rows, columns, stride, diagonal, g + k);
}

}  // namespace a_infonce::kernels::A_INFONCE_ISA

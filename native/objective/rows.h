// Rows of embeddings: divided by their length, packed for the kernels, and the way back to what was given.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>
#include "objective/options.h"
#include "ops/moments.h"

namespace a_infonce::objective {

constexpr double least_length = 1e-12;  // a row of zeros stays one

template <typename T>
struct Rows {
  struct Row {
    const T* x;                     // [d], as given
    int64_t place;                  // among the kernels' rows
    int32_t code;                   // as in kernels::Matrix
    double length = 0, inverse = 1; // z = x * inverse
  };
  std::vector<Row> rows;
  int64_t d;
  bool normalize, released;  // divided at all; by |x| + 1e-8, as RoCL's code does
  const kernels::SimilarityKernels<T>& table = kernels::similarity<T>();

  Rows(int64_t n, int64_t d, const Options& options)
      : rows(n), d(d), normalize(options.normalize.value_or(options.form != Form::AdvCL)), released(options.form == Form::RoCL) {}

  /// The row's length is known from here on. Returns |z|^2, infinite if it is not finite.
  double measure(Row& row) const {
    const double square = table.dot(row.x, row.x, d);
    row.length = std::sqrt(square);
    if (normalize) row.inverse = 1 / (released ? row.length + 1e-8 : std::max(row.length, least_length));
    const double whole = square * row.inverse * row.inverse;
    return std::isfinite(whole) ? whole : INFINITY;
  }
  template <typename U>
  void write(const Row& row, U* z) const {
    if constexpr (sizeof(U) == sizeof(T)) table.multiply(row.inverse, row.x, d, z);
    else
      for (int64_t k = 0; k < d; ++k) z[k] = row.x[k] * row.inverse;
  }
  /// Measures and packs all rows, in the precision of U; the largest |z|^2.
  template <typename U>
  double pack(ops::Pairs<U>& pairs) {
    std::vector<int32_t> at(pairs.rows);
    for (size_t i = 0; i < rows.size(); ++i) at[rows[i].place] = static_cast<int32_t>(i), pairs.codes[rows[i].place] = rows[i].code;
    std::vector<double> squares(pairs.blocks);
    ops::for_blocks(pairs.blocks, static_cast<int64_t>(rows.size()) * d, [&](int64_t block) {
      const ops::Buffer<U> z(pairs.sizes[block] * d);
      for (int64_t r = 0; r < pairs.sizes[block]; ++r) {
        Row& row = rows[at[block * kernels::block_rows + r]];
        squares[block] = std::max(squares[block], measure(row));
        write(row, z + r * d);
      }
      pairs.pack(block, z);
    });
    return (1 + 1e-6) * *std::max_element(squares.begin(), squares.end());  // rows were rounded
  }

  double dot(const Row& a, const Row& b) const { return a.inverse * b.inverse * table.dot(a.x, b.x, d); }
  /// g += factor * z of the row.
  void add(double factor, const Row& row, double* g) const { table.add(factor * row.inverse, row.x, d, g); }
  /// to = factor * d loss / d x, from g = d loss / d z: it moves a row's direction alone, |z| being 1 (in form rocl, nearly).
  void back(const Row& row, const double* g, double factor, T* to) const {
    const bool turns = normalize && (released ? row.length > 0 : row.length > least_length);
    table.project(factor * row.inverse, g, turns ? factor * row.inverse * row.inverse / row.length : 0, row.x, d, to);
  }
};

}  // namespace a_infonce::objective

// What the weights of all pairs of different images have in common, which products in bfloat16 leave out.
#pragma once
#include <vector>
#include "objective/rows.h"

namespace a_infonce::objective {

/// The kernels weigh a pair (i, j) as if its exponential were less by what is about their mean, so that what they round is small. What that leaves out,
/// value (own(i) weights(j) + weights(i) other(j)) times the factor across kinds, is of rank two: it comes from sums over rows.
template <typename T>
class CommonPart {
 public:
  struct Centre {
    double value;
    const T *own, *other, *weights;  // of the kernels' rows
  };

  CommonPart() = default;
  CommonPart(std::vector<Centre> given, const Rows<T>& rows) : centres(std::move(given)) {
    constexpr int64_t parts = 16;
    const int64_t n = static_cast<int64_t>(rows.rows.size()), width = 4 * static_cast<int64_t>(centres.size()) * rows.d;
    sums.assign(parts * width, 0);
    ops::for_blocks(centres.empty() ? 0 : parts, n * rows.d, [&](int64_t part) {
      for (int64_t i = n * part / parts; i < n * (part + 1) / parts; ++i) {
        const auto& row = rows.rows[i];
        double* to = &sums[part * width + (row.code & 1) * width / 2];
        for (const Centre& centre : centres)
          for (const T* by : {centre.weights, centre.other}) rows.add(by[row.place], row, to), to += rows.d;
      }
    });
    for (int64_t part = 1; part < parts; ++part)
      for (int64_t k = 0; k < width; ++k) sums[k] += sums[part * width + k];
    sums.resize(width);
  }
  /// g += factor * what the centres leave out of the row at this place, as if its own image were among its pairs; ends[kind]: the factor of pairs with rows of that kind.
  void add(int64_t place, double factor, const double* ends, int64_t d, double* g) const {
    const double* from = sums.data();
    for (int kind = 0; kind < 2; ++kind)
      for (const Centre& centre : centres)
        for (const T* by : {centre.own, centre.weights}) {
          const double all = factor * ends[kind] * centre.value * by[place];
          for (int64_t k = 0; k < d; ++k) g[k] += all * from[k];
          from += d;
        }
  }
  double weight(int64_t i, int64_t j) const {
    double weight = 0;
    for (const Centre& centre : centres) weight += centre.value * (centre.own[i] * centre.weights[j] + centre.weights[i] * centre.other[j]);
    return weight;
  }

 private:
  std::vector<Centre> centres;
  std::vector<double> sums;  // [kinds, centres, 2, d]: of weights(j) z_j and other(j) z_j
};

}  // namespace a_infonce::objective

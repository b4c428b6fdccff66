// Rows of a loss on a device, and which products they get.
#pragma once
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>
#include "objective/algebra.h"
#include "objective/evaluation.h"
#include "objective/terms.h"
#include "ops/cuda/moments.h"

namespace a_infonce::objective {

using kernels::cuda::Products, kernels::cuda::Stream, kernels::cuda::Visits;

/// Of |z|^2 of rows that are not refused later.
inline double bound_of(const Options& options) {
  if (options.normalize.value_or(options.form != Form::AdvCL)) return 1 + 1e-6;
  return options.form == Form::AdvCL ? (1 + 1e-6) * (1 + length_error) * (1 + length_error) : INFINITY;
}
/// Whether sums of exponentials of rows of this square have their range at any rate (ops::Moments::in_range), where at least half of the rows are terms of each.
template <typename T>
bool surely_in_range(double square, const Options& options) {
  const double power = powers_of(options).back(), bound = square / options.temperature, reference = ops::reference_of<T>(bound, {power});
  return power * (bound + reference) + std::log(2.0) <= (sizeof(T) == 4 ? 100 : 960) * std::log(2.0);
}
template <typename T>
Products products_of(const Options& options, int64_t d) {
  if (sizeof(T) == 8) return Products::Float64;
  const double square = bound_of(options);
  if (options.precision == kernels::Precision::Full || !bf16_suffices(options, d, square) || !surely_in_range<T>(square, options)) return Products::Float32;
  return options.precision == kernels::Precision::Bf16 ? Products::Bf16 : Products::Bf16x3;
}

template <typename T>
class Rows : public ops::DeviceRows<T> {
  using Base = ops::DeviceRows<T>;

 public:
  Rows(const at::Tensor& first, const at::Tensor& second, const kernels::cuda::Places& places, const Options& options, Products products, Stream stream, const at::Tensor& codes = {},
       const at::Tensor& numbers = {})
      : Base(first, second, places, {1 / options.temperature, options.normalize.value_or(options.form != Form::AdvCL), options.form == Form::RoCL, products}, stream, codes,
             numbers.defined() ? numbers : Base::no_numbers(first)) {}

  at::Tensor loss(at::ScalarType dtype) const { return this->numbers.select(0, offsetof(kernels::cuda::Numbers, loss) / sizeof(double)).to(dtype, false, true); }

  /// Throws where rows, options or the loss are not as they must be (DeviceRows::check).
  void check(const Options& options, const std::vector<std::pair<std::string, at::Tensor>>& given) const {
    Base::check(given, [options, dtype = this->first.scalar_type(), normalize = this->z.normalize, name = given[0].first](const kernels::cuda::Numbers& seen) {
      if (options.labels) {
        require_positives(!seen.no_positives);
        require_range(!seen.no_negatives || !options.hard_negative, "options.hardNegative", "a row of another label for every anchor", "one label only");
      }
      check_precision((1 + 1e-6) * seen.largest_square, dtype, options);
      if (options.form == Form::AdvCL && !normalize) check_lengths(seen.largest_error, name.c_str());
      check_sums(!seen.wrong_sums);
      require_finite_loss(!seen.infinite_loss);
    });
  }
};

}  // namespace a_infonce::objective

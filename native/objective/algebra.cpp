#include "objective/algebra.h"
#include <ATen/TensorOperators.h>
#include <cmath>
#include <cstdio>
#include <limits>
#include "dtype.h"
#include "error.h"
#include "objective/rows.h"
#include "objective/terms.h"

namespace a_infonce::objective {

using at::Tensor;

Tensor normalized(const Tensor& rows) { return rows / rows.norm(2, 1, true).clamp_min(least_length); }

bool bf16_suffices(const Options& options, int64_t d, double square) {
  const bool split = options.precision == kernels::Precision::Bf16x3;
  const double scale = 1 / options.temperature, rounding = split ? 7e-6 : 2.8e-3, error = split ? 1e-5 : 1e-3;  // of a product of two rounded numbers, root mean square; of an exponential, at most
  double power = 1, rest = 1;
  if (const auto& hard = options.hard_negative) {
    power += hard->beta;
    if (split) rest = options.form == Form::AdvCL ? 0 : 1 - hard->tau_plus * std::exp(scale * square);
  }
  return scale * square * power * rounding <= error * std::sqrt(d) * rest;
}

void check_lengths(double error, const char* argument) {
  char text[32];
  std::snprintf(text, sizeof text, "%.10g", error);
  require_range(error <= length_error, argument, "rows of length 1 in form 'advcl' (pass normalize: true to normalise them here)", "a row " + std::string(text) + " off");
}

void require_positives(bool any) { require_range(any, "options.labels", "at least two rows of one label", "no row with a positive"); }

void check_sums(bool right) {
  require_range(right, "sums", "what clean_sums gives for these clean rows with the same options", "sums of other rows or options");
}

void check_precision(double largest_square, at::ScalarType dtype, const Options& options) {
  if (!std::isfinite(largest_square)) throw Error(ErrorKind::NonFinite, "features: the square of a row overflows");
  const double precision = dtype == at::kFloat ? std::numeric_limits<float>::epsilon() : std::numeric_limits<double>::epsilon();
  const double power = powers_of(options).back(), rounding = largest_square * precision, least = rounding * power;
  // Three digits of a bound that is itself accepted.
  const auto rounded = [](double bound, bool up) {
    const double digit = std::pow(10, std::floor(std::log10(bound)) - 2);
    return (up ? std::ceil(bound / digit) : std::floor(bound / digit)) * digit;
  };
  char expected[160], received[32];
  if (const double beta = options.form == Form::Paper && options.hard_negative ? options.hard_negative->beta : 0; beta > 1 && options.temperature >= 2 * rounding) {
    // The gradient is a difference of two sums, 1 + beta and beta times as large as it is.
    if (options.temperature >= least * beta) return;
    std::snprintf(expected, sizeof expected, "at most %.3g at this temperature (above, gradients of these rows are mostly rounding in %s)", rounded(std::sqrt(0.25 + options.temperature / rounding) - 0.5, false), dtype_name(dtype).c_str());
    std::snprintf(received, sizeof received, "%.10g", beta);
    throw Error(ErrorKind::ArgumentRange, "options.hardNegative.beta", expected, received);
  }
  if (options.temperature >= least) return;
  std::snprintf(expected, sizeof expected, "at least %.3g (below, similarities of these rows have no precision in %s)", rounded(least, true), dtype_name(dtype).c_str());
  std::snprintf(received, sizeof received, "%.10g", options.temperature);
  throw Error(ErrorKind::ArgumentRange, "options.temperature", expected, received);
}

}  // namespace a_infonce::objective

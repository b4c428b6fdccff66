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

void check_precision(double largest_square, at::ScalarType dtype, const Options& options) {
  if (!std::isfinite(largest_square)) throw Error(ErrorKind::NonFinite, "features: the square of a row overflows");
  const double precision = dtype == at::kFloat ? std::numeric_limits<float>::epsilon() : std::numeric_limits<double>::epsilon();
  const auto powers = powers_of(options);
  const double least = largest_square * powers.back() * precision;
  if (options.temperature >= least) return;
  char expected[96], received[32];
  std::snprintf(expected, sizeof expected, "at least %.3g (below, similarities of these rows have no precision in %s)", least, dtype_name(dtype).c_str());
  std::snprintf(received, sizeof received, "%.10g", options.temperature);
  throw Error(ErrorKind::ArgumentRange, "options.temperature", expected, received);
}

}  // namespace a_infonce::objective

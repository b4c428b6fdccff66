#include "objective/algebra.h"
#include <ATen/ops/arange.h>
#include <ATen/ops/expm1.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/where.h>
#include <cmath>
#include <cstdio>
#include <limits>
#include "dtype.h"
#include "error.h"
#include "objective/terms.h"

namespace a_infonce::objective {

using at::Tensor;

Tensor normalized(const Tensor& rows) { return rows / rows.norm(2, 1, true).clamp_min(1e-12); }

Rows rows_of(const Tensor& features, const Options& options) {
  const Tensor exact = features.to(at::kDouble);
  if (!options.normalize.value_or(options.form != Form::AdvCL)) return {exact, features};
  const Tensor length = exact.norm(2, 1, true);
  // RoCL's own constant; elsewhere a row of zeros stays one.
  const Tensor normalized = exact / (options.form == Form::RoCL ? length + 1e-8 : length.clamp_min(1e-12));
  return {normalized, normalized.to(features.scalar_type())};
}

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
void check_precision(const Rows& rows, const Options& options) {
  check_precision(rows.exact.detach().square().sum(1).max().item<double>(), rows.z.scalar_type(), options);
}

Tensor row_codes(int64_t batch, int64_t views, int64_t adversarial_view, const std::optional<Tensor>& groups) {
  const Tensor codes = 2 * (groups ? *groups : at::arange(batch, at::kInt)).repeat({views});
  if (adversarial_view >= 0) codes.narrow(0, adversarial_view * batch, batch).add_(1);
  return codes;
}

Tensor off_diagonal(const Tensor& x) {
  const int64_t views = x.size(-1);
  // Without its first element, row v of the flattened matrix (stride V + 1) holds the V elements between two diagonal ones, then a diagonal one.
  std::vector<int64_t> shape = x.sizes().vec();
  shape[shape.size() - 1] = views - 1;
  return x.flatten(-2).slice(-1, 1).unflatten(-1, {views - 1, views + 1}).slice(-1, 0, views).reshape(shape);
}

Tensor cross_entropy(const Tensor& x, const Tensor& rest, double log_c) {
  const int64_t positives = x.size(-1);
  Tensor others = rest.unsqueeze(-1);
  if (positives > 1) {
    const Tensor each = off_diagonal(x.unsqueeze(-2).expand({x.size(0), x.size(1), positives, positives}));
    others = at::logaddexp(others, each.logsumexp(-1) + log_c);
  }
  return log_c - at::log_sigmoid(x + log_c - others);
}

Tensor debiased(const Tensor& weighed, const Tensor& log_count, const Tensor& log_positive, const Options& options) {
  const double tau = options.hard_negative->tau_plus;
  const Tensor floor = log_count - 1 / options.temperature;
  // log(e^a - e^b) = a + log(1 - e^(b - a)); where the difference is not positive, or below the floor, the floor stands and nothing flows.
  const Tensor share = log_positive + log_count + std::log(tau) - weighed, positive = share < 0;
  const Tensor difference = weighed + (-at::expm1(at::where(positive, share, -1.0))).log() - std::log1p(-tau);
  return at::where(positive & (difference > floor), difference, floor);
}

}  // namespace a_infonce::objective

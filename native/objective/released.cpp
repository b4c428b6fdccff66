#include "objective/released.h"
#include <ATen/ops/full_like.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/ones.h>
#include <cmath>
#include "ops/similarity.h"

namespace a_infonce::objective {

using at::Tensor;

namespace {
constexpr double epsilon = 1e-9;
}

HardDenominators released_hard_negatives(const Rows& rows, const Options& options, bool subtract_maximum) {
  const Tensor& z = rows.z;
  const int64_t views = options.views, batch = z.size(0) / views;
  const double scale = 1 / options.temperature, n = z.size(0), negatives = static_cast<double>((batch - 1) * views), beta = options.hard_negative->beta,
               tau = options.hard_negative->tau_plus;
  const auto [s, s_detached] = ops::view_similarity(rows.exact, views, scale);
  const Tensor codes = row_codes(batch, views, -1);
  // Everything is in units of e^shift: without a maximum the kernel still works below 1 (no overflow at any temperature), and epsilon and the floor shrink.
  const double log_unit = subtract_maximum ? 0 : -scale;
  const double unit_epsilon = epsilon * std::exp(log_unit);
  const auto mean_of = [&](const Tensor& sums) { return (sums + views * std::pow(unit_epsilon, beta)) / n; };  // the positives and the row itself: En = 0
  const Tensor ones = at::ones({z.size(0)}, s.options().requires_grad(false));
  Tensor shift = subtract_maximum ? by_row(std::get<0>(s.detach().max(-1))) : ones * scale;
  auto importance = ops::hard_moments(z, codes, ones, ones, shift, scale, unit_epsilon, beta, false);
  if (subtract_maximum) {  // the diagonal is the maximum unless an image appears twice, or a row is a little longer than another
    const Tensor maximum = at::maximum(shift, std::get<2>(importance));
    if ((maximum > shift).any().item<bool>()) importance = ops::hard_moments(z, codes, ones, ones, shift = maximum, scale, unit_epsilon, beta, false);
  }
  const auto& [mean_full, mean_detached, unused] = importance;
  const auto [sums, sums_detached, none] =
      ops::hard_moments(z, codes, mean_of(mean_full).reciprocal(), mean_of(mean_detached).reciprocal(), shift, scale, unit_epsilon, beta, true);
  const double floor = negatives * std::exp(log_unit - 2);
  const auto denominator = [&](const Tensor& similarity, const Tensor& weighed) -> HardDenominator {
    const Tensor logits = similarity - by_image(shift, views).unsqueeze(-1);
    const Tensor positive = off_diagonal(logits).exp().mean(-1);
    const Tensor negative = (by_image(weighed, views) - tau * negatives * positive) / (1 - tau);
    return {logits, (positive + at::maximum(negative, at::full_like(negative, floor))).log()};
  };
  return {denominator(s, sums), denominator(s_detached, sums_detached)};
}

}  // namespace a_infonce::objective

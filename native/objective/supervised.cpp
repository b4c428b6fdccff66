// A-InfoNCE as the paper writes it (arXiv 2207.08374, equations 4 to 10) with labels: composed of the moments' operators.
#include <ATen/ops/_unique2.h>
#include <ATen/ops/index_add.h>
#include <ATen/ops/full.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <cmath>
#include <tuple>
#include "error.h"
#include "kernels/similarity/similarity.h"
#include "objective/algebra.h"
#include "ops/similarity.h"

namespace a_infonce::objective {

using at::Tensor;

namespace {

ops::CrossFactors factors_of(const Options& options) {
  const double alpha = options.alpha.value_or(0.5);
  return {2 * alpha, 2 * (1 - alpha)};
}

/// log of what the negatives of each row weigh in its denominator. `count` = |N(i)|, `log_positive` = log mean_{j in P(i)} e^{s_ij}; shapes of a row each.
///   plain: log sum_k e^{s_ik};   hard: log max((sum_k w_ik e^{s_ik} - tau |N| mean_P) / (1 - tau), |N| e^{-1/t})
Tensor log_negatives(const Tensor& z, const Tensor& codes, const Tensor& count, const Tensor& log_positive, const Options& options) {
  const double scale = 1 / options.temperature;
  const auto moments = [&](std::vector<double> powers) { return std::get<0>(ops::log_moments(z, codes, scale, powers, kernels::Negatives, factors_of(options))); };
  if (!options.hard_negative) return moments({1})[0];
  const double beta = options.hard_negative->beta;
  const Tensor log_count = count.log();
  if (beta == 0) return debiased(moments({1})[0], log_count, log_positive, options);
  const Tensor log_sums = moments({beta, 1 + beta});
  return debiased(log_sums[1] - log_sums[0] + log_count, log_count, log_positive, options);
}

}  // namespace

/// Positives: every other row of the same label. The mean is over the rows that have one.
Tensor supervised(const Rows& rows, const Options& options) {
  check_precision(rows, options);
  const auto& [zd, z] = rows;
  const int64_t views = options.views, n = z.size(0), batch = n / views, adversarial = options.adversarial_view.value_or(-1);
  const double scale = 1 / options.temperature;
  const auto factors = factors_of(options);
  const Tensor groups = std::get<1>(at::_unique2(*options.labels, true, true));
  const Tensor label = groups.repeat({views}), codes = row_codes(batch, views, adversarial, groups.to(at::kInt));
  const Tensor kind = codes.bitwise_and(1).to(at::kLong), cell = 2 * label + kind;
  // Rows of every (label, kind), and sums of their embeddings.
  const int64_t cells = 2 * (groups.max().item<int64_t>() + 1);
  const Tensor none = at::zeros({cells}, zd.options().requires_grad(false));
  const Tensor sizes = none.index_add(0, cell, at::ones({n}, none.options()));
  const Tensor same_count = sizes.index_select(0, cell) - 1, cross_count = sizes.index_select(0, cell.bitwise_xor(1)), count = same_count + cross_count;
  const Tensor used = count.gt(0).nonzero().squeeze(1);
  require_range(used.size(0) > 0, "options.labels", "at least two rows of one label", "no row with a positive");
  const Tensor negative_count = n - 1 - count;
  if (options.hard_negative)
    require_range(negative_count.index_select(0, used).gt(0).all().item<bool>(), "options.hardNegative", "a row of another label for every anchor", "one label only");

  // In float64 whatever the features are: tight positives cancel in log_denominator - s.
  const auto moments = [&](int64_t selection) { return std::get<0>(ops::log_moments(zd, codes, scale, {1}, selection, factors))[0]; };
  const Tensor positive = moments(kernels::PositiveSameKind | kernels::PositiveCrossKind);
  Tensor weighed_positive = positive;
  if (options.positive_weight != 1)
    weighed_positive = at::logaddexp(moments(kernels::PositiveSameKind), moments(kernels::PositiveCrossKind) + std::log(options.positive_weight));
  const Tensor log_count = count.clamp_min(1).log();
  const Tensor rest = log_negatives(z, codes, negative_count, positive - log_count, options);
  const Tensor log_denominator = at::logaddexp(options.hard_negative ? weighed_positive - log_count : weighed_positive, rest);

  // sum_j weight_ij s_ij over the positives, from sums of embeddings; between kinds each end moves by its own factor.
  const auto cell_sums = [&](const Tensor& x) { return at::zeros({cells, z.size(1)}, none.options()).index_add(0, cell, x); };
  const Tensor same = (zd * (cell_sums(zd).index_select(0, cell) - zd)).sum(1);
  const Tensor factor = (kind.to(at::kDouble) * (factors.adversarial - factors.clean) + factors.clean).unsqueeze(1);
  const Tensor scaled = zd * factor + (zd * (1 - factor)).detach();  // the value of z, its gradient times the factor
  const Tensor cross = (scaled * cell_sums(scaled).index_select(0, cell.bitwise_xor(1))).sum(1);
  const Tensor total_weight = same_count + options.weight * cross_count;
  const Tensor constant = cross_count * (options.weight * std::log(options.positive_weight));
  const Tensor terms = (total_weight * log_denominator - constant - scale * (same + options.weight * cross)) / count.clamp_min(1);
  return terms.index_select(0, used).mean();
}

}  // namespace a_infonce::objective

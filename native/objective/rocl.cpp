// The released A-InfoNCE code, RoCL lineage, digit for digit: rows [view 1, view 2, adversarial], columns detached everywhere (a row moves
// itself only). Two views: the loss of its attack; 1/256 of that loss on (adversarial, view 2) is the regulariser that its training adds.
#include <ATen/ops/full_like.h>
#include <ATen/ops/logaddexp.h>
#include <cmath>
#include "kernels/similarity/similarity.h"
#include "objective/algebra.h"
#include "objective/released.h"
#include "ops/similarity.h"

namespace a_infonce::objective {

using at::Tensor;

namespace {

/// l_rc = -log(E_rc / (sum of row r's E without itself + 1e-8) + 1e-8)
Tensor nt_xent(const Rows& rows, int64_t views, double temperature) {
  const Tensor& z = rows.z;
  const Tensor s = std::get<1>(ops::view_similarity(rows.exact, views, 1 / temperature));
  const Tensor negatives = std::get<1>(ops::log_moments(z, row_codes(z.size(0) / views, views, -1), 1 / temperature, {1}, kernels::Negatives))[0];
  const double log_epsilon = std::log(1e-8);
  const Tensor rest = by_image(negatives, views);
  const Tensor log_p = -cross_entropy(off_diagonal(s), at::logaddexp(rest, at::full_like(rest, log_epsilon)));
  return -at::logaddexp(log_p, at::full_like(log_p, log_epsilon));
}

/// l_rc = -log(E_rc / (pos_r + Ng_r))
Tensor hard(const Rows& rows, const Options& options) {
  const auto m = released_hard_negatives(rows, options, false).detached;
  return off_diagonal(m.log_denominator.unsqueeze(2) - m.logits);
}

}  // namespace

Tensor rocl(const Rows& rows, const Options& options) {
  const int64_t n = rows.z.size(0);
  const Tensor terms = options.hard_negative ? hard(rows, options) : nt_xent(rows, options.views, options.temperature);
  if (options.views == 2) return terms.sum() / n;
  const double clean_anchor = options.alpha ? options.weight * *options.alpha : 1, adversarial_anchor = options.alpha ? options.weight * (1 - *options.alpha) : 1;
  return weighted_sum(terms, [&](int64_t row, int64_t column) { return row == 2 ? adversarial_anchor : column == 2 ? clean_anchor : 1.0; }) / n;
}

}  // namespace a_infonce::objective

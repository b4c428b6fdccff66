// The released A-InfoNCE code, AdvCL lineage, digit for digit: adversarial view 0, rows already normalised, every row an anchor, everything but the row
// itself in the denominator, every loss times temperature / 0.07. Primes (l', S') mean columns detached.
#include "kernels/similarity/similarity.h"
#include "objective/algebra.h"
#include "objective/released.h"
#include "ops/similarity.h"

namespace a_infonce::objective {

using at::Tensor;

namespace {

struct Terms {
  Tensor full, detached;  // l and l', [batch, views, views - 1]
};

Terms plain(const Rows& rows, const Options& options) {
  const Tensor& z = rows.z;
  const auto [s, s_detached] = ops::view_similarity(rows.exact, options.views, 1 / options.temperature);
  const auto [negatives, negatives_detached] =
      ops::log_moments(z, row_codes(z.size(0) / options.views, options.views, -1), 1 / options.temperature, {1}, kernels::Negatives);
  return {cross_entropy(off_diagonal(s), by_image(negatives[0], options.views)),
          cross_entropy(off_diagonal(s_detached), by_image(negatives_detached[0], options.views))};
}

/// lp_ij = -log(E_ij / (pos_j + Ng_j)): the positive's own denominator, the anchor's own maximum.
Terms hard(const Rows& rows, const Options& options) {
  const auto moments = released_hard_negatives(rows, options, true);
  const auto terms = [](const HardDenominator& m) { return off_diagonal(m.log_denominator.unsqueeze(1) - m.logits); };
  return {terms(moments.full), terms(moments.detached)};
}

}  // namespace

Tensor advcl(const Rows& rows, const Options& options) {
  const Terms terms = options.hard_negative ? hard(rows, options) : plain(rows, options);
  const double n = rows.z.size(0), w = options.weight;
  Tensor sum;
  if (options.alpha) {
    const double alpha = *options.alpha;
    sum = weighted_sum(terms.full, [](int64_t row, int64_t column) { return row && column ? 1.0 : 0.0; }) +
          weighted_sum(terms.detached, [&](int64_t row, int64_t column) { return row && column ? 0.0 : 2 * w * (row ? alpha : 1 - alpha); });
  } else {
    // The clean -> adversarial terms are replaced by the adversarial -> clean ones: published runs carry this.
    sum = weighted_sum(terms.full, [&](int64_t row, int64_t column) { return !column ? 0.0 : row ? 1.0 : w + w * w; });
  }
  return sum * (options.temperature / 0.07 / ((options.views - 1) * n));
}

}  // namespace a_infonce::objective

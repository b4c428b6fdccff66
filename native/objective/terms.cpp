#include "objective/terms.h"
#include <cmath>

namespace a_infonce::objective {

kernels::NegativeWeights negative_of(const Options& options) {
  const auto hard = options.hard_negative.value_or(HardNegative{0, 0});
  return {options.hard_negative.has_value(), hard.beta, hard.tau_plus, options.temperature};
}

kernels::Terms Weights::terms(const Options& options, int64_t rows) const {
  return {options.views, rows, options.form == Form::RoCL, negative_of(options), full.data(), detached.data(), log_positive.data(), any_full, any_detached};
}

std::vector<double> powers_of(const Options& options) {
  const double beta = options.form == Form::Paper && options.hard_negative ? options.hard_negative->beta : 0;
  return beta == 0 ? std::vector<double>{1} : std::vector<double>{beta, 1 + beta};
}

Weights weights_of(const Options& options, int64_t rows) {
  const int64_t views = options.views, adversarial = options.adversarial_view.value_or(-1);
  const size_t cells = views * views;
  Weights weights{std::vector<double>(cells), std::vector<double>(cells), std::vector<double>(cells), false, false};
  const double n = static_cast<double>(rows), w = options.weight, alpha = options.alpha.value_or(0), pairs = n * static_cast<double>(views - 1);
  for (int64_t row = 0; row < views; ++row)
    for (int64_t column = 0; column < views; ++column) {
      if (row == column) continue;
      double &full = weights.full[row * views + column], &detached = weights.detached[row * views + column];
      if (options.form == Form::Paper) {
        const bool cross = (row == adversarial) != (column == adversarial);
        full = (cross ? w : 1) / pairs;
        weights.log_positive[row * views + column] = cross ? std::log(options.positive_weight) : 0;
      } else if (options.form == Form::AdvCL) {
        const double scale = options.temperature / 0.07 / pairs;
        // No alpha: the clean -> adversarial terms are replaced by the adversarial -> clean ones; published runs carry this.
        if (!options.alpha) full = scale * (!column ? 0 : row ? 1 : w + w * w);
        else (row && column ? full : detached) = scale * (row && column ? 1 : 2 * w * (row ? alpha : 1 - alpha));
      } else {
        detached = (views == 2 || !options.alpha || (row != 2 && column != 2) ? 1 : w * (row == 2 ? 1 - alpha : alpha)) / n;
      }
      weights.any_full |= full != 0, weights.any_detached |= detached != 0;
    }
  return weights;
}

}  // namespace a_infonce::objective

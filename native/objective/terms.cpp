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

kernels::Weighing weighing_of(const Options& options, int64_t rows) {
  return {options.form, options.views, rows, options.adversarial_view.value_or(-1), options.alpha.has_value(), options.alpha.value_or(0), options.weight, options.positive_weight, options.temperature};
}

Weights weights_of(const Options& options, int64_t rows) {
  const int64_t views = options.views;
  const size_t cells = views * views;
  Weights weights{std::vector<double>(cells), std::vector<double>(cells), std::vector<double>(cells), false, false};
  const auto weighing = weighing_of(options, rows);
  for (int64_t cell = 0; cell < views * views; ++cell) {
    const auto [full, detached, log_positive] = kernels::weight_of(weighing, cell / views, cell % views);
    weights.full[cell] = full, weights.detached[cell] = detached, weights.log_positive[cell] = log_positive;
    weights.any_full |= full != 0, weights.any_detached |= detached != 0;
  }
  return weights;
}

}  // namespace a_infonce::objective

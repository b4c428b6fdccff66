// What the forms weigh, as kernels/terms takes it.
#pragma once
#include <cmath>
#include <cstdint>
#include <vector>
#include "kernels/terms/terms.h"
#include "objective/options.h"

namespace a_infonce::objective {

kernels::NegativeWeights negative_of(const Options& options);

/// The weights of the terms (kernels::Terms) and what owns them.
struct Weights {
  std::vector<double> full, detached, log_positive;
  bool any_full, any_detached;
  kernels::Terms terms(const Options& options, int64_t rows) const;
};
kernels::Weighing weighing_of(const Options& options, int64_t rows);
Weights weights_of(const Options& options, int64_t rows);

/// The powers of the moments that plain_terms takes: 1; or beta and 1 + beta with the paper's hard negatives.
std::vector<double> powers_of(const Options& options);

/// Where E = exp(S) (form rocl), everything is kept in units of e^{1/t}: no overflow at any temperature. log of that unit: 0 for advcl, -1/t for rocl.
inline double log_unit(const Options& options) { return options.form == Form::RoCL ? -1 / options.temperature : 0; }
constexpr double importance_epsilon = 1e-9;

/// The released hard negatives raise E to powers up to 1 + beta, with one reference for all rows. ln of the least such power that counts, negated: of an E that
/// reaches the floor |N| e^{-2} of its row's sum although its importance is the only one in the mean over n columns.
inline double hard_depth(const Options& options, int64_t rows) { return (1 + options.hard_negative->beta) * (2 + std::log(static_cast<double>(rows)) - log_unit(options)); }
constexpr double hard_range_float = 80, hard_range_double = 700;  // what exponents of the kernels' float32 and float64 hold

}  // namespace a_infonce::objective

// The O(n) algebra of the forms: from the similarities within one image and its rows' sums to the loss and its derivatives, in float64.
#pragma once
#include <cmath>
#include <cstdint>
#include <vector>
#include "objective/options.h"

namespace a_infonce::objective {

/// What a form weighs, by (anchor's view, positive's view), row-major [views, views]: the terms l through both ends of a pair (full) and through the anchor's own
/// end (detached), divided by whatever the form divides by; and log p of the paper's positives.
struct Weights {
  std::vector<double> full, detached, log_positive;
  bool any_full, any_detached;
};
Weights weights_of(const Options& options, int64_t rows);

/// One image's share. Matrices are [views, views] with unused diagonals, derivatives are added up.
struct Derivatives {
  double* full;      // d loss / d s_vw through both ends
  double* detached;  // through the end of v
};

/// Forms without the released hard negatives. log_sums: one or two moments a row, log sum_{negatives} e^{p s}, for each view of the image; derivatives by them go
/// to d_full and d_detached of the same layout [views * moments].
double plain_terms(const Options& options, const Weights& weights, int64_t rows, const double* s, const double* log_sums, Derivatives ds, double* d_full, double* d_detached);

/// The released hard negatives: E = e^{s - shift}, sums_i = sum_j imp_ij En_ij / m_j in units of E. Derivatives by the sums: d_full and d_detached [views].
double hard_terms(const Options& options, const Weights& weights, int64_t rows, const double* s, const double* shift, const double* sums, Derivatives ds, double* d_full,
                  double* d_detached);

/// log(e^a + e^b)
double log_add(double a, double b);

/// log of what the negatives of an anchor of the paper put into its denominator, and its derivatives by the logs of their sums and by log_positive =
/// log mean_{j in P} e^{s_j}. Plain: the log of their sum; with hard negatives log max((sum_k w_k e^{s_k} - tau |N| e^log_positive) / (1 - tau), |N| e^{-1/t}), the floor
/// being the least that |N| negatives can weigh. log_count = log |N|.
struct Negatives {
  double value, by_sums[2] = {1, 0}, by_positive = 0;
  Negatives(const double* log_sums, double log_count, double log_positive, const Options& options);
};

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

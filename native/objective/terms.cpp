#include "objective/terms.h"
#include <algorithm>
#include <cmath>

namespace a_infonce::objective {

namespace {

double log_sum(const double* x, int64_t count) {
  const double top = *std::max_element(x, x + count);
  double sum = 0;
  for (int64_t k = 0; k < count; ++k) sum += std::exp(x[k] - top);
  return top + std::log(sum);
}
/// out[k] = log sum_{l != k} e^{x_l}, from the sums before k and after it.
void log_sums_of_others(const double* x, int64_t count, double* out) {
  double sum = -INFINITY;
  for (int64_t k = 0; k < count; ++k) out[k] = sum, sum = log_add(sum, x[k]);
  sum = -INFINITY;
  for (int64_t k = count - 1; k >= 0; --k) out[k] = log_add(out[k], sum), sum = log_add(sum, x[k]);
}
/// out[l] += e^{x_l} sum_{k != l} g_k e^{-others_k}, g >= 0, where others_k >= x_l for every l != k: no factor leaves the range. The k whose others are the
/// least is the reference of all rows but its own.
void add_from_others(const double* x, const double* others, const double* g, int64_t count, double* out) {
  const int64_t least = std::min_element(others, others + count) - others;
  const auto share = [&](int64_t k) { return g[k] * std::exp(others[least] - others[k]); };
  double own = 0, sum = 0;
  for (int64_t k = 0; k < count; ++k)
    if (k != least) own += g[k] * std::exp(x[least] - others[k]);
  out[least] += own;
  for (int64_t k = 0; k < count; ++k) {  // those before
    if (k != least) out[k] += std::exp(x[k] - others[least]) * sum;
    sum += share(k);
  }
  sum = 0;
  for (int64_t k = count - 1; k >= 0; --k) {  // those after
    if (k != least) out[k] += std::exp(x[k] - others[least]) * sum;
    sum += share(k);
  }
}

}  // namespace

double log_add(double a, double b) {
  const double top = std::max(a, b), low = std::min(a, b);
  return low == -INFINITY ? top : top + std::log1p(std::exp(low - top));
}

Negatives::Negatives(const double* log_sums, double log_count, double log_positive, const Options& options) : value(log_sums[0]) {
  if (!options.hard_negative) return;
  const double tau = options.hard_negative->tau_plus, floor = log_count - 1 / options.temperature;
  const bool weighed = options.hard_negative->beta != 0;
  const double log_weighed = weighed ? log_sums[1] - log_sums[0] + log_count : log_sums[0];
  value = floor, by_sums[0] = 0;
  // log(e^a - e^b) = a + log(1 - e^(b - a)); where the difference is not positive, or below the floor, nothing flows.
  const double share = log_positive + log_count + std::log(tau) - log_weighed, rest = -std::expm1(share);
  if (!(share < 0)) return;
  const double difference = log_weighed + std::log(rest) - std::log1p(-tau);
  if (!(difference > floor)) return;
  value = difference, by_positive = 1 - 1 / rest;
  by_sums[0] = weighed ? -1 / rest : 1 / rest, by_sums[1] = weighed ? 1 / rest : 0;
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

double plain_terms(const Options& options, const Weights& weights, int64_t rows, const double* s, const double* log_sums, Derivatives ds, double* d_full, double* d_detached) {
  const int64_t views = options.views, positives = views - 1;
  const bool hard = options.hard_negative.has_value(), rocl = options.form == Form::RoCL;
  const int64_t moments = static_cast<int64_t>(powers_of(options).size());
  const double log_count = std::log(static_cast<double>(rows - views)), log_c = hard ? -std::log(static_cast<double>(positives)) : 0;
  const double log_epsilon = std::log(1e-8);
  constexpr int64_t few = 16;
  double local[7 * few] = {};
  std::vector<double> many(positives > few ? 7 * positives : 0);
  double *x = positives > few ? many.data() : local, *by_x[2] = {x + positives, x + 2 * positives}, *slopes[2] = {x + 3 * positives, x + 4 * positives}, *others = x + 5 * positives, *plain = x + 6 * positives;
  double loss = 0;
  for (int64_t v = 0; v < views; ++v) {
    const auto view = [v](int64_t k) { return k + (k >= v); };  // the view of positive k
    const double* similarity = s + v * views;
    for (int64_t k = 0; k < positives; ++k) x[k] = similarity[view(k)] + weights.log_positive[v * views + view(k)] + log_c;
    const double* sums = log_sums + v * moments;
    // rest: log of what the negatives put into the denominator
    double log_positive = 0;
    if (hard) {
      for (int64_t k = 0; k < positives; ++k) plain[k] = similarity[view(k)];
      log_positive = log_sum(plain, positives);
    }
    const Negatives negatives(sums, log_count, log_positive + log_c, options);
    const double by_positive = negatives.by_positive;
    double rest = negatives.value, by_sums[2] = {negatives.by_sums[0], negatives.by_sums[1]};
    if (rocl) {  // the released denominator has + 1e-8
      rest = log_add(sums[0], log_epsilon);
      by_sums[0] = std::exp(sums[0] - rest);
    }
    double by_rest[2] = {0, 0};
    std::fill(by_x[0], by_x[0] + 4 * positives, 0.0);
    log_sums_of_others(x, positives, others);
    for (int64_t k = 0; k < positives; ++k) others[k] = log_add(rest, others[k]);
    for (int64_t k = 0; k < positives; ++k) {
      const double share[2] = {weights.full[v * views + view(k)], weights.detached[v * views + view(k)]};
      if (share[0] == 0 && share[1] == 0) continue;
      // l = -log(e^x_k / (c (sum_l e^x_l) + e^rest)), x holding log c here, as log c + softplus(log of the others - x_k), never log of a sum minus x: it keeps its
      // relative precision, derivative included, when positive k outweighs everything else.
      const double y = others[k] - x[k], decay = std::exp(-std::abs(y)), value = log_c + std::max(y, 0.0) + std::log1p(decay);
      double slope = (y > 0 ? 1 : decay) / (1 + decay), term = value;
      if (rocl) term = -log_add(-value, log_epsilon), slope *= std::exp(term - value);
      loss += (share[0] + share[1]) * term;
      const double to_rest = std::exp(rest - others[k]);
      for (int end = 0; end < 2; ++end) {
        const double g = share[end] * slope;
        if (g == 0) continue;
        by_rest[end] += g * to_rest, by_x[end][k] -= g, slopes[end][k] = g;
      }
    }
    for (int end = 0; end < 2; ++end) {
      if (positives > 1 && (end ? weights.any_detached : weights.any_full)) add_from_others(x, others, slopes[end], positives, by_x[end]);
      double *to_s = (end ? ds.detached : ds.full) + v * views, *to_sums = (end ? d_detached : d_full) + v * moments;
      for (int64_t k = 0; k < positives; ++k) {
        to_s[view(k)] += by_x[end][k];
        if (by_positive != 0) to_s[view(k)] += by_rest[end] * by_positive * std::exp(similarity[view(k)] - log_positive);
      }
      for (int64_t p = 0; p < moments; ++p) to_sums[p] += by_rest[end] * by_sums[p];
    }
  }
  return loss;
}

double hard_terms(const Options& options, const Weights& weights, int64_t rows, const double* s, const double* shift, const double* sums, Derivatives ds, double* d_full,
                  double* d_detached) {
  const int64_t views = options.views;
  const double positives = static_cast<double>(views - 1), negatives = static_cast<double>(rows - views), tau = options.hard_negative->tau_plus;
  const double floor = negatives * std::exp(log_unit(options) - 2);
  const auto logit = [&](int64_t v, int64_t w) { return s[v * views + w] - shift[v]; };
  double loss = 0;
  for (int64_t d = 0; d < views; ++d) {  // whose denominator
    double positive = 0;
    for (int64_t w = 0; w < views; ++w)
      if (w != d) positive += std::exp(logit(d, w)) / positives;
    const double negative = (sums[d] - tau * negatives * positive) / (1 - tau), denominator = positive + std::max(negative, floor), log_denominator = std::log(denominator);
    double by_log[2] = {0, 0};
    for (int64_t other = 0; other < views; ++other) {
      if (other == d) continue;
      // l_ij = -log(E_ij / denominator): row i's in form rocl, row j's in form advcl.
      const int64_t row = options.form == Form::RoCL ? d : other, column = options.form == Form::RoCL ? other : d, cell = row * views + column;
      loss += (weights.full[cell] + weights.detached[cell]) * (log_denominator - logit(row, column));
      by_log[0] += weights.full[cell], by_log[1] += weights.detached[cell];
      ds.full[cell] -= weights.full[cell], ds.detached[cell] -= weights.detached[cell];
    }
    for (int end = 0; end < 2; ++end) {
      const double by_denominator = by_log[end] / denominator;
      const bool above = negative > floor;
      (end ? d_detached : d_full)[d] += above ? by_denominator / (1 - tau) : 0;
      const double by_positive = by_denominator * (above ? 1 - tau * negatives / (1 - tau) : 1) / positives;
      for (int64_t w = 0; w < views; ++w)
        if (w != d) (end ? ds.detached : ds.full)[d * views + w] += by_positive * std::exp(logit(d, w));
    }
  }
  return loss;
}

}  // namespace a_infonce::objective

// The O(n) algebra of the forms: from the similarities within one image and its rows' sums to the loss and its derivatives, in float64.
#pragma once
#include <cmath>
#include <cstdint>
#include "kernels/host_device.h"

namespace a_infonce::kernels {

enum class Form { Paper, AdvCL, RoCL };

/// What says how a form weighs its terms.
struct Weighing {
  Form form;
  int64_t views, rows, adversarial;  // view; -1: none
  bool inferior;                     // positives: alpha counts
  double alpha, weight, positive_weight, temperature;
};
/// Of the term l of an anchor of view `row` and its positive of view `column`: through both ends of the pair and through the anchor's own end, divided by whatever the form
/// divides by; and log p of the paper's positives.
struct PairWeight {
  double full, detached, log_positive;
};
A_INFONCE_HOST_DEVICE inline PairWeight weight_of(const Weighing& by, int64_t row, int64_t column) {
  if (row == column) return {0, 0, 0};
  const double n = static_cast<double>(by.rows), w = by.weight, pairs = n * static_cast<double>(by.views - 1);
  if (by.form == Form::Paper) {
    const bool cross = (row == by.adversarial) != (column == by.adversarial);
    return {(cross ? w : 1) / pairs, 0, cross ? std::log(by.positive_weight) : 0};
  }
  if (by.form == Form::AdvCL) {
    const double scale = by.temperature / 0.07 / pairs;
    // No alpha: the clean -> adversarial terms are replaced by the adversarial -> clean ones; published runs carry this.
    if (!by.inferior) return {scale * (!column ? 0 : row ? 1 : w + w * w), 0, 0};
    const double weight = scale * (row && column ? 1 : 2 * w * (row ? by.alpha : 1 - by.alpha));
    return row && column ? PairWeight{weight, 0, 0} : PairWeight{0, weight, 0};
  }
  return {0, (by.views == 2 || !by.inferior || (row != 2 && column != 2) ? 1 : w * (row == 2 ? 1 - by.alpha : by.alpha)) / n, 0};
}

/// What negatives weigh: the same; or, with hard negatives, e^{beta s} over its mean, and positives among them, a share tau_plus, are taken out.
struct NegativeWeights {
  bool hard;
  double beta, tau_plus, temperature;
};

/// An objective without labels.
struct Terms {
  int64_t views, rows;
  bool rocl;  // the form
  NegativeWeights negative;
  const double *full, *detached, *log_positive;  // weight_of(anchor's view, positive's view), row-major [views, views]
  bool any_full, any_detached;
};

/// One image's share. Matrices are [views, views] with unused diagonals, derivatives are added up.
struct Derivatives {
  double* full;      // d loss / d s_vw through both ends
  double* detached;  // through the end of v
};

/// log(e^a + e^b)
A_INFONCE_HOST_DEVICE inline double log_add(double a, double b) {
  const double top = a < b ? b : a, low = b < a ? b : a;
  return low == -INFINITY ? top : top + std::log1p(std::exp(low - top));
}

/// log of what the negatives of an anchor of the paper put into its denominator, and its derivatives by the logs of their sums and by log_positive =
/// log mean_{j in P} e^{s_j}. Plain: the log of their sum; with hard negatives log max((sum_k w_k e^{s_k} - tau |N| e^log_positive) / (1 - tau), |N| e^{-1/t}), the floor
/// being the least that |N| negatives can weigh. log_count = log |N|.
struct LogNegatives {
  double value, by_sums[2] = {1, 0}, by_positive = 0;
  A_INFONCE_HOST_DEVICE LogNegatives(const double* log_sums, double log_count, double log_positive, const NegativeWeights& negative) : value(log_sums[0]) {
    if (!negative.hard) return;
    const double tau = negative.tau_plus, floor = log_count - 1 / negative.temperature;
    const bool weighed = negative.beta != 0;
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
};

/// Form paper with labels.
struct LabelTerms {
  int64_t rows;
  double scale, weight, log_weight;  // of similarities; of the terms of pairs across kinds, and of such positives inside the logarithm
  NegativeWeights negative;
};
/// An anchor's share, times the number of anchors.
struct LabelTerm {
  double value;     // mean of l(i, j) over its positives
  double distance;  // a lower bound, to a factor, of the total variation between its softmax and its target
  double by_negatives[2] = {}, by_positives[2] = {};  // by the logs of its sums
  /// log_positives: of its sums over positives; or over those within its kind and over those across kinds, where these weigh otherwise (kinds = 2). log_negatives as in
  /// LogNegatives, -infinity where sums over positives hold negatives too. Of `count` positives `crosses` are across kinds; within and across: sums of <z_i, z_j> over both
  /// sorts; bound: of |s|.
  A_INFONCE_HOST_DEVICE LabelTerm(const LabelTerms& terms, int64_t count, int64_t crosses, double within, double across, double bound, const double* log_positives, int kinds, const double* log_negatives) {
    const double log_count = std::log(static_cast<double>(count));
    double log_positive = -INFINITY, log_weighed = -INFINITY;
    const auto weighed = [&](int k) { return log_positives[k] + (k == 1 ? terms.log_weight : 0); };
    for (int k = 0; k < kinds; ++k) log_positive = log_add(log_positive, log_positives[k]), log_weighed = log_add(log_weighed, weighed(k));
    const LogNegatives rest(log_negatives, std::log(static_cast<double>(terms.rows - 1 - count)), log_positive - log_count, terms.negative);
    const double log_share = terms.negative.hard ? log_count : 0, log_mean = log_weighed - log_share, log_denominator = log_add(log_mean, rest.value);

    const double crossing = terms.weight * static_cast<double>(crosses), total = static_cast<double>(count - crosses) + crossing, by_denominator = total / static_cast<double>(count);
    const double by_mean = by_denominator * std::exp(log_mean - log_denominator), by_rest = rest.value == -INFINITY ? 0 : by_denominator * std::exp(rest.value - log_denominator);
    for (int p = 0; p < 2; ++p) by_negatives[p] = by_rest * rest.by_sums[p];
    for (int k = 0; k < kinds; ++k)
      if (log_positives[k] != -INFINITY) by_positives[k] = by_mean * std::exp(weighed(k) - log_weighed) + by_rest * rest.by_positive * std::exp(log_positives[k] - log_positive);
    // Targets are shares of the term's weights: 1 / total, and weight / total across kinds.
    const double sum = total * log_denominator - crossing * terms.log_weight - terms.scale * (within + terms.weight * across);
    const double log_target = -std::log(total) + (crossing > 0 ? crossing * std::log(terms.weight) / total : 0);
    // What the softmax gives to negatives; or Kullback and Leibler's divergence over the largest logarithm of a ratio, since one far positive alone makes that large.
    const double share = std::exp(rest.value - log_denominator), divergence = (total > 0 ? sum / total + log_share + log_target : static_cast<double>(INFINITY)) / (1 + 2 * bound);
    value = sum / static_cast<double>(count), distance = share < divergence ? divergence : share;
  }
};
/// An anchor whose softmax is this close to its target has tight positives: its sums over them are those of float64 rows, whatever the features are.
constexpr double tight_distance = 1.0 / 16;

/// An anchor with one positive, of similarity x, and negatives that are nobody's positives (a queue).
struct QueueTerm {
  double value, by_x, by_sums[2];
  A_INFONCE_HOST_DEVICE QueueTerm(double x, const double* log_sums, double log_count, const NegativeWeights& negative) {
    const LogNegatives rest(log_sums, log_count, x, negative);
    // -log(e^x / (e^x + e^rest)) = softplus(rest - x)
    const double y = rest.value - x, decay = std::exp(-std::abs(y)), slope = (y > 0 ? 1 : decay) / (1 + decay);
    value = (y < 0 ? 0 : y) + std::log1p(decay), by_x = slope * (rest.by_positive - 1);
    for (int p = 0; p < 2; ++p) by_sums[p] = slope * rest.by_sums[p];
  }
};

namespace terms {
A_INFONCE_HOST_DEVICE inline double log_sum(const double* x, int64_t count) {
  double top = x[0], sum = 0;
  for (int64_t k = 1; k < count; ++k) top = top < x[k] ? x[k] : top;
  for (int64_t k = 0; k < count; ++k) sum += std::exp(x[k] - top);
  return top + std::log(sum);
}
/// out[k] = log sum_{l != k} e^{x_l}, from the sums before k and after it.
A_INFONCE_HOST_DEVICE inline void log_sums_of_others(const double* x, int64_t count, double* out) {
  double sum = -INFINITY;
  for (int64_t k = 0; k < count; ++k) out[k] = sum, sum = log_add(sum, x[k]);
  sum = -INFINITY;
  for (int64_t k = count - 1; k >= 0; --k) out[k] = log_add(out[k], sum), sum = log_add(sum, x[k]);
}
/// out[l] += e^{x_l} sum_{k != l} g_k e^{-others_k}, g >= 0, where others_k >= x_l for every l != k: no factor leaves the range. The k whose others are the
/// least is the reference of all rows but its own.
A_INFONCE_HOST_DEVICE inline void add_from_others(const double* x, const double* others, const double* g, int64_t count, double* out) {
  int64_t least = 0;
  for (int64_t k = 1; k < count; ++k)
    if (others[k] < others[least]) least = k;
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
}  // namespace terms

/// Numbers of scratch memory that plain_terms needs.
A_INFONCE_HOST_DEVICE constexpr int64_t terms_scratch(int64_t views) { return 7 * (views - 1); }

/// Forms without the released hard negatives. log_sums: `moments` a row, one or with weighed negatives two: log sum_{negatives} e^{p s}, for each view of the image;
/// derivatives by them go to d_full and d_detached of the same layout [views * moments].
A_INFONCE_HOST_DEVICE inline double plain_terms(const Terms& terms, int64_t moments, const double* s, const double* log_sums, Derivatives ds, double* d_full, double* d_detached, double* scratch) {
  const int64_t views = terms.views, positives = views - 1;
  const bool hard = terms.negative.hard, rocl = terms.rocl;
  const double log_count = std::log(static_cast<double>(terms.rows - views)), log_c = hard ? -std::log(static_cast<double>(positives)) : 0;
  const double log_epsilon = std::log(1e-8);
  double *x = scratch, *by_x[2] = {x + positives, x + 2 * positives}, *slopes[2] = {x + 3 * positives, x + 4 * positives}, *others = x + 5 * positives, *plain = x + 6 * positives;
  double loss = 0;
  for (int64_t v = 0; v < views; ++v) {
    const auto view = [v](int64_t k) { return k + (k >= v); };  // the view of positive k
    const double* similarity = s + v * views;
    for (int64_t k = 0; k < positives; ++k) x[k] = similarity[view(k)] + terms.log_positive[v * views + view(k)] + log_c;
    const double* sums = log_sums + v * moments;
    // rest: log of what the negatives put into the denominator
    double log_positive = 0;
    if (hard) {
      for (int64_t k = 0; k < positives; ++k) plain[k] = similarity[view(k)];
      log_positive = terms::log_sum(plain, positives);
    }
    const LogNegatives negatives(sums, log_count, log_positive + log_c, terms.negative);
    const double by_positive = negatives.by_positive;
    double rest = negatives.value, by_sums[2] = {negatives.by_sums[0], negatives.by_sums[1]};
    if (rocl) {  // the released denominator has + 1e-8
      rest = log_add(sums[0], log_epsilon);
      by_sums[0] = std::exp(sums[0] - rest);
    }
    double by_rest[2] = {0, 0};
    for (int64_t k = 0; k < 4 * positives; ++k) by_x[0][k] = 0;  // the slopes too
    terms::log_sums_of_others(x, positives, others);
    for (int64_t k = 0; k < positives; ++k) others[k] = log_add(rest, others[k]);
    for (int64_t k = 0; k < positives; ++k) {
      const double share[2] = {terms.full[v * views + view(k)], terms.detached[v * views + view(k)]};
      if (share[0] == 0 && share[1] == 0) continue;
      // l = -log(e^x_k / (c (sum_l e^x_l) + e^rest)), x holding log c here, as log c + softplus(log of the others - x_k), never log of a sum minus x: it keeps its
      // relative precision, derivative included, when positive k outweighs everything else.
      const double y = others[k] - x[k], decay = std::exp(-std::abs(y)), value = log_c + (y < 0 ? 0 : y) + std::log1p(decay);
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
      if (positives > 1 && (end ? terms.any_detached : terms.any_full)) terms::add_from_others(x, others, slopes[end], positives, by_x[end]);
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

/// The released hard negatives: E = e^{s - shift}, sums_i = sum_j imp_ij En_ij / m_j in units of E, as everything is. Where E = exp(S) (form rocl), that unit is e^{1/t}: no
/// overflow at any temperature. Derivatives by the sums: d_full and d_detached [views].
A_INFONCE_HOST_DEVICE inline double hard_terms(const Terms& terms, const double* s, const double* shift, const double* sums, Derivatives ds, double* d_full, double* d_detached) {
  const int64_t views = terms.views;
  const double positives = static_cast<double>(views - 1), negatives = static_cast<double>(terms.rows - views), tau = terms.negative.tau_plus;
  const double floor = negatives * std::exp((terms.rocl ? -1 / terms.negative.temperature : 0) - 2);
  const auto logit = [&](int64_t v, int64_t w) { return s[v * views + w] - shift[v]; };
  double loss = 0;
  for (int64_t d = 0; d < views; ++d) {  // whose denominator
    double positive = 0;
    for (int64_t w = 0; w < views; ++w)
      if (w != d) positive += std::exp(logit(d, w)) / positives;
    const double negative = (sums[d] - tau * negatives * positive) / (1 - tau), denominator = positive + (negative < floor ? floor : negative), log_denominator = std::log(denominator);
    double by_log[2] = {0, 0};
    for (int64_t other = 0; other < views; ++other) {
      if (other == d) continue;
      // l_ij = -log(E_ij / denominator): row i's in form rocl, row j's in form advcl.
      const int64_t row = terms.rocl ? d : other, column = terms.rocl ? other : d, cell = row * views + column;
      loss += (terms.full[cell] + terms.detached[cell]) * (log_denominator - logit(row, column));
      by_log[0] += terms.full[cell], by_log[1] += terms.detached[cell];
      ds.full[cell] -= terms.full[cell], ds.detached[cell] -= terms.detached[cell];
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

}  // namespace a_infonce::kernels

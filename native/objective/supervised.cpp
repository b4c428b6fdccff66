// A-InfoNCE as the paper writes it (arXiv 2207.08374, equations 4 to 10) with labels: all rows of a class are positives of one another.
#include "objective/supervised.h"
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <cmath>
#include <numeric>
#include <span>
#include "error.h"
#include "objective/algebra.h"
#include "objective/backend.h"
#include "objective/evaluation.h"
#include "objective/rows.h"
#include "objective/terms.h"
#include "ops/similarity.h"

namespace a_infonce::objective {

using at::Tensor;

namespace {

/// Numbers from 0 of the classes of the images.
std::vector<int32_t> classes_of(const Tensor& labels) {
  const Tensor wide = labels.to(at::kLong).contiguous();
  const std::vector<int64_t> given(wide.const_data_ptr<int64_t>(), wide.const_data_ptr<int64_t>() + wide.numel());
  std::vector<int64_t> sorted = given;
  std::sort(sorted.begin(), sorted.end());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  std::vector<int32_t> classes;
  for (const int64_t label : given) classes.push_back(static_cast<int32_t>(std::lower_bound(sorted.begin(), sorted.end(), label) - sorted.begin()));
  return classes;
}

/// Rows lie in the order of their classes, clean ones first: pairs of one class and kind are few blocks. Pairs that weigh the same have one sum, found with all others in
/// one pass. Where an anchor has tight positives (kernels::tight_distance), which cancel in log_denominator - s and in the gradient, sums over positives are those of
/// float64 rows.
template <typename T>
class Supervised final : public HostEvaluation {
  const Options options;
  const int64_t n, d;
  const double scale;
  Rows<T> rows;
  ops::Pairs<T> pairs;
  std::vector<int64_t> order;               // row by row of the kernels
  std::vector<int64_t> cells;               // first row of each (kind, class), in that order
  double bound = 0;                         // of |s|
  bool apart;                               // negatives have sums of their own
  std::vector<ops::Moments<T>> sums;        // those, then over pairs of weight 1 and, where they weigh otherwise, over positives across kinds
  std::optional<ops::Pairs<double>> wide;   // where T is too coarse for the positives
  std::vector<ops::Moments<double>> exact;  // their sums then
  int64_t used = 0;                         // rows with a positive

  ops::CrossFactors factors() const {
    const double alpha = options.alpha.value_or(0.5);
    return {2 * alpha, 2 * (1 - alpha)};
  }
  int64_t classes() const { return static_cast<int64_t>(cells.size()) / 2; }
  int64_t size(int64_t kind, int64_t group) const { return cells[kind * classes() + group + 1] - cells[kind * classes() + group]; }
  /// Other rows of a class.
  int64_t positives_of(int64_t group) const { return size(0, group) + size(1, group) - 1; }
  /// body(kind, index) for the rows of a class.
  template <typename Body>
  void for_rows(int64_t group, const Body& body) const {
    for (int64_t kind = 0; kind < 2; ++kind)
      for (int64_t r = cells[kind * classes() + group]; r < cells[kind * classes() + group + 1]; ++r) body(kind, order[r]);
  }
  /// body(group, sums of z over its clean rows and over its adversarial rows) for every class.
  template <typename Body>
  void for_classes(const Body& body) const {
    ops::for_blocks(classes(), n * d, [&](int64_t group) {
      std::vector<double> sums(2 * d);
      for_rows(group, [&](int64_t kind, int64_t i) { rows.add(1, rows.rows[i], &sums[kind * d]); });
      body(group, sums.data());
    });
  }

  /// To `to`: sums over the positives, and over other pairs too.
  template <typename U>
  void enter_positives(int32_t others, std::vector<ops::Moments<U>>& to) const {
    const bool alike = options.positive_weight == 1;
    to.emplace_back(others | kernels::PositiveSameKind | (alike ? kernels::PositiveCrossKind : 0), std::vector<double>{1}, pairs.rows, bound);
    if (!alike) to.emplace_back(kernels::PositiveCrossKind, std::vector<double>{1}, pairs.rows, bound);
  }
  template <typename U>
  static void find(std::vector<ops::Moments<U>>& sums, const ops::Pairs<U>& pairs) {
    sums.front().add(pairs, ops::every_pair, nullptr, 0, std::span(sums).subspan(1));
  }
  /// From here on sums have derivatives.
  template <typename U>
  void settle(std::vector<ops::Moments<U>>& sums, const ops::Pairs<U>& pairs) const {
    for (auto& each : sums) {
      if (each.bounded && !each.in_range(n)) each.run(pairs, pairs.blocks);
      each.clear_derivatives();
    }
  }

 public:
  Supervised(const Tensor& features, const Options& options, bool differentiable)
      : options(options), n(features.size(0)), d(features.size(1)), scale(1 / options.temperature), rows(n, d, options), pairs({n}, d, scale), order(n), apart(options.hard_negative.has_value()) {
    const auto classes = classes_of(*options.labels);
    const auto batch = static_cast<int64_t>(classes.size()), adversarial = options.adversarial_view.value_or(-1);
    const int32_t groups = *std::max_element(classes.begin(), classes.end()) + 1;
    cells.assign(2 * groups + 1, 0);
    const auto cell = [&](int32_t code) { return (code & 1) * groups + (code >> 1); };
    for (int64_t i = 0; i < n; ++i) {
      auto& row = rows.rows[i];
      row.x = features.const_data_ptr<T>() + i * d, row.code = 2 * classes[i % batch] + (i / batch == adversarial);
      ++cells[cell(row.code) + 1];
    }
    std::partial_sum(cells.begin(), cells.end(), cells.begin());
    std::vector<int64_t> next(cells);
    for (int64_t i = 0; i < n; ++i) order[next[cell(rows.rows[i].code)]++] = i;
    for (int64_t r = 0; r < n; ++r) rows.rows[order[r]].place = pairs.place(0, r);
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t count = positives_of(group);
      if (count > 0) used += count + 1;
      if (options.hard_negative && count > 0) require_range(n - 1 - count > 0, "options.hardNegative", "a row of another label for every anchor", "one label only");
    }
    require_positives(used > 0);

    const double largest_square = rows.pack(pairs);
    if (!std::isfinite(largest_square)) ops::require_finite_rows(features, "features");
    check_precision(largest_square, features.scalar_type(), options);
    bound = scale * largest_square;
    if (apart) sums.emplace_back(kernels::Negatives, powers_of(options), pairs.rows, bound);
    enter_positives(apart ? 0 : kernels::Negatives, sums);
    find(sums, pairs);
    const bool fine = sizeof(T) == 8 || std::all_of(sums.begin() + apart, sums.end(), [&](const auto& each) { return each.in_range(n); });
    if (fine) settle(sums, pairs);
    if constexpr (sizeof(T) == 8) evaluate(std::span(sums).subspan(apart));
    else if (!fine || !(evaluate(std::span(sums).subspan(apart)) > kernels::tight_distance)) {
      sums.erase(sums.begin() + apart, sums.end());
      if (!apart) apart = true, sums.emplace_back(kernels::Negatives, powers_of(options), pairs.rows, bound), find(sums, pairs);
      settle(sums, pairs);
      rows.pack(wide.emplace(std::vector<int64_t>{n}, d, scale));
      enter_positives(0, exact);
      find(exact, *wide), settle(exact, *wide);
      evaluate(std::span(exact));
    }
    if (!differentiable) pairs.release(), wide.reset();
  }

 private:
  /// The loss and its derivatives by the sums. Returns the least distance of an anchor's softmax from its target.
  template <typename U>
  double evaluate(std::span<ops::Moments<U>> positives) {
    std::vector<double> losses(classes()), distances(classes(), INFINITY);
    for_classes([&](int64_t group, const double* by_kind) {
      const int64_t count = positives_of(group);
      if (count == 0) return;
      std::vector<double> z(d), others(d);
      for_rows(group, [&](int64_t kind, int64_t i) {
        const auto& row = rows.rows[i];
        std::fill(z.begin(), z.end(), 0.0);
        rows.add(1, row, z.data());
        for (int64_t k = 0; k < d; ++k) others[k] = by_kind[kind * d + k] - z[k];
        const auto dot = kernels::similarity<double>().dot;
        const kernels::LabelTerm term = term_of(row.place, count, size(1 - kind, group), dot(z.data(), others.data(), d), dot(z.data(), by_kind + (1 - kind) * d, d), positives);
        losses[group] += term.value, distances[group] = std::min(distances[group], term.distance);
      });
    });
    loss = 0;
    for (const double part : losses) loss += part / static_cast<double>(used);
    return *std::min_element(distances.begin(), distances.end());
  }
  /// The share of a row; its derivatives by the sums are set.
  template <typename U>
  kernels::LabelTerm term_of(int64_t place, int64_t count, int64_t crosses, double within, double across, std::span<ops::Moments<U>> positives) {
    double log_positives[2], log_negatives[2] = {-INFINITY, -INFINITY};
    for (size_t k = 0; k < positives.size(); ++k) log_positives[k] = positives[k].log_sum(0, place);
    for (int64_t p = 0; apart && p < sums[0].count(); ++p) log_negatives[p] = sums[0].log_sum(p, place);
    const kernels::LabelTerms terms{n, scale, options.weight, std::log(options.positive_weight), negative_of(options)};
    const kernels::LabelTerm term(terms, count, crosses, within, across, bound, log_positives, static_cast<int>(positives.size()), log_negatives);
    for (int64_t p = 0; apart && p < sums[0].count(); ++p) sums[0].set_derivative(p, place, term.by_negatives[p] / static_cast<double>(used), 0);
    for (size_t k = 0; k < positives.size(); ++k) positives[k].set_derivative(0, place, term.by_positives[k] / static_cast<double>(used), 0);
    return term;
  }

 public:
  std::vector<Tensor> gradients(double by_loss) override {
    const Tensor by_sums = at::zeros({pairs.rows, pairs.padded_d}, at::CppTypeToScalarType<T>::value), by_exact = wide ? at::zeros({pairs.rows, pairs.padded_d}, at::kDouble) : Tensor();
    T* given = by_sums.mutable_data_ptr<T>();
    sums[0].add_gradient(pairs, factors(), ops::every_pair, pairs.blocks, given, std::span<const ops::Moments<T>>(sums).subspan(1));
    double* given_exactly = wide ? by_exact.mutable_data_ptr<double>() : nullptr;
    if (wide) exact[0].add_gradient(*wide, factors(), ops::every_pair, pairs.blocks, given_exactly, std::span<const ops::Moments<double>>(exact).subspan(1));
    const Tensor result = at::empty({n, d}, by_sums.options());
    T* out = result.mutable_data_ptr<T>();
    for_classes([&](int64_t group, const double* z) {
      // sum_i -within_i and so on, twice: each pair is a term of both of its rows.
      const int64_t count = positives_of(group);
      const double factor = count == 0 ? 0 : -2 * scale / static_cast<double>(count * used), ends[2] = {factors().clean, factors().adversarial};
      std::vector<double> g(d);
      for_rows(group, [&](int64_t kind, int64_t i) {
        const auto& row = rows.rows[i];
        const double across = options.weight * ends[kind];
        for (int64_t k = 0; k < d; ++k) g[k] = factor * (z[kind * d + k] + across * z[(1 - kind) * d + k]);
        rows.add(-factor, row, g.data());
        kernels::similarity<T>().add(scale, given + row.place * pairs.padded_d, d, g.data());
        if (wide) kernels::similarity<double>().add(scale, given_exactly + row.place * pairs.padded_d, d, g.data());
        rows.back(row, g.data(), by_loss, out + i * d);
      });
    });
    return {result};
  }
};

}  // namespace

Tensor supervised(const Tensor& features, const Options& options) {
  return evaluated([&](const std::vector<Tensor>& inputs, const std::vector<bool>& wanted) -> c10::intrusive_ptr<Evaluation> {
    if (const auto* device = backend(inputs[0].device().type())) return device->supervised(inputs[0], options, wanted[0]);
    if (inputs[0].scalar_type() == at::kFloat) return c10::make_intrusive<Supervised<float>>(inputs[0], options, wanted[0]);
    return c10::make_intrusive<Supervised<double>>(inputs[0], options, wanted[0]);
  }, features.scalar_type(), features);
}

}  // namespace a_infonce::objective

// A-InfoNCE as the paper writes it (arXiv 2207.08374, equations 4 to 10) with labels: all rows of a class are positives of one another.
#include "objective/supervised.h"
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <cmath>
#include <numeric>
#include "error.h"
#include "objective/algebra.h"
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

/// Rows lie in the order of their classes, and in those of their kinds, clean ones first: pairs of one class are few blocks. Their sums are of float64 rows,
/// whatever the features are: tight positives cancel in log_denominator - s.
template <typename T>
class Supervised final : public HostEvaluation {
  const Options options;
  const int64_t n, d;
  const double scale;
  Rows<T> rows;
  ops::Pairs<T> pairs;
  std::optional<ops::Pairs<double>> wide;  // where T is not float64; for the gradient, where T is too coarse for it
  std::vector<int64_t> order;              // row by row of the kernels
  std::vector<int64_t> cells;              // first row of each (class, kind), in that order
  std::optional<ops::Moments<T>> negatives;
  std::vector<ops::Moments<double>> positives;  // all of them; or those within a kind and those across, where they weigh differently
  int64_t used = 0;                        // rows with a positive
  double bound = 0;                        // of |s|
  double least_share = 1;                  // of the negatives in a denominator

  ops::Pairs<double>& exact() {
    if constexpr (sizeof(T) == 8) return pairs;
    else return *wide;
  }
  /// Whether products in the features' precision will do for the positives' gradient: what each sum over them takes back of it leaves enough of it, and the sums
  /// stay in its range, as in ops::Moments::in_range.
  bool coarse() const {
    constexpr double enough = 1.0 / 16;
    const double least = ops::reference_of<T>(bound, {1}) + std::log(static_cast<double>(n) * 0x1p-100);
    return sizeof(T) != 8 && least_share > enough && std::all_of(positives.begin(), positives.end(), [&](const auto& moments) {
      return std::all_of(order.begin(), order.end(), [&](int64_t i) {
        const double log_sum = moments.log_sum(0, rows.rows[i].place);
        return log_sum == -INFINITY || log_sum >= least;
      });
    });
  }
  ops::CrossFactors factors() const {
    const double alpha = options.alpha.value_or(0.5);
    return {2 * alpha, 2 * (1 - alpha)};
  }
  int64_t classes() const { return static_cast<int64_t>(cells.size()) / 2; }
  int64_t size(int64_t cell) const { return cells[cell + 1] - cells[cell]; }
  /// Other rows of a class.
  int64_t positives_of(int64_t group) const { return cells[2 * group + 2] - cells[2 * group] - 1; }
  auto pairs_of_one_class() const {
    return [this](int64_t I, int64_t J) {  // I <= J, and rows are in order
      const int64_t last = I * kernels::block_rows + pairs.sizes[I] - 1;
      return pairs.codes[last] >> 1 == pairs.codes[J * kernels::block_rows] >> 1 || I == J ? kernels::BothEnds : 0;
    };
  }
  /// The same derivatives for the features' precision.
  ops::Moments<T> narrowed(const ops::Moments<double>& exact) const {
    ops::Moments<T> result(exact.selection, exact.powers, exact.rows, bound);
    result.clear_derivatives();
    const double unit = std::exp(result.reference - exact.reference);
    for (int64_t r = 0; r < exact.rows; ++r) result.own[0][r] = static_cast<T>(unit * exact.own[0][r]), result.other[0][r] = static_cast<T>(unit * exact.other[0][r]);
    return result;
  }
  /// body(group, sums of z over its clean rows and over its adversarial rows) for every class with a positive.
  template <typename Body>
  void for_classes(const Body& body) const {
    ops::for_blocks(classes(), n * d, [&](int64_t group) {
      if (positives_of(group) == 0) return;
      std::vector<double> sums(2 * d);
      for (int64_t kind = 0; kind < 2; ++kind)
        for (int64_t r = cells[2 * group + kind]; r < cells[2 * group + kind + 1]; ++r) rows.add(1, rows.rows[order[r]], &sums[kind * d]);
      body(group, sums.data());
    });
  }

 public:
  Supervised(const Tensor& features, const Options& options, bool differentiable)
      : options(options), n(features.size(0)), d(features.size(1)), scale(1 / options.temperature), rows(n, d, options), pairs({n}, d, scale), order(n) {
    const auto classes = classes_of(*options.labels);
    const auto batch = static_cast<int64_t>(classes.size()), adversarial = options.adversarial_view.value_or(-1);
    cells.assign(2 * (*std::max_element(classes.begin(), classes.end()) + 1) + 1, 0);
    for (int64_t i = 0; i < n; ++i) {
      auto& row = rows.rows[i];
      row.x = features.const_data_ptr<T>() + i * d, row.code = 2 * classes[i % batch] + (i / batch == adversarial);
      ++cells[row.code + 1];
    }
    std::partial_sum(cells.begin(), cells.end(), cells.begin());
    std::vector<int64_t> next(cells);
    for (int64_t i = 0; i < n; ++i) order[next[rows.rows[i].code]++] = i;
    for (int64_t r = 0; r < n; ++r) rows.rows[order[r]].place = pairs.place(0, r);
    for (int64_t group = 0; group < this->classes(); ++group) {
      const int64_t count = positives_of(group);
      if (count > 0) used += count + 1;
      if (options.hard_negative && count > 0) require_range(n - 1 - count > 0, "options.hardNegative", "a row of another label for every anchor", "one label only");
    }
    require_range(used > 0, "options.labels", "at least two rows of one label", "no row with a positive");

    const double largest_square = rows.pack(pairs);
    if (!std::isfinite(largest_square)) ops::require_finite_rows(features, "features");
    check_precision(largest_square, features.scalar_type(), options);
    if constexpr (sizeof(T) != 8) rows.pack(wide.emplace(std::vector<int64_t>{n}, d, scale));
    bound = scale * largest_square;
    negatives.emplace(kernels::Negatives, powers_of(options), pairs.rows, bound);
    negatives->add(pairs, ops::every_pair);
    if (!negatives->in_range(n)) negatives->run(pairs, pairs.blocks);
    const auto positive_sums = [&](int32_t selection) {
      auto& sums = positives.emplace_back(selection, std::vector<double>{1}, pairs.rows, bound);
      sums.add(exact(), pairs_of_one_class());
      if (!sums.in_range(n)) sums.run(exact(), pairs.blocks);
      sums.clear_derivatives();
    };
    if (options.positive_weight == 1) positive_sums(kernels::PositiveSameKind | kernels::PositiveCrossKind);
    else positive_sums(kernels::PositiveSameKind), positive_sums(kernels::PositiveCrossKind);
    negatives->clear_derivatives();

    std::vector<double> losses(this->classes()), shares(this->classes(), 1);
    for_classes([&](int64_t group, const double* sums) {
      const int64_t count = positives_of(group);
      for (int64_t kind = 0; kind < 2; ++kind)
        for (int64_t r = cells[2 * group + kind]; r < cells[2 * group + kind + 1]; ++r)
          losses[group] += term(rows.rows[order[r]], count, size(2 * group + (1 - kind)), sums + kind * d, sums + (1 - kind) * d, shares[group]);
    });
    least_share = *std::min_element(shares.begin(), shares.end());
    for (const double part : losses) loss += part / static_cast<double>(used);
    if (!differentiable) pairs.release();
    if (!differentiable || coarse()) wide.reset();
  }

 private:
  /// The mean of l(i, j) over the positives of a row, `count` of them, `cross` across kinds; same and other: sums of z over the rows of its class, of its kind
  /// and of the other one. Its derivatives by the moments are set, and the least share of the negatives in a denominator.
  double term(const typename Rows<T>::Row& row, int64_t count, int64_t cross, const double* same, const double* other, double& least) {
    const double log_count = std::log(static_cast<double>(count)), log_weight = std::log(options.positive_weight);
    double logs[2], log_positive = -INFINITY, log_weighed = -INFINITY;
    for (size_t k = 0; k < positives.size(); ++k) {
      logs[k] = positives[k].log_sum(0, row.place);
      log_positive = kernels::log_add(log_positive, logs[k]), log_weighed = kernels::log_add(log_weighed, logs[k] + (k == 1 ? log_weight : 0));
    }
    double log_sums[2] = {};
    for (int64_t p = 0; p < negatives->count(); ++p) log_sums[p] = negatives->log_sum(p, row.place);
    const kernels::LogNegatives rest(log_sums, std::log(static_cast<double>(n - 1 - count)), log_positive - log_count, negative_of(options));
    const double log_mean = log_weighed - (options.hard_negative ? log_count : 0), log_denominator = kernels::log_add(log_mean, rest.value);

    std::vector<double> z(d);
    rows.add(1, row, z.data());
    double within = 0, across = 0;
    for (int64_t k = 0; k < d; ++k) within += z[k] * (same[k] - z[k]), across += z[k] * other[k];
    const double crossing = options.weight * static_cast<double>(cross), total = static_cast<double>(count - cross) + crossing;
    const double by_denominator = total / static_cast<double>(count * used), by_mean = by_denominator * std::exp(log_mean - log_denominator),
                 by_rest = rest.value == -INFINITY ? 0 : by_denominator * std::exp(rest.value - log_denominator);
    least = std::min(least, std::exp(rest.value - log_denominator));
    for (int64_t p = 0; p < negatives->count(); ++p) negatives->set_derivative(p, row.place, by_rest * rest.by_sums[p], 0);
    for (size_t k = 0; k < positives.size(); ++k)
      if (logs[k] != -INFINITY)
        positives[k].set_derivative(0, row.place, by_mean * std::exp(logs[k] + (k == 1 ? log_weight : 0) - log_weighed) + by_rest * rest.by_positive * std::exp(logs[k] - log_positive), 0);
    return (total * log_denominator - crossing * log_weight - scale * (within + options.weight * across)) / static_cast<double>(count);
  }

 public:
  std::vector<Tensor> gradients(double by_loss) override {
    const auto buffer = [&](at::ScalarType type) { return at::zeros({pairs.rows, pairs.padded_d}, type); };
    const Tensor by_negatives = buffer(at::CppTypeToScalarType<T>::value), by_positives = wide ? buffer(at::kDouble) : Tensor();
    T* sums = by_negatives.mutable_data_ptr<T>();
    negatives->add_gradient(pairs, factors(), ops::every_pair, pairs.blocks, sums);
    for (const auto& moments : positives)
      if constexpr (sizeof(T) == 8) moments.add_gradient(pairs, factors(), pairs_of_one_class(), pairs.blocks, sums);
      else if (!wide) narrowed(moments).add_gradient(pairs, factors(), pairs_of_one_class(), pairs.blocks, sums);
      else moments.add_gradient(*wide, factors(), pairs_of_one_class(), pairs.blocks, by_positives.mutable_data_ptr<double>());
    const Tensor result = at::empty({n, d}, by_negatives.options());
    T* out = result.mutable_data_ptr<T>();
    const double* exact_sums = by_positives.defined() ? by_positives.const_data_ptr<double>() : nullptr;
    const auto finish = [&](int64_t r, double* g) {  // g: what the row's positives give it directly
      const auto& row = rows.rows[order[r]];
      for (int64_t k = 0; k < d; ++k) {
        const int64_t at = row.place * pairs.padded_d + k;
        g[k] += scale * (sums[at] + (exact_sums ? exact_sums[at] : 0));
      }
      rows.back(row, g, by_loss, out + order[r] * d);
    };
    for_classes([&](int64_t group, const double* z) {
      // sum_i -within_i and so on, twice: each pair is a term of both of its rows.
      const double factor = -2 * scale / static_cast<double>(positives_of(group) * used), ends[2] = {factors().clean, factors().adversarial};
      std::vector<double> g(d);
      for (int64_t kind = 0; kind < 2; ++kind)
        for (int64_t r = cells[2 * group + kind]; r < cells[2 * group + kind + 1]; ++r) {
          for (int64_t k = 0; k < d; ++k) g[k] = factor * (z[kind * d + k] + options.weight * ends[kind] * z[(1 - kind) * d + k]);
          rows.add(-factor, rows.rows[order[r]], g.data());
          finish(r, g.data());
        }
    });
    for (int64_t group = 0; group < classes(); ++group)  // rows that are negatives only
      if (positives_of(group) == 0) {
        std::vector<double> g(d);
        finish(cells[2 * group], g.data());
      }
    return {result};
  }
};

}  // namespace

Tensor supervised(const Tensor& features, const Options& options) {
  return evaluated([&](const std::vector<Tensor>& inputs, const std::vector<bool>& wanted) -> c10::intrusive_ptr<Evaluation> {
    if (inputs[0].scalar_type() == at::kFloat) return c10::make_intrusive<Supervised<float>>(inputs[0], options, wanted[0]);
    return c10::make_intrusive<Supervised<double>>(inputs[0], options, wanted[0]);
  }, features.scalar_type(), features);
}

}  // namespace a_infonce::objective

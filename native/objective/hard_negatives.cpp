// The importances of negatives are divided by the mean over the *column's* row, so sums weigh sums: three passes forward, one back.
#include "objective/hard_negatives.h"
#include <cmath>
#include <limits>
#include "objective/backend.h"
#include "objective/images.h"

namespace a_infonce::objective {

using at::Tensor;

namespace {

template <typename T>
class ReleasedHardNegatives final : public Images<T> {
  using Base = Images<T>;
  using Base::batch, Base::by_detached, Base::by_full, Base::n, Base::options, Base::pairs, Base::place, Base::scale, Base::similarity, Base::terms, Base::views;
  double reference = 0;  // of the exponents
  std::vector<T> relative, weight, ones, own[2], other[2];

  kernels::HardExponential<T> exponential() const {
    const bool uniform = std::all_of(relative.begin(), relative.end(), [](T x) { return x == 1; });
    const double epsilon = importance_epsilon * std::exp(log_unit(options));
    return {options.hard_negative->beta, std::max<double>(epsilon, std::numeric_limits<T>::min()), reference, uniform, relative.data()};
  }
  void hard_sums(bool times_e, bool transposed, int count, const T* a, const T* b, double* sums, T* maximum) const {
    pairs.run(&kernels::SimilarityKernels<T>::hard_moments, kernels::HardMoments<T>{exponential(), times_e, transposed, count, {a, b}, sums, maximum}, ops::every_pair);
  }

 public:
  ReleasedHardNegatives(const Features& features, const Options& options, bool differentiable) : Base(features, options) {
    this->prepare();
    const int64_t cells = views * views;
    const bool subtract_maximum = options.form == Form::AdvCL;
    std::vector<double> shift(pairs.rows, scale);
    if (subtract_maximum)
      for (int64_t b = 0; b < batch; ++b)
        for (int64_t v = 0; v < views; ++v) {
          const double* s = &similarity[b * cells + v * views];
          shift[place(v, b)] = *std::max_element(s, s + views);
        }
    const auto shifted = [&] {
      reference = *std::max_element(shift.begin(), shift.begin() + n);
      relative.assign(pairs.rows, 1);
      for (int64_t r = 0; r < n; ++r) relative[r] = static_cast<T>(std::exp(reference - shift[r]));
    };
    shifted();
    ones.assign(pairs.rows, 1);
    std::vector<T> maximum(subtract_maximum ? pairs.rows : 0, -std::numeric_limits<T>::infinity());
    std::vector<double> importance(pairs.rows), sums(pairs.rows);
    hard_sums(false, false, 1, ones.data(), nullptr, importance.data(), subtract_maximum ? maximum.data() : nullptr);
    if (subtract_maximum) {  // the diagonal is the maximum unless an image appears twice, or a row is a little longer than another
      bool larger = false;
      for (int64_t r = 0; r < n; ++r)
        if (scale * maximum[r] > shift[r]) shift[r] = scale * maximum[r], larger = true;
      if (larger) {
        shifted();
        std::fill(importance.begin(), importance.end(), 0.0);
        hard_sums(false, false, 1, ones.data(), nullptr, importance.data(), nullptr);
      }
    }
    const double beta = options.hard_negative->beta, unit_epsilon = importance_epsilon * std::exp(log_unit(options));
    // q = 1 / m, m the mean over all columns: the positives and the row itself have En = 0.
    std::vector<double> q(n);
    weight.assign(pairs.rows, 0);
    for (int64_t r = 0; r < n; ++r) weight[r] = static_cast<T>(q[r] = static_cast<double>(n) / (importance[r] + static_cast<double>(views) * std::pow(unit_epsilon, beta)));
    hard_sums(true, false, 1, weight.data(), nullptr, sums.data(), nullptr);

    std::vector<double> d_full(n), d_detached(n), losses(this->chunks());
    by_full.assign(batch * cells, 0), by_detached.assign(batch * cells, 0);
    this->for_images([&](int64_t chunk, int64_t first, int64_t last) {
      std::vector<double> scratch(4 * views);
      double *shifts = scratch.data(), *totals = shifts + views, *full = totals + views, *detached = full + views;
      for (int64_t b = first; b < last; ++b) {
        for (int64_t v = 0; v < views; ++v) shifts[v] = shift[place(v, b)], totals[v] = sums[place(v, b)], full[v] = detached[v] = 0;
        losses[chunk] += hard_terms(terms, &similarity[b * cells], shifts, totals, {&by_full[b * cells], &by_detached[b * cells]}, full, detached);
        for (int64_t v = 0; v < views; ++v) d_full[place(v, b)] = full[v], d_detached[place(v, b)] = detached[v];
      }
    });
    for (double part : losses) this->loss += part;
    if (!differentiable) return;
    // Through the sums' weights q back to the importances' sums: what the weighed negatives of every row ask of q, by both kinds of derivative.
    for (int t = 0; t < 2; ++t) own[t].assign(pairs.rows, 0), other[t].assign(pairs.rows, 0);
    std::vector<T>&full = other[1], detached(pairs.rows);
    for (int64_t r = 0; r < n; ++r) full[r] = static_cast<T>(d_full[r]), detached[r] = static_cast<T>(d_detached[r]), own[1][r] = static_cast<T>(d_full[r] + d_detached[r]);
    std::vector<double> by_q(2 * pairs.rows);
    const int first = terms.any_full ? 0 : 1, count = terms.any_full && terms.any_detached ? 2 : 1;
    hard_sums(true, true, count, first == 0 ? full.data() : detached.data(), detached.data(), by_q.data() + first * pairs.rows, nullptr);
    for (int64_t r = 0; r < n; ++r) {
      const double slope = -q[r] * q[r] / static_cast<double>(n), by_full_sum = slope * by_q[r], by_detached_sum = slope * by_q[pairs.rows + r];
      other[0][r] = static_cast<T>(by_full_sum), own[0][r] = static_cast<T>(by_full_sum + by_detached_sum);
    }
  }

  /// Of a term of the kernels at the mean similarity.
  double derivative(bool times_e) const {
    const double beta = options.hard_negative->beta, e = std::exp(this->mean - reference), x = e + exponential().epsilon, power = std::pow(x, beta), ratio = beta * e / x;
    return power * (times_e ? e * (ratio + 1) : ratio);
  }
  typename Base::BySums by_sums() override {
    const Tensor result = this->no_gradient();
    kernels::HardMomentsGradient<T> task{exponential(), 2, {{false, ones.data(), own[0].data(), other[0].data()}, {true, weight.data(), own[1].data(), other[1].data()}}, result.template mutable_data_ptr<T>()};
    std::vector<typename CommonPart<T>::Centre> left_out;
    if (this->bf16)
      for (auto& term : task.terms) left_out.push_back({term.centre = derivative(term.times_e), term.own, term.other, term.weights});
    pairs.run(&kernels::SimilarityKernels<T>::hard_moments_gradient, task, ops::every_pair);
    return {result, nullptr, left_out};
  }
};

}  // namespace

Tensor released_hard_negatives(const Tensor& features, const Options& options) {
  // These sums cannot start again with a running maximum: float64 has their range.
  const bool wide = features.scalar_type() == at::kDouble || hard_depth(options, features.size(0)) > hard_range_float;
  return evaluated({wide ? features.to(at::kDouble) : features, {}}, features.scalar_type(), [&](const Features& rows, bool differentiable) -> c10::intrusive_ptr<Evaluation> {
    if (const auto* device = backend(rows.moving.device().type())) return device->released_hard_negatives(rows, options, differentiable);
    if (wide) return c10::make_intrusive<ReleasedHardNegatives<double>>(rows, options, differentiable);
    return c10::make_intrusive<ReleasedHardNegatives<float>>(rows, options, differentiable);
  });
}

}  // namespace a_infonce::objective

// The forms whose negatives are log moments: all but the released hard negatives.
#include "objective/fused.h"
#include <limits>
#include "objective/backend.h"
#include "objective/hard_negatives.h"
#include "objective/images.h"

namespace a_infonce::objective {

using at::Tensor;

namespace {

template <typename T>
class LogMomentForms final : public Images<T> {
  using Base = Images<T>;
  using Base::alone, Base::batch, Base::by_detached, Base::by_full, Base::d, Base::moving, Base::n, Base::options, Base::pairs, Base::place, Base::views, Base::terms;
  std::optional<ops::Moments<T>> negatives;
  std::vector<T> ones;
  Tensor attraction;  // where the columns are detached: sum_j e^{s_ij} z_j of the rows that move

  // The ends of a pair of blocks whose rows need sums (all those of a pair that holds moving ones) or gradients.
  int sum_ends(int64_t I) const { return I < moving ? kernels::BothEnds : 0; }
  int gradient_ends(int64_t I, int64_t J) const { return (I < moving ? kernels::First : 0) | (J < moving ? kernels::Second : 0); }

  /// Finds the sums of the first clean row again: ArgumentRange where those that were given are of other rows or other options.
  void check_sums(const double* clean) const {
    const auto& row = this->rows.rows[this->mover == 0 ? batch : 0];
    std::vector<double> s;
    for (int64_t v = 0; v < views; ++v)
      for (int64_t b = 1; v != this->mover && b < batch; ++b) s.push_back(this->scale * this->rows.dot(row, this->rows.rows[v * batch + b]));
    for (int64_t p = 0; p < negatives->count() && !s.empty(); ++p) {
      const double power = negatives->powers[p], top = power * *std::max_element(s.begin(), s.end());
      double sum = 0;
      for (const double each : s) sum += std::exp(power * each - top);
      const double rounding = 1e-3 + 16 * power * this->scale * this->largest_square * std::numeric_limits<T>::epsilon();
      objective::check_sums(std::abs(clean[p * (n - batch)] - top - std::log(sum)) <= rounding);
    }
  }

 public:
  /// clean: fused_clean_sums of the rows that stay.
  LogMomentForms(const Features& features, const Options& options, bool differentiable, const double* clean) : Base(features, options) {
    this->prepare();
    const auto powers = powers_of(options);
    negatives.emplace(kernels::Negatives, powers, pairs.rows, this->scale * this->largest_square);
    const int64_t count = negatives->count(), cells = views * views;
    for (int64_t p = 0; this->bf16 && p < count; ++p) negatives->centres[p] = std::exp(powers[p] * (this->mean - negatives->reference));
    if (clean) check_sums(clean);
    if (clean)
      for (int64_t v = 0, r = 0; v < views; ++v)
        for (int64_t b = 0; v != this->mover && b < batch; ++b, ++r)
          for (int64_t p = 0; p < count; ++p)
            negatives->sums[p * pairs.rows + place(v, b)] = std::exp(clean[p * (n - batch) + r] - powers[p] * negatives->reference);
    if (differentiable && !terms.any_full && count == 1) attraction = this->no_gradient();
    negatives->add(pairs, [this](int64_t I, int64_t) { return sum_ends(I); }, attraction.defined() ? attraction.mutable_data_ptr<T>() : nullptr, attraction.defined() ? moving : 0);
    if (!negatives->in_range(n)) {
      attraction.reset();
      if (this->bf16) this->leave_bf16();
      negatives->run(pairs, pairs.blocks);
    }
    if (attraction.defined() || !differentiable) pairs.release();

    if (differentiable) by_full.assign(batch * cells, 0), by_detached.assign(batch * cells, 0), negatives->clear_derivatives();
    std::vector<double> losses(this->chunks());
    this->for_images([&](int64_t chunk, int64_t first, int64_t last) {
      std::vector<double> scratch(3 * views * count + 2 * cells + kernels::terms_scratch(views));
      double *log_sums = scratch.data(), *d_full = log_sums + views * count, *d_detached = d_full + views * count, *unused = d_detached + views * count, *working = unused + 2 * cells;
      for (int64_t b = first; b < last; ++b) {
        for (int64_t v = 0; v < views; ++v)
          for (int64_t p = 0; p < count; ++p) log_sums[v * count + p] = negatives->log_sum(p, place(v, b));
        std::fill(d_full, unused, 0.0);
        const kernels::Derivatives ds = differentiable ? kernels::Derivatives{&by_full[b * cells], &by_detached[b * cells]} : kernels::Derivatives{unused, unused + cells};
        losses[chunk] += plain_terms(terms, count, &this->similarity[b * cells], log_sums, ds, d_full, d_detached, working);
        if (!differentiable) continue;
        for (int64_t v = 0; v < views; ++v)
          for (int64_t p = 0; p < count; ++p) negatives->set_derivative(p, place(v, b), d_full[v * count + p], d_detached[v * count + p]);
      }
    });
    for (double part : losses) this->loss += part;
  }

  typename Base::BySums by_sums() override {
    std::vector<typename CommonPart<T>::Centre> left_out;
    if (this->bf16) ones.assign(pairs.rows, 1);
    for (int64_t p = 0; this->bf16 && p < negatives->count(); ++p) left_out.push_back({negatives->centres[p], negatives->own[p].data(), negatives->other[p].data(), ones.data()});
    if (attraction.defined()) return {attraction, negatives->own[0].data(), left_out};
    const Tensor result = this->no_gradient();
    const double alpha = options.form == Form::Paper ? options.alpha.value_or(0.5) : 0.5;
    negatives->add_gradient(pairs, {2 * alpha, 2 * (1 - alpha)}, [this](int64_t I, int64_t J) { return gradient_ends(I, J); }, moving, result.mutable_data_ptr<T>());
    return {result, nullptr, left_out};
  }
};

Tensor log_moment_form(const Features& given, const Options& options, const std::optional<Tensor>& sums) {
  return evaluated(given, given.moving.scalar_type(), [&](const Features& features, bool differentiable) -> c10::intrusive_ptr<Evaluation> {
    if (const auto* device = backend(features.moving.device().type())) return device->log_moment_form(features, options, differentiable, sums);
    const double* clean = sums ? sums->const_data_ptr<double>() : nullptr;
    if (features.moving.scalar_type() == at::kFloat) return c10::make_intrusive<LogMomentForms<float>>(features, options, differentiable, clean);
    return c10::make_intrusive<LogMomentForms<double>>(features, options, differentiable, clean);
  });
}

template <typename T>
Tensor clean_sums(const Tensor& clean, const Options& options) {
  const int64_t n = clean.size(0), batch = n / (options.views - 1);
  Rows<T> rows(n, clean.size(1), options);
  ops::Pairs<T> pairs({n}, clean.size(1), 1 / options.temperature);
  for (int64_t i = 0; i < n; ++i) rows.rows[i].x = clean.const_data_ptr<T>() + i * clean.size(1), rows.rows[i].place = pairs.place(0, i), rows.rows[i].code = static_cast<int32_t>(2 * (i % batch));
  const double largest_square = rows.pack(pairs);
  if (!std::isfinite(largest_square)) ops::require_finite_rows(clean, "clean");
  check_precision(largest_square, clean.scalar_type(), options);
  ops::Moments<T> moments(kernels::Negatives, powers_of(options), pairs.rows, largest_square / options.temperature);
  moments.add(pairs, ops::every_pair);
  if (!moments.in_range(n)) moments.run(pairs, pairs.blocks);
  const Tensor result = at::empty({moments.count(), n}, at::kDouble);
  double* out = result.mutable_data_ptr<double>();
  for (int64_t p = 0; p < moments.count(); ++p)
    for (int64_t i = 0; i < n; ++i) out[p * n + i] = moments.log_sum(p, rows.rows[i].place);
  return result;
}

}  // namespace

Tensor fused(const Tensor& features, const Options& options) {
  return options.hard_negative && options.form != Form::Paper ? released_hard_negatives(features, options) : log_moment_form({features, {}}, options, {});
}

Tensor fused_adversaries(const Tensor& adversaries, const Tensor& clean, const Tensor& sums, const Options& options) {
  return log_moment_form({adversaries, clean}, options, sums.detach().contiguous());
}

Tensor fused_clean_sums(const Tensor& clean, const Options& options) {
  const Tensor rows = clean.detach().contiguous();
  if (const auto* device = backend(rows.device().type())) return device->clean_sums(rows, options);
  return rows.scalar_type() == at::kFloat ? clean_sums<float>(rows, options) : clean_sums<double>(rows, options);
}

}  // namespace a_infonce::objective

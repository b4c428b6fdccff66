// The objective on a CUDA device: the kernels of rooms rows, terms and similarity one after the other, and nothing that waits for the device but one read at the end (DeferredChecks).
#include "objective/backend.h"
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include "objective/cuda/evaluations.h"
#include "objective/cuda/rows.h"

namespace a_infonce::objective {
namespace {

using at::Tensor;
namespace cuda = kernels::cuda;
using cuda::Numbers;

bool centred(Products products) { return products == Products::Bf16 || products == Products::Bf16x3; }

/// What the forms have in common, as in objective/images.h.
template <typename T>
class DeviceImages : public Evaluation {
 protected:
  const Options options;
  const bool alone;
  const int64_t views, batch, n, d, moving;  // blocks whose rows move
  const Features features;
  Weights weights;
  const Products products;
  std::optional<Rows<T>> rows;
  kernels::Terms terms;
  Tensor table, similarity, by_full, by_detached, losses, scratch;
  double scale() const { return rows->scale; }
  const cuda::Places& places() const { return rows->z.places; }
  Tensor images(int64_t cells) const { return at::empty({batch, cells}, rows->of(at::kDouble)); }

  DeviceImages(const Features& given, const Options& options)
      : options(options), alone(given.fixed.has_value()), views(options.views), batch(given.moving.size(0) / (alone ? 1 : views)), n(views * batch), d(given.moving.size(1)),
        moving(Rows<T>::blocks_of(given.moving.size(0))), features(given), weights(weights_of(options, n)), products(products_of<T>(options, d)) {}

  void prepare(Stream stream) {
    const int64_t adversarial = adversarial_view(options);
    rows.emplace(features.moving, features.fixed.value_or(Tensor()), cuda::Places{batch, views, alone ? std::max<int64_t>(adversarial, 0) : -1, 0, adversarial}, options, products, stream);
    table = at::empty({3, views * views}, rows->of(at::kDouble));
    double* const full = table.mutable_data_ptr<double>();
    terms = weights.terms(options, n);
    terms.full = full, terms.detached = full + views * views, terms.log_positive = full + 2 * views * views;
    cuda::fill_weights(weighing_of(options, n), full, full + views * views, full + 2 * views * views, stream);
    similarity = images(views * views);
    const Tensor partials = centred(products) ? at::empty({cuda::partial_sums(batch)}, rows->of(at::kDouble)) : Tensor();
    cuda::similarities_within(rows->z, scale(), similarity.mutable_data_ptr<double>(), partials.defined() ? partials.mutable_data_ptr<double>() : nullptr, stream);
    losses = at::empty({cuda::terms_blocks(batch, views)}, rows->of(at::kDouble));
    scratch = at::empty({cuda::terms_workspace(batch, views)}, rows->of(at::kDouble));
    if (!centred(products)) return;
    const Tensor sums = at::empty({2, d}, rows->of(at::kDouble));
    const T* const ones = nullptr;
    sum_rows(1, &ones, sums, stream);
    cuda::find_mean(sums.const_data_ptr<double>(), d, partials.const_data_ptr<double>(), places(), scale(), rows->known(), stream);
  }
  void sum_rows(int count, const T* const* by, const Tensor& sums, Stream stream) const {
    const Tensor workspace = at::empty({cuda::row_sums_workspace(count, d)}, rows->of(at::kDouble));
    cuda::sum_rows(rows->z, count, by, workspace.mutable_data_ptr<double>(), sums.mutable_data_ptr<double>(), stream);
  }
  /// After the terms.
  void finish(Stream stream) {
    cuda::find_loss(losses.const_data_ptr<double>(), losses.size(0), rows->known(), stream);
    std::vector<std::pair<std::string, Tensor>> given{{alone ? "adversaries" : "features", features.moving}};
    if (alone) given.emplace_back("clean", *features.fixed);
    rows->check(options, given);
    losses.reset(), scratch.reset();
  }
  Tensor no_gradient() const { return rows->no_gradient(moving); }
  double alpha() const { return options.form == Form::Paper ? options.alpha.value_or(0.5) : 0.5; }

  /// What the loss sends to the kernels' rows through their sums; `centres`, own, other and weights as in cuda::RowGradient, where products leave something out.
  struct BySums {
    Tensor rows;
    const T* factors;  // of the rows, if they are to be kept as they are
    int centres;
    const T *own[2], *other[2], *weights[2];
  };
  virtual BySums by_sums(Stream stream) = 0;

 public:
  Tensor value(at::ScalarType dtype) const override { return rows->loss(dtype); }

  std::vector<Tensor> gradients(const Tensor& factor) override {
    Tensor result;
    ops::on_device_of(features.moving, [&](Stream stream) {
      const BySums sums = by_sums(stream);
      const Tensor by_loss = factor.to(at::kDouble).contiguous(), common = at::empty({2, sums.centres, 2, d}, rows->of(at::kDouble));
      if (sums.centres > 0) {
        const T* by[4] = {};
        for (int c = 0; c < sums.centres; ++c) by[2 * c] = sums.weights[c], by[2 * c + 1] = sums.other[c];
        sum_rows(2 * sums.centres, by, common, stream);
      }
      const int64_t count = features.moving.size(0), stride = sums.rows.size(1);
      result = !sums.factors && stride == d ? sums.rows.narrow(0, 0, count) : at::empty({count, d}, sums.rows.options());
      cuda::finish_gradient(rows->z, {sums.rows.template const_data_ptr<T>(), stride, sums.factors, by_full.template const_data_ptr<double>(), by_detached.template const_data_ptr<double>(), scale(), alpha(),
                                      sums.centres, {sums.own[0], sums.own[1]}, {sums.other[0], sums.other[1]}, {sums.weights[0], sums.weights[1]}, common.template const_data_ptr<double>(), rows->known(),
                                      by_loss.template const_data_ptr<double>(), result.template mutable_data_ptr<T>()}, stream);
    });
    return {result};
  }
};

template <typename T>
class DeviceLogMomentForm final : public DeviceImages<T> {
  using Base = DeviceImages<T>;
  using Base::alone, Base::batch, Base::moving, Base::n, Base::options, Base::products, Base::rows, Base::terms, Base::views;
  std::optional<ops::DeviceMoments<T>> negatives;
  Tensor attraction;  // where the columns are detached: sum_j e^{s_ij} z_j of the rows that move

 public:
  DeviceLogMomentForm(const Features& features, const Options& options, bool differentiable, const std::optional<Tensor>& known) : Base(features, options) {
    ops::on_device_of(features.moving, [&](Stream stream) {
      this->prepare(stream);
      negatives.emplace(*rows, kernels::Negatives, powers_of(options), surely_in_range<T>(bound_of(options), options), stream);
      const int64_t count = negatives->count();
      const double* const powers = negatives->powers.data();
      if (centred(products)) cuda::find_centres(static_cast<int>(count), powers, rows->known(), stream);
      if (differentiable && !terms.any_full && count == 1 && negatives->surely_bounded()) attraction = this->no_gradient();
      Visits visits = rows->first_blocks(rows->blocks);
      const Tensor ranges = alone ? at::empty({3 * rows->blocks + 1}, rows->of(at::kInt)) : Tensor();
      if (alone) {
        int32_t* const offsets = ranges.mutable_data_ptr<int32_t>();
        cuda::visit_moving(rows->blocks, moving, offsets, offsets + rows->blocks + 1, stream);
        visits.offsets = offsets, visits.ranges = offsets + rows->blocks + 1;
      }
      negatives->add(visits, stream, attraction.defined() ? attraction.mutable_data_ptr<T>() : nullptr, attraction.defined() ? moving : 0, centred(products) ? rows->known()->centres : nullptr);
      if (known) {
        const double* const sums = known->const_data_ptr<double>();
        const Tensor parts = at::empty({cuda::first_row_parts * static_cast<int64_t>(sizeof(cuda::FirstRowPart))}, rows->of(at::kByte));
        cuda::check_known_sums(rows->z, sums, static_cast<int>(count), powers, this->scale(), static_cast<cuda::FirstRowPart*>(parts.mutable_data_ptr()), rows->known(), stream);
        cuda::add_known_sums(sums, static_cast<int>(count), powers, this->places(), negatives->sums.template mutable_data_ptr<double>(), rows->rows, rows->known(), stream);
      }
      negatives->look(n, stream), negatives->run(rows->first_blocks(rows->blocks), stream);
      if (attraction.defined() || !differentiable) rows->release();

      cuda::LogMomentTerms<T> task{terms, this->places(), this->similarity.template const_data_ptr<double>(), {}, nullptr, nullptr};
      if (differentiable) {
        negatives->differentiate();
        this->by_full = this->images(views * views), this->by_detached = this->images(views * views);
        task.full = this->by_full.template mutable_data_ptr<double>(), task.detached = this->by_detached.template mutable_data_ptr<double>();
      }
      task.negatives = negatives->task();
      cuda::log_moment_terms(task, this->scratch.template mutable_data_ptr<double>(), this->losses.template mutable_data_ptr<double>(), stream);
      this->finish(stream);
      negatives->sums.reset();
    });
  }

  typename Base::BySums by_sums(Stream stream) override {
    const int64_t count = negatives->count();
    typename Base::BySums result{attraction, nullptr, centred(products) ? static_cast<int>(count) : 0, {}, {}, {}};
    for (int64_t p = 0; p < count; ++p) result.own[p] = negatives->own(p), result.other[p] = negatives->other(p);
    if (attraction.defined()) {
      result.factors = negatives->own(0);
      return result;
    }
    result.rows = this->no_gradient();
    negatives->add_gradient(rows->first_blocks(moving), {2 * this->alpha(), 2 * (1 - this->alpha())}, result.rows.template mutable_data_ptr<T>(), stream,
                            centred(products) ? rows->known()->centres : nullptr);
    return result;
  }
};

template <typename T>
class DeviceHardNegatives final : public DeviceImages<T> {
  using Base = DeviceImages<T>;
  using Base::batch, Base::options, Base::products, Base::rows, Base::terms, Base::views;
  Tensor wide, narrow, ones;  // numbers a row, of float64 and of the kernels
  cuda::HardTerms<T> task{};

  cuda::DeviceHardExponential<T> exponential() const { return {options.hard_negative->beta, task.least_epsilon, &rows->known()->reference, task.relative}; }
  void sums(bool times_e, bool transposed, int count, const T* a, const T* b, double* sums, T* maximum, Stream stream, const int32_t* flag = nullptr) const {
    rows->run(&cuda::DeviceSimilarity<T>::hard_moments, cuda::DeviceHardMoments<T>{exponential(), times_e, transposed, count, {a, b}, sums, maximum}, rows->first_blocks(rows->blocks), stream, flag, 1);
  }

 public:
  DeviceHardNegatives(const Features& features, const Options& options, bool differentiable) : Base(features, options) {
    ops::on_device_of(features.moving, [&](Stream stream) {
      this->prepare(stream);
      const int64_t R = rows->rows;
      const bool subtract_maximum = options.form == Form::AdvCL;
      wide = at::zeros({7, R}, rows->of(at::kDouble)), narrow = at::zeros({8, R}, rows->numbers_of_kernels()), ones = at::ones({R}, rows->numbers_of_kernels());
      this->by_full = this->images(views * views), this->by_detached = this->images(views * views);
      double* numbers = wide.mutable_data_ptr<double>();
      T* factors = narrow.template mutable_data_ptr<T>();
      const auto next = [R](auto*& at) { return std::exchange(at, at + R); };
      const double epsilon = importance_epsilon * std::exp(log_unit(options));
      task = {terms, this->places(), R, this->scale(), epsilon, std::max<double>(epsilon, std::numeric_limits<T>::min()), this->similarity.template const_data_ptr<double>(), {}, {}, {}, {}, {}, {}, {}, {},
              this->by_full.template mutable_data_ptr<double>(), this->by_detached.template mutable_data_ptr<double>(), {}, {}, {}, {}};
      task.by_q = numbers, numbers += 2 * R;
      for (double** to : {&task.shift, &task.importance, &task.q, &task.sums}) *to = next(numbers);
      for (T** to : {&task.weight, &task.by_detached, &task.own[0], &task.own[1], &task.other[0], &task.other[1]}) *to = next(factors);
      if (subtract_maximum) task.again = next(numbers), task.relative = next(factors), task.maximum = next(factors);
      const T* const one = ones.template const_data_ptr<T>();

      cuda::hard_shifts(task, rows->known(), stream);
      sums(false, false, 1, one, nullptr, task.importance, task.maximum, stream);
      if (subtract_maximum) {  // the diagonal is the maximum unless an image appears twice, or a row is a little longer than another
        cuda::hard_raised(task, rows->known(), stream);
        sums(false, false, 1, one, nullptr, task.again, nullptr, stream, &rows->known()->larger);
      }
      cuda::hard_weights(task, rows->known(), stream);
      sums(true, false, 1, task.weight, nullptr, task.sums, nullptr, stream);
      cuda::hard_terms(task, this->scratch.template mutable_data_ptr<double>(), this->losses.template mutable_data_ptr<double>(), stream);
      if (differentiable) {
        // Through the sums' weights q back to the importances' sums: what the weighed negatives of every row ask of q, by both kinds of derivative.
        const int first = terms.any_full ? 0 : 1, count = terms.any_full && terms.any_detached ? 2 : 1;
        sums(true, true, count, first == 0 ? task.other[1] : task.by_detached, task.by_detached, task.by_q + first * R, nullptr, stream);
        cuda::hard_slopes(task, stream);
        if (centred(products)) cuda::hard_centres(task, rows->known(), stream);
      }
      this->finish(stream);
    });
  }

  typename Base::BySums by_sums(Stream stream) override {
    const bool centred = objective::centred(products);
    const typename Base::BySums result{this->no_gradient(), nullptr, centred ? 2 : 0, {task.own[0], task.own[1]}, {task.other[0], task.other[1]}, {nullptr, task.weight}};
    const auto term = [&](int t) -> typename cuda::DeviceHardMomentsGradient<T>::Term {
      return {t == 1, t == 0 ? ones.template const_data_ptr<T>() : task.weight, task.own[t], task.other[t], centred ? rows->known()->centres + t : nullptr};
    };
    rows->run(&cuda::DeviceSimilarity<T>::hard_moments_gradient, cuda::DeviceHardMomentsGradient<T>{exponential(), 2, {term(0), term(1)}, result.rows.template mutable_data_ptr<T>()},
              rows->first_blocks(rows->blocks), stream);
    return result;
  }
};

template <typename T>
Tensor clean_sums_of(const Tensor& clean, const Options& options) {
  Tensor result;
  ops::on_device_of(clean, [&](Stream stream) {
    const int64_t n = clean.size(0);
    const cuda::Places places{n / (options.views - 1), options.views - 1};
    const Rows<T> rows(clean, {}, places, options, sizeof(T) == 8 ? Products::Float64 : Products::Float32, stream);
    ops::DeviceMoments<T> moments(rows, kernels::Negatives, powers_of(options), surely_in_range<T>(bound_of(options), options), stream);
    moments.add(rows.first_blocks(rows.blocks), stream);
    moments.look(n, stream), moments.run(rows.first_blocks(rows.blocks), stream);
    result = at::empty({moments.count(), n}, rows.of(at::kDouble));
    cuda::log_sums(moments.task(), n, result.template mutable_data_ptr<double>(), stream);
    rows.check(options, {{"clean", clean}});
  });
  return result;
}

struct DeviceBackend final : Backend {
  c10::intrusive_ptr<Evaluation> log_moment_form(const Features& features, const Options& options, bool differentiable, const std::optional<Tensor>& sums) const override {
    if (features.moving.scalar_type() == at::kFloat) return c10::make_intrusive<DeviceLogMomentForm<float>>(features, options, differentiable, sums);
    return c10::make_intrusive<DeviceLogMomentForm<double>>(features, options, differentiable, sums);
  }
  c10::intrusive_ptr<Evaluation> released_hard_negatives(const Features& features, const Options& options, bool differentiable) const override {
    if (features.moving.scalar_type() == at::kFloat) return c10::make_intrusive<DeviceHardNegatives<float>>(features, options, differentiable);
    return c10::make_intrusive<DeviceHardNegatives<double>>(features, options, differentiable);
  }
  Tensor clean_sums(const Tensor& clean, const Options& options) const override {
    return clean.scalar_type() == at::kFloat ? clean_sums_of<float>(clean, options) : clean_sums_of<double>(clean, options);
  }
  c10::intrusive_ptr<Evaluation> supervised(const Tensor& features, const Options& options, bool differentiable) const override { return supervised_on_device(features, options, differentiable); }
  c10::intrusive_ptr<Evaluation> queue(const std::vector<Tensor>& inputs, const Options& options, const std::vector<bool>& wanted) const override { return queue_on_device(inputs, options, wanted); }
};

const DeviceBackend device_backend;
[[maybe_unused]] const bool registered = (register_backend(ops::device_type, &device_backend), true);

}  // namespace
}  // namespace a_infonce::objective

// Form paper with labels on a device. Sums over negatives and over positives are apart there: a tile that holds none of the pairs is skipped, so that two passes cost what one does.
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sort.h>
#include "kernels/terms/labels_cuda.h"
#include "objective/cuda/evaluations.h"
#include "objective/cuda/rows.h"
#include "ops/backend.h"
#include "transfer.h"

namespace a_infonce::objective {
namespace {

using at::Tensor;
namespace cuda = kernels::cuda;

/// Sums over positives of float32 rows are found anew from float64 ones where an anchor's are tight, or out of range (kernels::tight_distance): the device knows, and the kernels
/// that are not needed return at once.
template <typename T>
class DeviceSupervised final : public Evaluation {
  static constexpr bool narrow = sizeof(T) == sizeof(float);
  template <typename U> using Sums = std::vector<ops::DeviceMoments<U>>;
  const Options options;
  const int64_t n, d;
  cuda::Classes classes;
  Tensor bounds, places, sums, losses;  // places: the rows that were given for them; sums: of the classes
  std::optional<Rows<T>> rows;          // in the order of their classes
  std::optional<Rows<double>> wide;
  std::optional<ops::DeviceMoments<T>> negatives;
  Sums<T> positives;   // of weight 1 and, where they weigh otherwise, across kinds
  Sums<double> exact;

  template <typename U>
  void enter_positives(const Rows<U>& rows, Sums<U>& to, const typename ops::DeviceMoments<U>::Stage& stage, Stream stream) const {
    const auto enter = [&](int32_t selection) { to.emplace_back(rows, selection, std::vector<double>{1}, false, stream, stage); };
    const bool alike = options.positive_weight == 1;
    enter(kernels::PositiveSameKind | (alike ? kernels::PositiveCrossKind : 0));
    if (!alike) enter(kernels::PositiveCrossKind);
    for (auto& each : to) each.add(all(), stream);
    for (auto& each : to) each.look(n, stream);  // the stage is that of all
  }
  Visits all() const { return rows->first_blocks(rows->blocks); }
  template <typename U>
  void find_terms(Sums<U>& positives, bool differentiable, Stream stream) {
    cuda::LabelTask<T, U> task{{n, rows->scale, options.weight, std::log(options.positive_weight), negative_of(options)}, classes, sums.const_data_ptr<double>(), negatives->task(), {}, static_cast<int>(positives.size())};
    for (size_t k = 0; k < positives.size(); ++k) {
      if (differentiable) positives[k].differentiate();
      task.positives[k] = positives[k].task();
    }
    cuda::label_terms(rows->z, task, losses.mutable_data_ptr<double>(), rows->known(), stream);
  }

 public:
  DeviceSupervised(const Tensor& features, const Options& options, bool differentiable)
      : options(options), n(features.size(0)), d(features.size(1)), classes{options.labels->size(0), options.views, options.adversarial_view.value_or(-1), nullptr} {
    if (options.labels->is_cpu()) ops::backend(features.device().type())->require_no_capture(features, "a loss with labels on the CPU");
    ops::on_device_of(features, [&](Stream stream) {
      const auto integers = features.options().requires_grad(false).dtype(at::kLong);
      const auto [labels, images] = at::sort(brought(options.labels->to(at::kLong), features.device()), std::optional<bool>(true));
      const Tensor numbers = Rows<T>::no_numbers(features);
      bounds = at::empty({classes.batch, 2}, integers.dtype(at::kInt)), places = at::empty({n}, integers);
      const Tensor codes = at::empty({n}, bounds.options());
      classes.bounds = bounds.const_data_ptr<int32_t>();
      cuda::arrange_classes(labels.template const_data_ptr<int64_t>(), images.template const_data_ptr<int64_t>(), classes, bounds.mutable_data_ptr<int32_t>(), places.mutable_data_ptr<int64_t>(),
                            codes.mutable_data_ptr<int32_t>(), reinterpret_cast<cuda::Numbers*>(numbers.mutable_data_ptr()), stream);
      const Tensor x = features.index_select(0, places);
      rows.emplace(x, Tensor(), cuda::Places{n, 1}, options, narrow ? Products::Float32 : Products::Float64, stream, codes, numbers);
      cuda::Numbers* const known = rows->known();
      sums = at::empty({classes.batch, 2, d}, rows->of(at::kDouble)), losses = at::empty({cuda::label_blocks(n)}, sums.options());
      cuda::sum_classes(rows->z, classes, sums.mutable_data_ptr<double>(), stream);

      negatives.emplace(*rows, kernels::Negatives, powers_of(options), false, stream);
      negatives->add(all(), stream);
      negatives->look(n, stream), negatives->run(all(), stream);
      if (differentiable) negatives->differentiate();
      enter_positives(*rows, positives, {&known->label_reference, &known->positives}, stream);
      if (!narrow)
        for (auto& each : positives) each.run(all(), stream);
      find_terms(positives, differentiable, stream);
      if constexpr (narrow) {
        wide.emplace(x.to(at::kDouble), Tensor(), cuda::Places{n, 1}, options, Products::Float64, stream, codes);
        wide->forget();
        enter_positives(*wide, exact, {&wide->known()->label_reference, &known->positives, 1}, stream);
        for (auto& each : exact) each.run(all(), stream);
        find_terms(exact, differentiable, stream);
      }
      cuda::find_loss(losses.const_data_ptr<double>(), losses.size(0), known, stream);
      rows->check(options, {{"features", features}});
      losses.reset(), negatives->sums.reset();
      for (auto& each : positives) each.sums.reset();
      for (auto& each : exact) each.sums.reset();
      if (!differentiable) rows->release(), wide.reset();
    });
  }

  Tensor value(at::ScalarType dtype) const override { return rows->loss(dtype); }

  std::vector<Tensor> gradients(const Tensor& factor) override {
    const double alpha = options.alpha.value_or(0.5);
    const ops::CrossFactors ends{2 * alpha, 2 * (1 - alpha)};
    const Tensor by_sums = rows->no_gradient(rows->blocks), by_exact = wide ? wide->no_gradient(wide->blocks) : Tensor(), result = at::empty({n, d}, by_sums.options());
    ops::on_device_of(result, [&](Stream stream) {
      T* const given = by_sums.template mutable_data_ptr<T>();
      negatives->add_gradient(all(), ends, given, stream);
      for (const auto& each : positives) each.add_gradient(all(), ends, given, stream);
      for (const auto& each : exact) each.add_gradient(all(), ends, by_exact.mutable_data_ptr<double>(), stream);
      const Tensor by_loss = factor.to(at::kDouble).contiguous();
      cuda::finish_labels(rows->z, {classes, sums.const_data_ptr<double>(), given, by_exact.defined() ? by_exact.const_data_ptr<double>() : nullptr, by_sums.size(1), rows->scale, options.weight,
                                    {ends.clean, ends.adversarial}, places.const_data_ptr<int64_t>(), by_loss.const_data_ptr<double>(), result.template mutable_data_ptr<T>()}, rows->known(), stream);
    });
    return {result};
  }
};

}  // namespace

c10::intrusive_ptr<Evaluation> supervised_on_device(const Tensor& features, const Options& options, bool differentiable) {
  if (features.scalar_type() == at::kFloat) return c10::make_intrusive<DeviceSupervised<float>>(features, options, differentiable);
  return c10::make_intrusive<DeviceSupervised<double>>(features, options, differentiable);
}

}  // namespace a_infonce::objective

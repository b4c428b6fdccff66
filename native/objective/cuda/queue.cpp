// Queries with a key each and a queue of negatives on a device, packed as rows of two groups: of the tiles that queries visit, those of their own are skipped.
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include "kernels/terms/queue_cuda.h"
#include "objective/cuda/evaluations.h"
#include "objective/cuda/rows.h"

namespace a_infonce::objective {
namespace {

using at::Tensor;
namespace cuda = kernels::cuda;

template <typename T>
class DeviceQueue final : public Evaluation {
  const std::vector<bool> wanted;
  const int64_t n, d, size;  // queries, dim, queue
  std::optional<Rows<T>> rows;
  cuda::ViewRows<T> keys{};
  Tensor lengths, key_codes;  // of the keys
  Tensor ranges;              // of blocks that blocks visit
  std::optional<ops::DeviceMoments<T>> negatives;
  Tensor attraction;          // sum_j e^{s_ij} z_j of the queries, where one pass is enough
  Tensor by_positive;         // derivatives by <q_i, k_i> / t

  int64_t query_blocks() const { return rows->z.places.second_place / kernels::block_rows; }
  /// The queries, or the queue too, which visits them.
  Visits visits(bool both) const {
    Visits visits = rows->first_blocks(both ? rows->blocks : query_blocks());
    if (both) visits.offsets = ranges.const_data_ptr<int32_t>(), visits.ranges = visits.offsets + rows->blocks + 1;
    return visits;
  }

 public:
  DeviceQueue(const std::vector<Tensor>& inputs, const Options& options, const std::vector<bool>& wanted) : wanted(wanted), n(inputs[0].size(0)), d(inputs[0].size(1)), size(inputs[2].size(0)) {
    const bool differentiable = wanted[0] || wanted[1] || wanted[2];
    ops::on_device_of(inputs[0], [&](Stream stream) {
      const Tensor codes = at::zeros({n + size}, inputs[0].options().dtype(at::kInt).requires_grad(false));
      codes.narrow(0, n, size).fill_(2);
      rows.emplace(inputs[0], inputs[2], cuda::Places{n, 1}, options, sizeof(T) == 8 ? Products::Float64 : Products::Float32, stream, codes);
      lengths = at::empty({2, n}, rows->of(at::kDouble)), key_codes = at::empty({n}, rows->of(at::kInt));
      double* const length = lengths.mutable_data_ptr<double>();
      keys = {{n, 1}, inputs[1].const_data_ptr<T>(), nullptr, n, 0, d, n, rows->z.normalize, false, length, length + n, key_codes.mutable_data_ptr<int32_t>()};
      cuda::measure(keys, rows->known(), stream);

      negatives.emplace(*rows, kernels::Negatives, powers_of(options), surely_in_range<T>(bound_of(options), options), stream);
      if (wanted[0] && !wanted[2] && negatives->count() == 1 && negatives->surely_bounded()) attraction = rows->no_gradient(query_blocks());
      negatives->add(visits(false), stream, attraction.defined() ? attraction.mutable_data_ptr<T>() : nullptr, attraction.defined() ? query_blocks() : 0);
      negatives->look(size, stream), negatives->run(visits(false), stream);
      if (wanted[2]) {
        ranges = at::empty({3 * rows->blocks + 1}, rows->of(at::kInt));
        int32_t* const offsets = ranges.mutable_data_ptr<int32_t>();
        cuda::visit_moving(rows->blocks, query_blocks(), offsets, offsets + rows->blocks + 1, stream);
      }
      if (attraction.defined() || !(wanted[0] || wanted[2])) rows->release();
      if (differentiable) negatives->differentiate();
      const Tensor losses = at::empty({cuda::queue_blocks(n)}, rows->of(at::kDouble));
      by_positive = at::empty({n}, losses.options());
      cuda::queue_terms<T>({rows->z, keys, size, rows->scale, negative_of(options), negatives->task(), losses.mutable_data_ptr<double>(), by_positive.mutable_data_ptr<double>()}, stream);
      cuda::find_loss(losses.const_data_ptr<double>(), losses.size(0), rows->known(), stream);
      rows->check(options, {{"queries", inputs[0]}, {"keys", inputs[1]}, {"queue", inputs[2]}});
      negatives->sums.reset();
    });
  }

  bool reads(size_t input) const override { return input < 2 || wanted[2]; }
  Tensor value(at::ScalarType dtype) const override { return rows->loss(dtype); }

  std::vector<Tensor> gradients(const Tensor& factor) override {
    std::vector<Tensor> result(3);
    ops::on_device_of(rows->first, [&](Stream stream) {
      Tensor sums = attraction;
      if (!sums.defined() && (wanted[0] || wanted[2])) {
        sums = rows->no_gradient(wanted[2] ? rows->blocks : query_blocks());
        negatives->add_gradient(visits(wanted[2]), {}, sums.template mutable_data_ptr<T>(), stream);
      }
      const Tensor by_loss = factor.to(at::kDouble).contiguous();
      const auto make = [&](int input, int64_t count) { return (result[input] = at::empty({count, d}, rows->numbers_of_kernels())).template mutable_data_ptr<T>(); };
      const T* const given = sums.defined() ? sums.template const_data_ptr<T>() : nullptr;
      const int64_t stride = sums.defined() ? sums.size(1) : 0, behind = rows->z.places.second_place;
      const double* const by = by_positive.const_data_ptr<double>();
      const auto finish = [&](const cuda::ViewRows<T>& z, int64_t place, int64_t count, const T* sums, const T* factors, const cuda::ViewRows<T>& beside, const double* by, T* to) {
        cuda::finish_beside<T>(z, place, count, {sums, stride, factors, beside, by, rows->scale, by_loss.const_data_ptr<double>(), to}, stream);
      };
      if (wanted[0]) finish(rows->z, 0, n, given, attraction.defined() ? negatives->own(0) : nullptr, keys, by, make(0, n));
      if (wanted[1]) finish(keys, 0, n, nullptr, nullptr, rows->z, by, make(1, n));
      if (wanted[2]) finish(rows->z, behind, size, given + behind * stride, nullptr, {}, nullptr, make(2, size));
    });
    return result;
  }
};

}  // namespace

c10::intrusive_ptr<Evaluation> queue_on_device(const std::vector<Tensor>& inputs, const Options& options, const std::vector<bool>& wanted) {
  if (inputs[0].scalar_type() == at::kFloat) return c10::make_intrusive<DeviceQueue<float>>(inputs, options, wanted);
  return c10::make_intrusive<DeviceQueue<double>>(inputs, options, wanted);
}

}  // namespace a_infonce::objective

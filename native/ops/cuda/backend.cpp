#include "ops/backend.h"
#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include "kernels/augment/augment_cuda.h"
#include "kernels/fab/fab_cuda.h"
#include "kernels/perturbation/perturbation_cuda.h"
#include "kernels/square/square_cuda.h"
#include "ops/cuda/device.h"
#include "ops/cuda/graph.h"
#include "ops/cuda/moments.h"
#include "transfer.h"
#ifndef A_INFONCE_EMULATED
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#endif

namespace a_infonce::ops {
namespace {

using at::Tensor;
using kernels::augment::Choice;
using kernels::cuda::Stream;

/// Numbers of the host on the device of x, in the stream's order: they may go when this returns.
Tensor upload(const void* data, int64_t bytes, const Tensor& x) {
  return at::from_blob(const_cast<void*>(data), {bytes}, at::kByte).to(x.device(), at::kByte, /*non_blocking=*/true);
}

kernels::ImageShape shape_of(const Tensor& x) { return {x.size(1), x.size(2), x.size(3)}; }

template <typename T>
class DeviceKnownLogMoments final : public KnownLogMoments {
  using Products = kernels::cuda::Products;
  const CrossFactors factors;
  const int64_t n;
  std::optional<DeviceRows<T>> rows;
  std::optional<DeviceMoments<T>> moments;
  Tensor known;

 public:
  DeviceKnownLogMoments(const Tensor& z, const Tensor& given, double scale, const std::vector<double>& powers, int64_t selection, CrossFactors factors) : factors(factors), n(z.size(0)) {
    on_device_of(z, [&](Stream stream) {
      const Tensor codes = brought(given.to(at::kInt), z.device());
      rows.emplace(z, Tensor(), kernels::cuda::Places{n, 1}, typename DeviceRows<T>::Form{scale, false, false, sizeof(T) == 8 ? Products::Float64 : Products::Float32}, stream, codes,
                   DeviceRows<T>::no_numbers(z));
      moments.emplace(*rows, static_cast<int32_t>(selection), powers, false, stream);
      const auto all = rows->first_blocks(rows->blocks);
      moments->add(all, stream), moments->look(n, stream), moments->run(all, stream);
      known = at::empty({moments->count(), n}, rows->of(at::kDouble));
      kernels::cuda::log_sums(moments->task(), n, known.mutable_data_ptr<double>(), stream);
      rows->check({{"z", z}}, [scale, powers, dtype = z.scalar_type()](const kernels::cuda::Numbers& seen) {
        check_least_code(seen.least_code);
        check_scale(seen.largest_square, scale, powers, dtype);
      });
      rows->forget();
    });
  }
  Tensor log_sums() const override { return known.clone(); }
  Tensor gradient(const Tensor& full, const Tensor& detached) override {
    Tensor result;
    on_device_of(known, [&](Stream stream) {
      const auto values = [](const Tensor& x) { return x.defined() ? x.contiguous() : x; };
      const Tensor both[2] = {values(full), values(detached)};
      const auto at = [&](int end) { return both[end].defined() ? both[end].const_data_ptr<double>() : nullptr; };
      moments->differentiate();
      kernels::cuda::set_derivatives(moments->task(), n, at(0), at(1), stream);
      const Tensor sums = rows->no_gradient(rows->blocks);
      moments->add_gradient(rows->first_blocks(rows->blocks), factors, sums.template mutable_data_ptr<T>(), stream);
      result = sums.narrow(0, 0, n).narrow(1, 0, rows->d).mul(rows->scale);
    });
    return result;
  }
};

// A launch for the type of x, scalar_t, on its `stream`.
#define A_INFONCE_FLOATING(x, name, ...) \
  on_device_of(x, [&](Stream stream) { AT_DISPATCH_FLOATING_TYPES((x).scalar_type(), name, [&] { __VA_ARGS__; }); })
#define A_INFONCE_IN(tensor) (tensor).const_data_ptr<scalar_t>()
#define A_INFONCE_OUT(tensor) (tensor).mutable_data_ptr<scalar_t>()

struct DeviceBackend final : Backend {
#ifndef A_INFONCE_EMULATED
  std::vector<DeviceInfo> devices() const override {
    std::vector<DeviceInfo> found;
    for (c10::DeviceIndex index = 0; index < c10::cuda::device_count(); ++index) {
      cudaDeviceProp properties{};
      C10_CUDA_CHECK(cudaGetDeviceProperties(&properties, index));
      found.push_back({properties.name, properties.major, properties.minor, static_cast<int64_t>(properties.totalGlobalMem)});
    }
    return found;
  }
  std::string architectures() const override { return A_INFONCE_CUDA_ARCHITECTURES; }
#endif
  bool capturing(const Tensor& x) const override { return stream_captures(x); }
  std::unique_ptr<Recorder> recorder(c10::Device device) const override { return make_recorder(device); }

  c10::intrusive_ptr<KnownLogMoments> log_moments(const Tensor& z, const Tensor& codes, double scale, const std::vector<double>& powers, int64_t selection, CrossFactors factors) const override {
    if (codes.is_cpu()) require_no_capture(z, "log_moments with codes on the CPU");
    if (z.scalar_type() == at::kFloat) return c10::make_intrusive<DeviceKnownLogMoments<float>>(z, codes, scale, powers, selection, factors);
    return c10::make_intrusive<DeviceKnownLogMoments<double>>(z, codes, scale, powers, selection, factors);
  }

  void linf_step(const Tensor& x_adv, const Tensor& grad, const Tensor& x, double epsilon, double step_size, kernels::StepOrder order, const Tensor& bad) const override {
    A_INFONCE_FLOATING(x, "linf_step", kernels::cuda::linf_step(A_INFONCE_OUT(x_adv), A_INFONCE_IN(grad), A_INFONCE_IN(x), x.size(0), x.numel() / x.size(0), epsilon, step_size, order,
                                                                bad.mutable_data_ptr<bool>(), stream));
  }
  void l2_step(const Tensor& x_adv, const Tensor& grad, const Tensor& x, double epsilon, double step_size, kernels::StepOrder order, const Tensor& bad) const override {
    A_INFONCE_FLOATING(x, "l2_step", kernels::cuda::l2_step(A_INFONCE_OUT(x_adv), A_INFONCE_IN(grad), A_INFONCE_IN(x), x.size(0), x.numel() / x.size(0), epsilon, step_size, order,
                                                            bad.mutable_data_ptr<bool>(), stream));
  }
  void linf_start(const Tensor& x_adv, const Tensor& x, const Tensor& samples, double epsilon, uint64_t seed, uint64_t restart, bool clamp) const override {
    A_INFONCE_FLOATING(x, "linf_start", kernels::cuda::linf_start(A_INFONCE_OUT(x_adv), A_INFONCE_IN(x), samples.const_data_ptr<int64_t>(), x.size(0), x.numel() / x.size(0), epsilon,
                                                                  seed, restart, clamp, stream));
  }
  void l2_start(const Tensor& x_adv, const Tensor& x, const Tensor& samples, double epsilon, uint64_t seed, uint64_t restart, bool clamp) const override {
    A_INFONCE_FLOATING(x, "l2_start", kernels::cuda::l2_start(A_INFONCE_OUT(x_adv), A_INFONCE_IN(x), samples.const_data_ptr<int64_t>(), x.size(0), x.numel() / x.size(0), epsilon,
                                                              seed, restart, clamp, stream));
  }
  void fill_uniform(const Tensor& out, const Tensor& samples, uint64_t seed) const override {
    A_INFONCE_FLOATING(out, "fill_uniform", kernels::cuda::fill_uniform(A_INFONCE_OUT(out), samples.const_data_ptr<int64_t>(), out.size(0), out.size(1), seed, stream));
  }
  void fill_normal(const Tensor& out, const Tensor& samples, uint64_t seed) const override {
    on_device_of(out, [&](Stream stream) {
      kernels::cuda::fill_normal(out.mutable_data_ptr<double>(), samples.const_data_ptr<int64_t>(), out.size(0), out.size(1), seed, stream);
    });
  }

  void augment(const Tensor& pixels, const Tensor& indices, const std::vector<Choice>& choices, bool color_first, const Tensor& out) const override {
    on_device_of(pixels, [&](Stream stream) {
      const auto n = static_cast<int64_t>(choices.size());
      const Tensor there = upload(choices.data(), n * static_cast<int64_t>(sizeof(Choice)), pixels);
      const auto [channels, height, width] = shape_of(pixels);
      const auto scratch = kernels::cuda::scratch(choices.data(), n, channels, height, width, out.size(2), color_first);
      const Tensor workspace = at::empty({static_cast<int64_t>(scratch.workspace_bytes)}, pixels.options());
      kernels::cuda::augment({pixels.const_data_ptr<uint8_t>(), channels, height, width, indices.const_data_ptr<int64_t>(), static_cast<const Choice*>(there.const_data_ptr()), n,
                              out.size(2), color_first, out.mutable_data_ptr<float>()},
                             scratch, workspace.mutable_data_ptr(), stream);
    });
  }

  void fab_step(const Tensor& z, const Tensor& x, const Tensor& w, const Tensor& f, kernels::FabNorm norm, double eta, double alpha_max, const Tensor& bad) const override {
    A_INFONCE_FLOATING(z, "fab_step", kernels::cuda::fab_step(A_INFONCE_OUT(z), A_INFONCE_IN(x), A_INFONCE_IN(w), A_INFONCE_IN(f), z.size(0), z.numel() / z.size(0), norm, eta, alpha_max,
                                                              bad.mutable_data_ptr<bool>(), stream));
  }

  void square_start_linf(const Tensor& out, const Tensor& x, const Tensor& u, double epsilon) const override {
    A_INFONCE_FLOATING(x, "square", kernels::cuda::square_start_linf(A_INFONCE_OUT(out), A_INFONCE_IN(x), A_INFONCE_IN(u), x.size(0), shape_of(x), epsilon, stream));
  }
  void square_step_linf(const Tensor& out, const Tensor& best, const Tensor& x, const Tensor& u, double epsilon, int64_t side) const override {
    A_INFONCE_FLOATING(x, "square", kernels::cuda::square_step_linf(A_INFONCE_OUT(out), A_INFONCE_IN(best), A_INFONCE_IN(x), A_INFONCE_IN(u), x.size(0), shape_of(x), epsilon, side, stream));
  }
  void square_start_l2(const Tensor& out, const Tensor& x, const Tensor& u, const std::vector<double>& tile, double epsilon) const override {
    require_no_capture(x, "square_start_l2");
    const Tensor there = upload(tile.data(), static_cast<int64_t>(tile.size() * sizeof(double)), x);
    A_INFONCE_FLOATING(x, "square", kernels::cuda::square_start_l2(A_INFONCE_OUT(out), A_INFONCE_IN(x), A_INFONCE_IN(u), static_cast<const double*>(there.const_data_ptr()), x.size(0),
                                                                   shape_of(x), epsilon, stream));
  }
  void square_step_l2(const Tensor& out, const Tensor& best, const Tensor& x, const Tensor& u, const std::vector<double>& tile, double epsilon, int64_t side) const override {
    require_no_capture(x, "square_step_l2");
    const Tensor there = upload(tile.data(), static_cast<int64_t>(tile.size() * sizeof(double)), x);
    A_INFONCE_FLOATING(x, "square", kernels::cuda::square_step_l2(A_INFONCE_OUT(out), A_INFONCE_IN(best), A_INFONCE_IN(x), A_INFONCE_IN(u), static_cast<const double*>(there.const_data_ptr()),
                                                                  x.size(0), shape_of(x), epsilon, side, stream));
  }
};

const DeviceBackend backend_of_device;
[[maybe_unused]] const bool registered = (register_backend(device_type, &backend_of_device), true);

}  // namespace
}  // namespace a_infonce::ops

#include "ops/norm.h"
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>
#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <vector>
#include "kernels/norm/norm.h"
#include "ops/similarity.h"

namespace a_infonce::ops {
namespace {

using kernels::avx512_bf16::bf16;
constexpr int64_t CHUNK = 16384;  // elements a task: fixed, so that sums do not depend on the number of threads

const bf16* data(const at::Tensor& tensor) { return static_cast<const bf16*>(tensor.const_data_ptr()); }
bf16* mutable_data(const at::Tensor& tensor) { return static_cast<bf16*>(tensor.mutable_data_ptr()); }

/// x as rows of channels, in chunks.
struct Chunks {
  explicit Chunks(const at::Tensor& x) : channels(x.size(1)), n(x.numel() / channels), chunk(std::max<int64_t>(1, CHUNK / channels)), count((n + chunk - 1) / chunk) {}
  /// body(chunk, first row, number of rows)
  void each(const std::function<void(int64_t, int64_t, int64_t)>& body) const {
    at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) body(i, i * chunk, std::min(chunk, n - i * chunk));
    });
  }
  const int64_t channels, n, chunk, count;
};

struct NormFunction : torch::autograd::Function<NormFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const std::optional<at::Tensor>& residual,
                            bool relu, double eps, BatchMoments* moments) {
    const Chunks chunks(x);
    const int64_t channels = chunks.channels;
    std::vector<float> means(chunks.count * channels), squares(chunks.count * channels);
    chunks.each([&](int64_t i, int64_t row, int64_t n) {
      kernels::avx512_bf16::norm_moments(data(x) + row * channels, n, channels, means.data() + i * channels, squares.data() + i * channels);
    });
    moments->mean = at::empty({channels}, weight.options());
    moments->variance = at::empty_like(moments->mean);
    const at::Tensor factors = at::empty({3, channels}, weight.options());  // 1 / standard deviation, scale, shift
    float *const deviation = factors.mutable_data_ptr<float>(), *const scale = deviation + channels, *const shift = scale + channels;
    const float *const w = weight.const_data_ptr<float>(), *const b = bias.const_data_ptr<float>();
    for (int64_t c = 0; c < channels; ++c) {
      double mean = 0, square = 0;  // Chan et al.: moments of all chunks before this one
      for (int64_t i = 0; i < chunks.count; ++i) {
        const double before = static_cast<double>(i * chunks.chunk), n = static_cast<double>(std::min(chunks.chunk, chunks.n - i * chunks.chunk));
        const double distance = means[i * channels + c] - mean;
        mean += distance * n / (before + n);
        square += squares[i * channels + c] + distance * distance * before * n / (before + n);
      }
      moments->mean.mutable_data_ptr<float>()[c] = static_cast<float>(mean);
      moments->variance.mutable_data_ptr<float>()[c] = static_cast<float>(square / static_cast<double>(chunks.n - 1));
      deviation[c] = static_cast<float>(1 / std::sqrt(square / static_cast<double>(chunks.n) + eps));
      scale[c] = w[c] * deviation[c];
      shift[c] = static_cast<float>(b[c] - mean * scale[c]);
    }
    const at::Tensor y = at::empty_like(x);
    chunks.each([&](int64_t, int64_t row, int64_t n) {
      const int64_t at = row * channels;
      kernels::avx512_bf16::norm_apply(data(x) + at, scale, shift, residual ? data(*residual) + at : nullptr, relu, mutable_data(y) + at, n, channels);
    });
    ctx->save_for_backward({x, relu ? y : at::Tensor(), weight, moments->mean, factors});
    ctx->saved_data["residual"] = residual.has_value();
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx, const torch::autograd::variable_list& grads) {
    require_first_order();
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &y = saved[1], &weight = saved[2], &mean = saved[3];
    const at::Tensor grad = grads[0].contiguous(at::MemoryFormat::ChannelsLast);
    const Chunks chunks(x);
    const int64_t channels = chunks.channels;
    std::vector<float> sums(chunks.count * channels), products(chunks.count * channels);
    chunks.each([&](int64_t i, int64_t row, int64_t n) {
      const int64_t at = row * channels;
      kernels::avx512_bf16::norm_sums(data(grad) + at, y.defined() ? data(y) + at : nullptr, data(x) + at, mean.const_data_ptr<float>(), sums.data() + i * channels,
                                      products.data() + i * channels, n, channels);
    });
    // d x = scale (g - sum(g) / n - (x - mean) deviation^2 sum(g (x - mean)) / n)
    const float *const deviation = saved[4].const_data_ptr<float>(), *const scale = deviation + channels, *const middle = mean.const_data_ptr<float>();
    const at::Tensor grad_weight = at::empty_like(weight), grad_bias = at::empty_like(weight);
    std::vector<float> slope(channels), offset(channels);
    for (int64_t c = 0; c < channels; ++c) {
      double sum = 0, product = 0;
      for (int64_t i = 0; i < chunks.count; ++i) sum += sums[i * channels + c], product += products[i * channels + c];
      const double n = static_cast<double>(chunks.n), each = -static_cast<double>(scale[c]) * deviation[c] * deviation[c] * product / n;
      grad_weight.mutable_data_ptr<float>()[c] = static_cast<float>(product * deviation[c]);
      grad_bias.mutable_data_ptr<float>()[c] = static_cast<float>(sum);
      slope[c] = static_cast<float>(each);
      offset[c] = static_cast<float>(-scale[c] * sum / n - each * middle[c]);
    }
    const at::Tensor grad_x = at::empty_like(x), grad_residual = ctx->saved_data["residual"].toBool() ? at::empty_like(x) : at::Tensor();
    chunks.each([&](int64_t, int64_t row, int64_t n) {
      const int64_t at = row * channels;
      kernels::avx512_bf16::norm_gradient(data(grad) + at, y.defined() ? data(y) + at : nullptr, data(x) + at, scale, slope.data(), offset.data(), mutable_data(grad_x) + at,
                                          grad_residual.defined() ? mutable_data(grad_residual) + at : nullptr, n, channels);
    });
    return {grad_x, grad_weight, grad_bias, grad_residual, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

bool norm_takes(const at::Tensor& x) {
  return x.scalar_type() == at::kBFloat16 && x.device().is_cpu() && x.dim() == 4 && x.size(1) % 16 == 0 && x.is_contiguous(at::MemoryFormat::ChannelsLast);
}

at::Tensor norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& residual, bool relu, double eps, BatchMoments& moments) {
  std::optional<at::Tensor> added;
  if (residual.defined()) added = residual.contiguous(at::MemoryFormat::ChannelsLast);
  return NormFunction::apply(x, weight, bias, added, relu, eps, &moments);
}

}  // namespace a_infonce::ops

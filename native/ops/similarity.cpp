#include "ops/similarity.h"
#include <ATen/Dispatch.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>
#include <algorithm>
#include <cmath>
#include <limits>
#include "describe.h"
#include "dtype.h"
#include "error.h"
#include "ops/pairs.h"

namespace a_infonce::ops {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

void check_rows(const Tensor& z) {
  if (z.scalar_type() != at::kFloat && z.scalar_type() != at::kDouble)
    throw Error(ErrorKind::ArgumentType, "z", "a float32 or float64 tensor", dtype_name(z.scalar_type()));
  if (!z.device().is_cpu()) throw Error(ErrorKind::ArgumentType, "z", "a tensor on the CPU", z.device().str());
  require_range(z.dim() == 2 && z.size(0) >= 1 && z.size(1) >= 1, "z", "shape [rows, dim], neither of them 0", shape_text(z.sizes()));
  require_range(z.size(0) < (int64_t{1} << 30), "z", "fewer than 2^30 rows", shape_text(z.sizes()));
}
void check_vector(const Tensor& x, const char* name, at::ScalarType type, int64_t n) {
  if (x.scalar_type() != type) throw Error(ErrorKind::ArgumentType, name, "a tensor of " + dtype_name(type), dtype_name(x.scalar_type()));
  require_range(x.dim() == 1 && x.size(0) == n, name, "shape [" + std::to_string(n) + "]", shape_text(x.sizes()));
}

/// x [n] as contiguous T, padded to whole blocks.
template <typename T>
std::vector<T> padded(const Tensor& x, T padding = 0) {
  const Tensor source = x.contiguous();
  const auto* data = source.const_data_ptr<double>();
  std::vector<T> result(kernels::round_up(x.size(0), kernels::block_rows), padding);
  for (int64_t i = 0; i < x.size(0); ++i) result[i] = static_cast<T>(data[i]);
  return result;
}

template <typename T>
Pairs<T> packed(const Tensor& z, const Tensor& codes, double scale) {
  Pairs<T> pairs({z.size(0)}, z.size(1), scale);
  const Tensor source = z.contiguous(), code = codes.contiguous();
  std::copy_n(code.const_data_ptr<int32_t>(), z.size(0), pairs.codes.begin());
  const T* data = source.const_data_ptr<T>();
  for_blocks(pairs.blocks, z.numel(), [&](int64_t block) { pairs.pack(block, data + block * kernels::block_rows * z.size(1)); });
  return pairs;
}
/// The first n rows and d columns of what the kernels left, times `scale`.
template <typename T>
Tensor gradient_of(const std::vector<T>& sums, const Pairs<T>& pairs, const Tensor& z) {
  const Tensor gradient = at::empty(z.sizes(), z.options());
  const int64_t n = z.size(0), d = z.size(1);
  T* out = gradient.mutable_data_ptr<T>();
  at::parallel_for(0, n, kernels::block_rows, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i)
      for (int64_t k = 0; k < d; ++k) out[i * d + k] = static_cast<T>(pairs.scale) * sums[i * pairs.padded_d + k];
  });
  return gradient;
}

/// max_i scale |z_i|^2, which bounds every |s_ij|. NonFinite if there is none.
double bound_of(const Tensor& z, double scale) {
  const double bound = scale * z.square().sum(1, false, at::kDouble).max().item<double>();
  if (!std::isfinite(bound)) {
    require_finite_rows(z, "z");
    throw Error(ErrorKind::NonFinite, "z: the square of a row overflows");
  }
  return bound;
}

template <typename Body>
void on_type(const Tensor& z, Body body) {
  z.scalar_type() == at::kFloat ? body(float{}) : body(double{});
}

struct LogMomentsFunction : torch::autograd::Function<LogMomentsFunction> {
  static variable_list forward(AutogradContext* context, const Tensor& z, const Tensor& codes, double scale, std::vector<double> powers, int64_t selection,
                               double clean, double adversarial) {
    const double bound = bound_of(z, scale), largest = *std::max_element(powers.begin(), powers.end());
    const double precision = z.scalar_type() == at::kFloat ? std::numeric_limits<float>::epsilon() : std::numeric_limits<double>::epsilon();
    require_range(bound * largest * precision <= 1, "scale", "one at which similarities times powers are known to 1, in " + dtype_name(z.scalar_type()) + " for rows of this length",
                  std::to_string(scale));
    const int64_t n = z.size(0);
    const Tensor log_sums = at::empty({static_cast<int64_t>(powers.size()), n}, z.options().dtype(at::kDouble));
    double reference = 0;
    bool bounded = false;
    on_type(z, [&](auto zero) {
      using T = decltype(zero);
      reference = reference_of<T>(bound, powers);
      const auto pairs = packed<T>(z, codes, scale);
      const int count = static_cast<int>(powers.size());
      std::vector<double> sums(count * pairs.rows);
      kernels::LogMoments<T> task{static_cast<int32_t>(selection), count, {}, reference, sums.data(), nullptr, 0};
      std::copy(powers.begin(), powers.end(), task.powers);
      pairs.run(&kernels::SimilarityKernels<T>::log_moments, task);
      bounded = in_range<T>(sums.data(), count * pairs.rows, n);
      if (!bounded) {
        kernels::RunningLogMoments<T> running{static_cast<int32_t>(selection), count, {}, sums.data()};
        std::copy(powers.begin(), powers.end(), running.powers);
        pairs.run_rows(&kernels::SimilarityKernels<T>::running_log_moments, running, pairs.blocks);
      }
      double* out = log_sums.mutable_data_ptr<double>();
      for (int p = 0; p < count; ++p)
        for (int64_t i = 0; i < n; ++i) {
          const double sum = sums[p * pairs.rows + i];
          out[p * n + i] = bounded ? powers[p] * reference + std::log(sum) : sum;
        }
    });
    context->set_materialize_grads(false);
    context->save_for_backward({z, codes, log_sums});
    context->saved_data["scale"] = scale, context->saved_data["powers"] = powers, context->saved_data["selection"] = selection;
    context->saved_data["clean"] = clean, context->saved_data["adversarial"] = adversarial;
    context->saved_data["reference"] = reference, context->saved_data["bounded"] = bounded;
    return {log_sums.clone(), log_sums.clone()};
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    require_first_order();
    const auto saved = context->get_saved_variables();
    const Tensor &z = saved[0], &codes = saved[1], &log_sums = saved[2];
    const auto powers = context->saved_data["powers"].toDoubleVector();
    const double reference = context->saved_data["reference"].toDouble();
    const bool bounded = context->saved_data["bounded"].toBool();
    if (!gradients[0].defined() && !gradients[1].defined()) return variable_list(7);
    // Rows without a pair have no gradient; their -infinity must not meet a 0.
    const Tensor empty = log_sums.isinf(), logs = log_sums.masked_fill(empty, 0), factors = at::tensor(powers, logs.options()).unsqueeze(1);
    const Tensor weight = bounded ? factors * (factors * reference - logs).exp() : factors.expand_as(logs);
    const auto coefficients = [&](const Tensor& gradient) { return (gradient * weight).masked_fill(empty, 0); };
    const Tensor other = gradients[0].defined() ? coefficients(gradients[0]) : at::zeros_like(logs);
    const Tensor own = gradients[1].defined() ? other + coefficients(gradients[1]) : other;
    Tensor gradient;
    on_type(z, [&](auto zero) {
      using T = decltype(zero);
      const auto pairs = packed<T>(z, codes, context->saved_data["scale"].toDouble());
      std::vector<T> vectors[3][2], sums(pairs.rows * pairs.padded_d);
      const auto fill = [&](auto& task) {
        task.selection = static_cast<int32_t>(context->saved_data["selection"].toInt()), task.count = static_cast<int>(powers.size());
        task.factor[0] = static_cast<T>(context->saved_data["clean"].toDouble()), task.factor[1] = static_cast<T>(context->saved_data["adversarial"].toDouble());
        task.gradient = sums.data();
        for (size_t p = 0; p < powers.size(); ++p) {
          task.powers[p] = powers[p];
          task.own[p] = (vectors[0][p] = padded<T>(own[p])).data();
          task.other[p] = (vectors[1][p] = padded<T>(other[p])).data();
        }
      };
      if (bounded) {
        kernels::LogMomentsGradient<T> task{};
        fill(task);
        task.reference = reference;
        pairs.run(&kernels::SimilarityKernels<T>::log_moments_gradient, task);
      } else {
        kernels::RunningLogMomentsGradient<T> task{};
        fill(task);
        for (size_t p = 0; p < powers.size(); ++p) task.log_sums[p] = (vectors[2][p] = padded<T>(logs[p])).data();
        pairs.run_rows(&kernels::SimilarityKernels<T>::running_log_moments_gradient, task, pairs.blocks);
      }
      gradient = gradient_of(sums, pairs, z);
    });
    return {gradient, {}, {}, {}, {}, {}, {}};
  }
};

}  // namespace

void require_first_order() {
  if (at::GradMode::is_enabled()) throw Error(ErrorKind::Operator, "the loss is differentiable once: its gradient has none (create_graph)");
}

void require_finite_rows(const Tensor& x, const char* argument) {
  const Tensor bad = x.isfinite().all(1).logical_not();
  if (!bad.any().item<bool>()) return;
  const int64_t row = bad.nonzero()[0][0].item<int64_t>();
  throw Error(ErrorKind::NonFinite, std::string(argument) + ": expected finite numbers, got NaN or infinity in row " + std::to_string(row));
}

std::tuple<Tensor, Tensor> log_moments(const Tensor& z, const Tensor& codes, double scale, const std::vector<double>& powers, int64_t selection, CrossFactors factors) {
  check_rows(z);
  check_vector(codes, "codes", at::kInt, z.size(0));
  const auto least_code = codes.min().item<int32_t>();
  require_range(least_code >= 0, "codes", "numbers of at least 0 (2 * group + kind)", std::to_string(least_code));
  require_range(std::isfinite(scale) && scale > 0, "scale", "a positive number", std::to_string(scale));
  require_range(powers.size() == 1 || powers.size() == 2, "powers", "one or two powers", std::to_string(powers.size()));
  for (double power : powers) require_range(std::isfinite(power) && power > 0, "powers", "positive numbers", std::to_string(power));
  require_range(selection > 0 && selection < 16, "selection", "a bit mask from 1 to 15", std::to_string(selection));
  const auto result = LogMomentsFunction::apply(z, codes, scale, powers, selection, factors.clean, factors.adversarial);
  return {result[0], result[1]};
}

TORCH_LIBRARY_FRAGMENT(a_infonce, m) {
  m.def("log_moments(Tensor z, Tensor codes, float scale, float[] powers, int selection, float clean_factor=1, float adversarial_factor=1) -> (Tensor, Tensor)",
        [](const Tensor& z, const Tensor& codes, double scale, at::ArrayRef<double> powers, int64_t selection, double clean, double adversarial) {
          return log_moments(z, codes, scale, powers.vec(), selection, {clean, adversarial});
        });
}

}  // namespace a_infonce::ops

#include "ops/similarity.h"
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
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
#include "kernels/similarity/similarity.h"

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

/// x [n] as contiguous T, padded with zeros to whole tiles.
template <typename T>
std::vector<T> padded(const Tensor& x) {
  const Tensor source = x.contiguous();
  const auto* data = source.const_data_ptr<double>();
  std::vector<T> result(kernels::round_up(x.size(0), kernels::tile_columns));
  for (int64_t i = 0; i < x.size(0); ++i) result[i] = static_cast<T>(data[i]);
  return result;
}

/// z packed for the kernels, and what owns the memory. Panels are as wide as the instruction set that packed them: it is looked up once, since
/// another thread may choose another meanwhile.
template <typename T>
struct Packed {
  const kernels::SimilarityKernels<T>& table = kernels::similarity<T>();
  Tensor panels, rows;
  std::vector<int32_t> codes;
  kernels::Matrix<T> matrix;
  Packed(const Tensor& z, const Tensor& row_codes, double scale) {
    const int64_t n = z.size(0), d = z.size(1), padded_n = kernels::round_up(n, kernels::tile_columns), padded_d = kernels::round_up(d, kernels::lane_multiple);
    const Tensor source = z.contiguous(), code = row_codes.contiguous();
    panels = at::empty({padded_n * d}, z.options());
    rows = at::empty({n, padded_d}, z.options());
    codes.assign(code.const_data_ptr<int32_t>(), code.const_data_ptr<int32_t>() + n);
    codes.resize(padded_n, 0);
    T *panel_data = panels.mutable_data_ptr<T>(), *row_data = rows.mutable_data_ptr<T>();
    const T* data = source.const_data_ptr<T>();
    at::parallel_for(0, padded_n / kernels::tile_columns, 4, [&](int64_t first, int64_t last) {
      table.pack(data, n, d, first, last, panel_data, row_data);
    });
    matrix = {n, d, padded_d, panel_data, row_data, codes.data(), scale};
  }
  /// (table.*kernel)(matrix, task, block, workspace) on every block.
  template <typename Task>
  void run(void (*kernels::SimilarityKernels<T>::*kernel)(const kernels::Matrix<T>&, const Task&, int64_t, T*), const Task& task) const {
    at::parallel_for(0, kernels::block_count(matrix.n), 1, [&](int64_t first, int64_t last) {
      const Tensor workspace = at::empty({kernels::workspace_elements(matrix.d)}, rows.options());
      for (int64_t block = first; block < last; ++block) (table.*kernel)(matrix, task, block, workspace.mutable_data_ptr<T>());
    });
  }
};

/// max_i scale |z_i|^2, which bounds every |s_ij|. NonFinite if there is none.
double bound_of(const Tensor& z, double scale) {
  const double bound = scale * z.square().sum(1, false, at::kDouble).max().item<double>();
  if (!std::isfinite(bound)) {
    require_finite_rows(z, "z");
    throw Error(ErrorKind::NonFinite, "z: the square of a row overflows");
  }
  return bound;
}

/// Whether e^{-2 p bound} and its inverse are normal numbers of the type, with room to spare.
bool one_reference(const Tensor& z, double bound, const std::vector<double>& powers) {
  const double range = 2 * bound * *std::max_element(powers.begin(), powers.end());
  return range < (z.scalar_type() == at::kFloat ? 80 : 600);
}

template <typename Body>
void on_type(const Tensor& z, Body body) {
  z.scalar_type() == at::kFloat ? body(float{}) : body(double{});
}

struct LogMomentsFunction : torch::autograd::Function<LogMomentsFunction> {
  static variable_list forward(AutogradContext* context, const Tensor& z, const Tensor& codes, double scale, std::vector<double> powers, int64_t selection,
                               double clean, double adversarial) {
    const double bound = bound_of(z, scale);
    const bool bounded = one_reference(z, bound, powers);
    const Tensor log_sums = at::empty({static_cast<int64_t>(powers.size()), z.size(0)}, z.options().dtype(at::kDouble));
    on_type(z, [&](auto zero) {
      using T = decltype(zero);
      kernels::LogMoments<T> task{static_cast<int32_t>(selection), static_cast<int>(powers.size()), {}, bounded, bound, log_sums.mutable_data_ptr<double>()};
      std::copy(powers.begin(), powers.end(), task.powers);
      Packed<T>(z, codes, scale).run(&kernels::SimilarityKernels<T>::log_moments, task);
    });
    context->set_materialize_grads(false);
    context->save_for_backward({z, codes, log_sums});
    context->saved_data["scale"] = scale, context->saved_data["powers"] = powers, context->saved_data["selection"] = selection;
    context->saved_data["clean"] = clean, context->saved_data["adversarial"] = adversarial;
    context->saved_data["bound"] = bound, context->saved_data["bounded"] = bounded;
    return {log_sums.clone(), log_sums.clone()};
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &z = saved[0], &codes = saved[1], &log_sums = saved[2];
    const auto powers = context->saved_data["powers"].toDoubleVector();
    const double scale = context->saved_data["scale"].toDouble(), bound = context->saved_data["bound"].toDouble();
    const bool bounded = context->saved_data["bounded"].toBool();
    if (!gradients[0].defined() && !gradients[1].defined()) return variable_list(7);
    // Rows without a pair have no gradient; their -infinity must not meet a 0.
    const Tensor empty = log_sums.isinf();
    const Tensor logs = log_sums.masked_fill(empty, 0);
    const Tensor weight = at::tensor(powers, logs.options()).unsqueeze(1) * (bounded ? (at::tensor(powers, logs.options()).unsqueeze(1) * bound - logs).exp() : at::ones_like(logs));
    const auto coefficients = [&](const Tensor& gradient) { return (gradient * weight).masked_fill(empty, 0); };
    const Tensor other = gradients[0].defined() ? coefficients(gradients[0]) : at::zeros_like(logs);
    const Tensor own = gradients[1].defined() ? other + coefficients(gradients[1]) : other;
    const Tensor gradient = at::empty({z.size(0), z.size(1)}, z.options());
    on_type(z, [&](auto zero) {
      using T = decltype(zero);
      std::vector<T> vectors[3][2];
      kernels::LogMomentsGradient<T> task{static_cast<int32_t>(context->saved_data["selection"].toInt()), static_cast<int>(powers.size()), {}, bounded, bound, {}, {}, {},
                                          {static_cast<T>(context->saved_data["clean"].toDouble()), static_cast<T>(context->saved_data["adversarial"].toDouble())},
                                          gradient.mutable_data_ptr<T>()};
      for (size_t p = 0; p < powers.size(); ++p) {
        task.powers[p] = powers[p];
        task.own[p] = (vectors[0][p] = padded<T>(own[p])).data();
        task.other[p] = (vectors[1][p] = padded<T>(other[p])).data();
        task.log_sums[p] = (vectors[2][p] = padded<T>(logs[p])).data();
      }
      Packed<T>(z, codes, scale).run(&kernels::SimilarityKernels<T>::log_moments_gradient, task);
    });
    return {gradient, {}, {}, {}, {}, {}, {}};
  }
};

struct HardMomentsFunction : torch::autograd::Function<HardMomentsFunction> {
  static variable_list forward(AutogradContext* context, const Tensor& z, const Tensor& codes, const Tensor& q, const Tensor& detached_q, const Tensor& shift, double scale,
                               double epsilon, double exponent, bool times_e) {
    const Tensor sums = at::empty_like(shift), maximum = at::empty({times_e ? 0 : z.size(0)}, shift.options());
    const double reference = shift.max().item<double>();
    const Tensor relative = (reference - shift).exp();
    on_type(z, [&](auto zero) {
      using T = decltype(zero);
      const auto relatives = padded<T>(relative), weights = padded<T>(q);
      Packed<T>(z, codes, scale).run(&kernels::SimilarityKernels<T>::hard_moments,
                                     kernels::HardMoments<T>{exponent, std::max<double>(epsilon, std::numeric_limits<T>::min()), reference, times_e, relatives.data(), weights.data(),
                                                             sums.mutable_data_ptr<double>(), maximum.mutable_data_ptr<double>()});
    });
    context->set_materialize_grads(false);
    context->mark_non_differentiable({maximum});
    context->save_for_backward({z, codes, q, relative});
    context->saved_data["scale"] = scale, context->saved_data["epsilon"] = epsilon, context->saved_data["exponent"] = exponent, context->saved_data["times_e"] = times_e;
    context->saved_data["reference"] = reference;
    return {sums, sums.clone(), maximum};
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &z = saved[0], &codes = saved[1], &q = saved[2], &relative = saved[3];
    if (!gradients[0].defined() && !gradients[1].defined()) return variable_list(9);
    const Tensor full = gradients[0].defined() ? gradients[0] : at::zeros_like(q), detached = gradients[1].defined() ? gradients[1] : at::zeros_like(q);
    const Tensor gradient = at::empty({z.size(0), z.size(1)}, z.options()), q_gradient = at::empty_like(relative), detached_q_gradient = at::empty_like(relative);
    on_type(z, [&](auto zero) {
      using T = decltype(zero);
      const auto relatives = padded<T>(relative), weights = padded<T>(q), own = padded<T>(full + detached), other = padded<T>(full), own_only = padded<T>(detached);
      Packed<T>(z, codes, context->saved_data["scale"].toDouble())
          .run(&kernels::SimilarityKernels<T>::hard_moments_gradient,
               kernels::HardMomentsGradient<T>{context->saved_data["exponent"].toDouble(), std::max<double>(context->saved_data["epsilon"].toDouble(), std::numeric_limits<T>::min()),
                                               context->saved_data["reference"].toDouble(), context->saved_data["times_e"].toBool(), relatives.data(), weights.data(), own.data(), other.data(),
                                               own_only.data(), gradient.mutable_data_ptr<T>(), q_gradient.mutable_data_ptr<double>(), detached_q_gradient.mutable_data_ptr<double>()});
    });
    return {gradient, {}, q_gradient, detached_q_gradient, {}, {}, {}, {}, {}};
  }
};

struct ViewSimilarityFunction : torch::autograd::Function<ViewSimilarityFunction> {
  /// [views * B, d] -> float64 [B, views, d]
  static Tensor by_image(const Tensor& z, int64_t views) { return z.view({views, z.size(0) / views, z.size(1)}).transpose(0, 1).to(at::kDouble); }

  static variable_list forward(AutogradContext* context, const Tensor& z, int64_t views, double scale, int64_t adversarial_view, double clean, double adversarial) {
    const Tensor images = by_image(z.contiguous(), views), similarity = at::bmm(images, images.transpose(1, 2)).mul_(scale);
    Tensor factors = at::ones({views, views}, similarity.options());
    if (adversarial_view >= 0) {
      factors.select(1, adversarial_view).fill_(clean);
      factors.select(0, adversarial_view).fill_(adversarial);
      factors.select(0, adversarial_view).select(0, adversarial_view).fill_(1);
    }
    context->set_materialize_grads(false);
    context->save_for_backward({z, factors * scale});
    return {similarity, similarity.clone()};
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &z = saved[0], &factors = saved[1];
    Tensor weights;
    if (gradients[0].defined()) weights = gradients[0] + gradients[0].transpose(1, 2);
    if (gradients[1].defined()) weights = weights.defined() ? weights + gradients[1] : gradients[1];
    if (!weights.defined()) return variable_list(6);
    const Tensor images = by_image(z.contiguous(), factors.size(0));
    return {at::bmm(weights * factors, images).transpose(0, 1).reshape(z.sizes()).to(z.scalar_type()), {}, {}, {}, {}, {}};
  }
};

}  // namespace

void require_finite_rows(const Tensor& x, const char* argument) {
  const Tensor bad = x.isfinite().all(1).logical_not();
  if (!bad.any().item<bool>()) return;
  const int64_t row = bad.nonzero()[0][0].item<int64_t>();
  throw Error(ErrorKind::NonFinite, std::string(argument) + ": expected finite numbers, got NaN or infinity in row " + std::to_string(row));
}

std::tuple<Tensor, Tensor> log_moments(const Tensor& z, const Tensor& codes, double scale, const std::vector<double>& powers, int64_t selection, CrossFactors factors) {
  check_rows(z);
  check_vector(codes, "codes", at::kInt, z.size(0));
  require_range(std::isfinite(scale) && scale > 0, "scale", "a positive number", std::to_string(scale));
  require_range(powers.size() == 1 || powers.size() == 2, "powers", "one or two powers", std::to_string(powers.size()));
  for (double power : powers) require_range(std::isfinite(power) && power > 0, "powers", "positive numbers", std::to_string(power));
  require_range(selection > 0 && selection < 16, "selection", "a bit mask from 1 to 15", std::to_string(selection));
  const auto result = LogMomentsFunction::apply(z, codes, scale, powers, selection, factors.clean, factors.adversarial);
  return {result[0], result[1]};
}

std::tuple<Tensor, Tensor, Tensor> hard_moments(const Tensor& z, const Tensor& codes, const Tensor& q, const Tensor& detached_q, const Tensor& shift, double scale,
                                                double epsilon, double exponent, bool times_e) {
  check_rows(z);
  check_vector(codes, "codes", at::kInt, z.size(0));
  check_vector(q, "q", at::kDouble, z.size(0));
  check_vector(detached_q, "detached_q", at::kDouble, z.size(0));
  check_vector(shift, "shift", at::kDouble, z.size(0));
  require_range(std::isfinite(scale) && scale > 0, "scale", "a positive number", std::to_string(scale));
  require_range(std::isfinite(exponent) && exponent >= 0, "exponent", "a number of at least 0", std::to_string(exponent));
  require_range(std::isfinite(epsilon) && epsilon >= 0, "epsilon", "a number of at least 0", std::to_string(epsilon));
  bound_of(z, scale);
  const auto result = HardMomentsFunction::apply(z, codes, q, detached_q, shift.detach(), scale, epsilon, exponent, times_e);
  return {result[0], result[1], result[2]};
}

std::tuple<Tensor, Tensor> view_similarity(const Tensor& z, int64_t views, double scale, int64_t adversarial_view, CrossFactors factors) {
  check_rows(z);
  require_range(views >= 1 && z.size(0) % views == 0, "views", "a divisor of the " + std::to_string(z.size(0)) + " rows", std::to_string(views));
  require_range(adversarial_view >= -1 && adversarial_view < views, "adversarial_view", "-1 or a view", std::to_string(adversarial_view));
  const auto result = ViewSimilarityFunction::apply(z, views, scale, adversarial_view, factors.clean, factors.adversarial);
  return {result[0], result[1]};
}

TORCH_LIBRARY_FRAGMENT(a_infonce, m) {
  m.def("log_moments(Tensor z, Tensor codes, float scale, float[] powers, int selection, float clean_factor=1, float adversarial_factor=1) -> (Tensor, Tensor)",
        [](const Tensor& z, const Tensor& codes, double scale, at::ArrayRef<double> powers, int64_t selection, double clean, double adversarial) {
          return log_moments(z, codes, scale, powers.vec(), selection, {clean, adversarial});
        });
  m.def("hard_moments(Tensor z, Tensor codes, Tensor q, Tensor detached_q, Tensor shift, float scale, float epsilon, float exponent, bool times_e) -> (Tensor, Tensor, Tensor)",
        &hard_moments);
  m.def("view_similarity(Tensor z, int views, float scale, int adversarial_view=-1, float clean_factor=1, float adversarial_factor=1) -> (Tensor, Tensor)",
        [](const Tensor& z, int64_t views, double scale, int64_t adversarial_view, double clean, double adversarial) {
          return view_similarity(z, views, scale, adversarial_view, {clean, adversarial});
        });
}

}  // namespace a_infonce::ops

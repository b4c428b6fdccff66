#include "ops/similarity.h"
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/graph_task.h>
#include <torch/library.h>
#include <algorithm>
#include <cmath>
#include <limits>
#include "describe.h"
#include "dtype.h"
#include "error.h"
#include "ops/backend.h"
#include "ops/moments.h"

namespace a_infonce::ops {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

void check_codes(const Tensor& codes, const Tensor& z) {
  if (codes.scalar_type() != at::kInt) throw Error(ErrorKind::ArgumentType, "codes", "a tensor of " + dtype_name(at::kInt), dtype_name(codes.scalar_type()));
  if (!codes.is_cpu() && codes.device() != z.device())
    throw Error(ErrorKind::ArgumentType, "codes", z.is_cpu() ? "a tensor on the CPU" : "a tensor on " + z.device().str() + ", as z is, or on the CPU", codes.device().str());
  require_range(codes.dim() == 1 && codes.size(0) == z.size(0), "codes", "shape [" + std::to_string(z.size(0)) + "]", shape_text(codes.sizes()));
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
/// max_i |z_i|^2, which may overflow. NonFinite on rows that are not finite.
double largest_square_of(const Tensor& z) {
  const double largest = z.square().sum(1, false, at::kDouble).max().item<double>();
  if (!std::isfinite(largest)) require_finite_rows(z, "z");
  return largest;
}

template <typename T>
struct KnownMoments final : KnownLogMoments {
  Pairs<T> pairs;
  Moments<T> moments;
  CrossFactors factors;
  int64_t n;
  KnownMoments(const Tensor& z, const Tensor& codes, double scale, const std::vector<double>& powers, int64_t selection, CrossFactors factors, double bound)
      : pairs(packed<T>(z, codes, scale)), moments(static_cast<int32_t>(selection), powers, pairs.rows, bound), factors(factors), n(z.size(0)) {
    moments.add(pairs, every_pair);
    if (!moments.in_range(n)) moments.run(pairs, pairs.blocks);
  }
  Tensor log_sums() const override {
    const Tensor result = at::empty({moments.count(), n}, at::kDouble);
    double* out = result.mutable_data_ptr<double>();
    for (int64_t p = 0; p < moments.count(); ++p)
      for (int64_t i = 0; i < n; ++i) out[p * n + i] = moments.log_sum(p, i);
    return result;
  }
  Tensor gradient(const Tensor& full, const Tensor& detached) override {
    const auto values = [](const Tensor& x) { return x.defined() ? x.contiguous() : x; };
    const Tensor both[2] = {values(full), values(detached)};
    const auto at = [&](int end, int64_t k) { return both[end].defined() ? both[end].const_data_ptr<double>()[k] : 0; };
    moments.clear_derivatives();
    for (int64_t p = 0; p < moments.count(); ++p)
      for (int64_t i = 0; i < n; ++i) moments.set_derivative(p, i, at(0, p * n + i), at(1, p * n + i));
    const Tensor gradient = at::zeros({pairs.rows, pairs.padded_d}, at::CppTypeToScalarType<T>::value);
    moments.add_gradient(pairs, factors, every_pair, pairs.blocks, gradient.mutable_data_ptr<T>());
    return gradient.narrow(0, 0, n).narrow(1, 0, pairs.d).mul(pairs.scale);
  }
};

struct LogMomentsFunction : torch::autograd::Function<LogMomentsFunction> {
  static variable_list forward(AutogradContext* context, const Tensor& z, const Tensor& codes, double scale, std::vector<double> powers, int64_t selection,
                               double clean, double adversarial) {
    c10::intrusive_ptr<KnownLogMoments> known;
    const CrossFactors factors{clean, adversarial};
    if (const Backend* device = backend(z.device().type())) known = device->log_moments(z.contiguous(), codes.contiguous(), scale, powers, selection, factors);
    else {
      check_least_code(codes.min().item<int32_t>());
      const double largest = largest_square_of(z);
      check_scale(largest, scale, powers, z.scalar_type());
      if (z.scalar_type() == at::kFloat) known = c10::make_intrusive<KnownMoments<float>>(z, codes, scale, powers, selection, factors, scale * largest);
      else known = c10::make_intrusive<KnownMoments<double>>(z, codes, scale, powers, selection, factors, scale * largest);
    }
    context->set_materialize_grads(false);
    context->saved_data["known"] = at::IValue::make_capsule(known);
    return {known->log_sums(), known->log_sums()};
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    require_first_order();
    if (!gradients[0].defined() && !gradients[1].defined()) return variable_list(7);
    context->get_saved_variables();  // throws if a backward has been here
    const auto known = c10::static_intrusive_pointer_cast<KnownLogMoments>(context->saved_data["known"].toCapsule());
    if (!torch::autograd::get_current_graph_task_keep_graph()) context->saved_data.clear();
    return {known->gradient(gradients[0], gradients[1]), {}, {}, {}, {}, {}, {}};
  }
};

}  // namespace

void check_scale(double largest_square, double scale, const std::vector<double>& powers, at::ScalarType dtype) {
  if (!std::isfinite(largest_square)) throw Error(ErrorKind::NonFinite, "z: the square of a row overflows");
  const double precision = dtype == at::kFloat ? std::numeric_limits<float>::epsilon() : std::numeric_limits<double>::epsilon();
  require_range(scale * largest_square * *std::max_element(powers.begin(), powers.end()) * precision <= 1, "scale",
                "one at which similarities times powers are known to 1, in " + dtype_name(dtype) + " for rows of this length", std::to_string(scale));
}
void check_least_code(int32_t least) { require_range(least >= 0, "codes", "numbers of at least 0 (2 * group + kind)", std::to_string(least)); }

void require_first_order() {
  if (at::GradMode::is_enabled()) throw Error(ErrorKind::Operator, "the loss is differentiable once: its gradient has none (create_graph)");
}

void check_rows(const Tensor& x, const char* argument) {
  if (x.scalar_type() != at::kFloat && x.scalar_type() != at::kDouble)
    throw Error(ErrorKind::ArgumentType, argument, "a float32 or float64 tensor", dtype_name(x.scalar_type()));
  require_range(x.dim() == 2 && x.size(0) > 0 && x.size(1) > 0, argument, "shape [rows, dim], neither of them 0", "shape " + shape_text(x.sizes()));
}

void require_finite_rows(const Tensor& x, const char* argument) {
  const Tensor bad = x.isfinite().all(1).logical_not();
  if (!bad.any().item<bool>()) return;
  const int64_t row = bad.nonzero()[0][0].item<int64_t>();
  throw Error(ErrorKind::NonFinite, std::string(argument) + ": expected finite numbers, got NaN or infinity in row " + std::to_string(row));
}

std::tuple<Tensor, Tensor> log_moments(const Tensor& z, const Tensor& codes, double scale, const std::vector<double>& powers, int64_t selection, CrossFactors factors) {
  check_rows(z, "z");
  backend_of(z, "z");  // throws where there is none
  require_range(z.size(0) < (int64_t{1} << 30), "z", "fewer than 2^30 rows", shape_text(z.sizes()));
  check_codes(codes, z);
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

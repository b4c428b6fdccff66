#include "ops/perturbation.h"
#include <ATen/Dispatch.h>
#include <ATen/MemoryOverlap.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>
#include <algorithm>
#include <atomic>
#include <cmath>
#include "error.h"
#include "kernels/perturbation/perturbation.h"
#include "kernels/random.h"
#include "ops/image_checks.h"

namespace a_infonce::ops {
namespace {

constexpr int64_t CHUNK = 16384;  // elements a task: fixed, so that chunks do not depend on the number of threads

/// The three share one dense layout with whole samples one after the other: the kernels can run over memory as it lies.
bool same_dense_layout(const at::Tensor& a, const at::Tensor& b, const at::Tensor& c) {
  return a.strides() == b.strides() && a.strides() == c.strides() && a.is_non_overlapping_and_dense() &&
         (a.size(0) <= 1 || a.stride(0) == a.numel() / a.size(0));
}

enum class Norm { Linf, L2 };

kernels::StepOrder order(bool clamp_then_project) {
  return clamp_then_project ? kernels::StepOrder::ClampThenProject : kernels::StepOrder::ProjectThenClamp;
}

/// On the CPU: false when a gradient is NaN or infinite.
bool step_linf(const at::Tensor& x_adv, const at::Tensor& grad, const at::Tensor& x, double epsilon, double step_size, kernels::StepOrder order) {
  std::atomic<bool> finite{true};
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "pgd_step_linf_", [&] {
    scalar_t* out = x_adv.mutable_data_ptr<scalar_t>();
    const scalar_t *gradient = grad.const_data_ptr<scalar_t>(), *center = x.const_data_ptr<scalar_t>();
    at::parallel_for(0, x.numel(), CHUNK, [&](int64_t begin, int64_t end) {
      if (!kernels::linf_step(out + begin, gradient + begin, center + begin, end - begin, epsilon, step_size, order)) finite = false;
    });
  });
  return finite.load();
}

bool step_l2(const at::Tensor& x_adv, const at::Tensor& grad, const at::Tensor& x, double epsilon, double step_size, kernels::StepOrder order) {
  std::atomic<bool> finite{true};
  const int64_t rows = x.size(0), size = x.numel() / rows;
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "pgd_step_l2_", [&] {
    scalar_t* out = x_adv.mutable_data_ptr<scalar_t>();
    const scalar_t *gradient = grad.const_data_ptr<scalar_t>(), *center = x.const_data_ptr<scalar_t>();
    at::parallel_for(0, rows, 1 + CHUNK / 4 / size, [&](int64_t begin, int64_t end) {
      for (int64_t at = begin * size; at < end * size; at += size)
        if (!kernels::l2_step(out + at, gradient + at, center + at, size, epsilon, step_size, order)) finite = false;
    });
  });
  return finite.load();
}

void step_(Norm norm, at::Tensor& x_adv, const at::Tensor& grad, const at::Tensor& x, double epsilon, double step_size, bool clamp_then_project, at::Tensor& bad) {
  const Backend* const device = require_floating("x", x);
  require_like("x_adv", x_adv, x);
  require_like("grad", grad, x);
  require_radius("epsilon", epsilon);
  require_range(std::isfinite(step_size), "step_size", "a finite number", std::to_string(step_size));
  require_range(!(at::GradMode::is_enabled() && x_adv.requires_grad()), "x_adv", "a tensor outside of the autograd graph", "one that requires grad");
  at::assert_no_internal_overlap(x_adv);
  at::assert_no_partial_overlap(x_adv, x);
  at::assert_no_partial_overlap(x_adv, grad);
  if (x_adv.numel() == 0) return;
  const auto run = [&](const at::Tensor& out, const at::Tensor& gradient, const at::Tensor& center) {
    if (device) {
      if (!bad.defined()) bad = at::zeros({x.size(0)}, x.options().dtype(at::kBool).requires_grad(false));
      (device->*(norm == Norm::Linf ? &Backend::linf_step : &Backend::l2_step))(out, gradient, center, epsilon, step_size, order(clamp_then_project), bad);
    } else if (!(norm == Norm::Linf ? step_linf : step_l2)(out, gradient, center, epsilon, step_size, order(clamp_then_project))) {
      const at::Tensor here = at::isfinite(grad.detach()).reshape({grad.size(0), -1}).all(1).logical_not();
      bad = bad.defined() ? bad.logical_or(here) : here;
    }
  };
  if (same_dense_layout(x_adv, grad, x)) return run(x_adv, grad, x);
  const at::Tensor dense = x_adv.contiguous();
  run(dense, grad.contiguous(), x.contiguous());
  if (!dense.is_same(x_adv)) x_adv.copy_(dense);
}

at::Tensor& checked_step_(Norm norm, at::Tensor& x_adv, const at::Tensor& grad, const at::Tensor& x, double epsilon, double step_size, bool clamp_then_project) {
  at::Tensor bad;
  step_(norm, x_adv, grad, x, epsilon, step_size, clamp_then_project, bad);
  const Backend* const device = backend_of(x, "x");
  if (bad.defined() && !(device && device->capturing(x))) require_none(bad, "grad: the gradient");
  return x_adv;
}

at::Tensor start(Norm norm, const at::Tensor& x, const at::Tensor& samples, double epsilon, int64_t seed, int64_t restart, bool clamp) {
  const Backend* const device = require_floating("x", x);
  require_beside("samples", samples, at::kLong, x.sizes().slice(0, 1), x);
  require_radius("epsilon", epsilon);
  require_range(restart >= 0 && restart < int64_t{1} << 24, "restart", "an integer from 0 to 2^24 - 1", std::to_string(restart));
  const at::Tensor source = x.detach().contiguous(), numbers = samples.contiguous();
  at::Tensor x_adv = at::empty_like(source);
  if (x.numel() == 0) return x_adv;
  if (device) {
    (device->*(norm == Norm::Linf ? &Backend::linf_start : &Backend::l2_start))(x_adv, source, numbers, epsilon, static_cast<uint64_t>(seed), static_cast<uint64_t>(restart), clamp);
    return x_adv;
  }
  const int64_t rows = source.size(0), size = source.numel() / rows;
  const int64_t* number = numbers.const_data_ptr<int64_t>();
  AT_DISPATCH_FLOATING_TYPES(source.scalar_type(), "pgd_start", [&] {
    scalar_t* out = x_adv.mutable_data_ptr<scalar_t>();
    const scalar_t* in = source.const_data_ptr<scalar_t>();
    at::parallel_for(0, rows, 1 + CHUNK / 4 / size, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        (norm == Norm::Linf ? kernels::linf_start<scalar_t> : kernels::l2_start<scalar_t>)(out + row * size, in + row * size, size, epsilon, static_cast<uint64_t>(seed),
                                                                                          static_cast<uint64_t>(number[row]), static_cast<uint64_t>(restart), clamp);
    });
  });
  return x_adv;
}

/// fill(row of `out`, its sample) on the CPU.
template <typename Scalar, typename Fill>
void fill_rows(const at::Tensor& out, const at::Tensor& samples, Fill fill) {
  const int64_t* number = samples.const_data_ptr<int64_t>();
  Scalar* to = out.mutable_data_ptr<Scalar>();
  const int64_t count = out.size(1);
  at::parallel_for(0, out.size(0), 1 + CHUNK / 4 / std::max<int64_t>(1, count), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) fill(to + row * count, static_cast<uint64_t>(number[row]));
  });
}

}  // namespace

at::Tensor& pgd_step_linf_(at::Tensor& x_adv, const at::Tensor& grad, const at::Tensor& x, double epsilon, double step_size, bool clamp_then_project) {
  return checked_step_(Norm::Linf, x_adv, grad, x, epsilon, step_size, clamp_then_project);
}
at::Tensor& pgd_step_l2_(at::Tensor& x_adv, const at::Tensor& grad, const at::Tensor& x, double epsilon, double step_size, bool clamp_then_project) {
  return checked_step_(Norm::L2, x_adv, grad, x, epsilon, step_size, clamp_then_project);
}
void pgd_step_linf_(at::Tensor& x_adv, const at::Tensor& grad, const at::Tensor& x, double epsilon, double step_size, bool clamp_then_project, at::Tensor& bad) {
  step_(Norm::Linf, x_adv, grad, x, epsilon, step_size, clamp_then_project, bad);
}
void pgd_step_l2_(at::Tensor& x_adv, const at::Tensor& grad, const at::Tensor& x, double epsilon, double step_size, bool clamp_then_project, at::Tensor& bad) {
  step_(Norm::L2, x_adv, grad, x, epsilon, step_size, clamp_then_project, bad);
}

at::Tensor pgd_start_linf(const at::Tensor& x, const at::Tensor& samples, double epsilon, int64_t seed, int64_t restart, bool clamp) {
  return start(Norm::Linf, x, samples, epsilon, seed, restart, clamp);
}
at::Tensor pgd_start_l2(const at::Tensor& x, const at::Tensor& samples, double epsilon, int64_t seed, int64_t restart, bool clamp) {
  return start(Norm::L2, x, samples, epsilon, seed, restart, clamp);
}

at::Tensor uniform(const at::Tensor& samples, int64_t count, at::ScalarType dtype, uint64_t seed) {
  const at::Tensor numbers = samples.contiguous(), out = at::empty({samples.size(0), count}, samples.options().dtype(dtype));
  if (out.numel() == 0) return out;
  if (const Backend* const device = backend_of(samples, "samples")) {
    device->fill_uniform(out, numbers, seed);
    return out;
  }
  AT_DISPATCH_FLOATING_TYPES(dtype, "uniform", [&] {
    fill_rows<scalar_t>(out, numbers, [&](scalar_t* row, uint64_t sample) { random::fill_uniform(row, count, seed, sample); });
  });
  return out;
}

at::Tensor normal(const at::Tensor& samples, int64_t count, uint64_t seed) {
  const at::Tensor numbers = samples.contiguous(), out = at::empty({samples.size(0), count}, samples.options().dtype(at::kDouble));
  if (out.numel() == 0) return out;
  if (const Backend* const device = backend_of(samples, "samples")) device->fill_normal(out, numbers, seed);
  else fill_rows<double>(out, numbers, [&](double* row, uint64_t sample) { random::fill_normal(row, count, seed, sample); });
  return out;
}

}  // namespace a_infonce::ops

TORCH_LIBRARY_FRAGMENT(a_infonce, m) {
  m.def("pgd_step_linf_(Tensor(a!) x_adv, Tensor grad, Tensor x, float epsilon, float step_size, bool clamp_then_project=False) -> Tensor(a!)");
  m.def("pgd_step_l2_(Tensor(a!) x_adv, Tensor grad, Tensor x, float epsilon, float step_size, bool clamp_then_project=False) -> Tensor(a!)");
  m.def("pgd_start_linf(Tensor x, Tensor samples, float epsilon, int seed, int restart=0, bool clamp=True) -> Tensor");
  m.def("pgd_start_l2(Tensor x, Tensor samples, float epsilon, int seed, int restart=0, bool clamp=True) -> Tensor");
}

// Not differentiable: CompositeExplicitAutograd keeps autograd out, and the checks inside name the argument.
TORCH_LIBRARY_IMPL(a_infonce, CompositeExplicitAutograd, m) {
  using Step = at::Tensor& (*)(at::Tensor&, const at::Tensor&, const at::Tensor&, double, double, bool);
  m.impl("pgd_step_linf_", static_cast<Step>(a_infonce::ops::pgd_step_linf_));
  m.impl("pgd_step_l2_", static_cast<Step>(a_infonce::ops::pgd_step_l2_));
  m.impl("pgd_start_linf", a_infonce::ops::pgd_start_linf);
  m.impl("pgd_start_l2", a_infonce::ops::pgd_start_l2);
}

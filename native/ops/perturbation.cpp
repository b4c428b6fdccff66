#include "ops/perturbation.h"
#include <ATen/Dispatch.h>
#include <ATen/MemoryOverlap.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/isfinite.h>
#include <torch/library.h>
#include <atomic>
#include <cmath>
#include "error.h"
#include "kernels/perturbation/perturbation.h"
#include "ops/image_checks.h"

namespace a_infonce::ops {
namespace {

constexpr int64_t CHUNK = 16384;  // elements a task: fixed, so that chunks do not depend on the number of threads

[[noreturn]] void throw_non_finite(const at::Tensor& grad) {
  const auto rows = at::isfinite(grad).reshape({grad.size(0), -1}).all(1);
  int64_t sample = 0;
  while (rows[sample].item<bool>()) ++sample;
  throw Error(ErrorKind::NonFinite, "grad: the gradient of sample " + std::to_string(sample) + " is NaN or infinite");
}

/// The three share one dense layout with whole samples one after the other: the kernels can run over memory as it lies.
bool same_dense_layout(const at::Tensor& a, const at::Tensor& b, const at::Tensor& c) {
  return a.strides() == b.strides() && a.strides() == c.strides() && a.is_non_overlapping_and_dense() &&
         (a.size(0) <= 1 || a.stride(0) == a.numel() / a.size(0));
}

template <typename Run>
at::Tensor& step_(at::Tensor& x_adv, const at::Tensor& grad, const at::Tensor& x, double epsilon, double step_size, Run run) {
  require_floating_cpu("x", x);
  require_like("x_adv", x_adv, x);
  require_like("grad", grad, x);
  require_radius("epsilon", epsilon);
  require_range(std::isfinite(step_size), "step_size", "a finite number", std::to_string(step_size));
  require_range(!(at::GradMode::is_enabled() && x_adv.requires_grad()), "x_adv", "a tensor outside of the autograd graph", "one that requires grad");
  at::assert_no_internal_overlap(x_adv);
  at::assert_no_partial_overlap(x_adv, x);
  at::assert_no_partial_overlap(x_adv, grad);
  if (x_adv.numel() == 0) return x_adv;
  if (same_dense_layout(x_adv, grad, x)) {
    if (!run(x_adv, grad, x)) throw_non_finite(grad);
    return x_adv;
  }
  const at::Tensor dense = x_adv.contiguous();
  const bool copied = !dense.is_same(x_adv);
  if (!run(dense, grad.contiguous(), x.contiguous())) throw_non_finite(grad);
  return copied ? x_adv.copy_(dense) : x_adv;
}

template <typename Start>
at::Tensor start(const at::Tensor& x, const at::Tensor& samples, double epsilon, int64_t restart, Start run) {
  require_floating_cpu("x", x);
  require_range(samples.scalar_type() == at::kLong && samples.device().is_cpu() && samples.dim() == 1 && samples.size(0) == x.size(0), "samples",
                "int64 [" + std::to_string(x.size(0)) + "]", describe(samples));
  require_radius("epsilon", epsilon);
  require_range(restart >= 0 && restart < int64_t{1} << 24, "restart", "an integer from 0 to 2^24 - 1", std::to_string(restart));
  const at::Tensor source = x.detach().contiguous(), numbers = samples.contiguous();
  at::Tensor x_adv = at::empty_like(source);
  if (x.numel() == 0) return x_adv;
  const int64_t rows = source.size(0), size = source.numel() / rows;
  const int64_t* number = numbers.const_data_ptr<int64_t>();
  AT_DISPATCH_FLOATING_TYPES(source.scalar_type(), "pgd_start", [&] {
    scalar_t* out = x_adv.mutable_data_ptr<scalar_t>();
    const scalar_t* in = source.const_data_ptr<scalar_t>();
    at::parallel_for(0, rows, 1 + CHUNK / 4 / size, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) run(out + row * size, in + row * size, size, static_cast<uint64_t>(number[row]));
    });
  });
  return x_adv;
}

kernels::StepOrder order(bool clamp_then_project) {
  return clamp_then_project ? kernels::StepOrder::ClampThenProject : kernels::StepOrder::ProjectThenClamp;
}

}  // namespace

at::Tensor& pgd_step_linf_(at::Tensor& x_adv, const at::Tensor& grad, const at::Tensor& x, double epsilon, double step_size, bool clamp_then_project) {
  return step_(x_adv, grad, x, epsilon, step_size, [&](const at::Tensor& out, const at::Tensor& g, const at::Tensor& center) {
    std::atomic<bool> finite{true};
    AT_DISPATCH_FLOATING_TYPES(center.scalar_type(), "pgd_step_linf_", [&] {
      scalar_t* o = out.mutable_data_ptr<scalar_t>();
      const scalar_t *gradient = g.const_data_ptr<scalar_t>(), *c = center.const_data_ptr<scalar_t>();
      at::parallel_for(0, center.numel(), CHUNK, [&](int64_t begin, int64_t end) {
        if (!kernels::linf_step(o + begin, gradient + begin, c + begin, end - begin, epsilon, step_size, order(clamp_then_project))) finite = false;
      });
    });
    return finite.load();
  });
}

at::Tensor& pgd_step_l2_(at::Tensor& x_adv, const at::Tensor& grad, const at::Tensor& x, double epsilon, double step_size, bool clamp_then_project) {
  return step_(x_adv, grad, x, epsilon, step_size, [&](const at::Tensor& out, const at::Tensor& g, const at::Tensor& center) {
    std::atomic<bool> finite{true};
    const int64_t rows = center.size(0), size = center.numel() / rows;
    AT_DISPATCH_FLOATING_TYPES(center.scalar_type(), "pgd_step_l2_", [&] {
      scalar_t* o = out.mutable_data_ptr<scalar_t>();
      const scalar_t *gradient = g.const_data_ptr<scalar_t>(), *c = center.const_data_ptr<scalar_t>();
      at::parallel_for(0, rows, 1 + CHUNK / 4 / size, [&](int64_t begin, int64_t end) {
        for (int64_t at = begin * size; at < end * size; at += size)
          if (!kernels::l2_step(o + at, gradient + at, c + at, size, epsilon, step_size, order(clamp_then_project))) finite = false;
      });
    });
    return finite.load();
  });
}

at::Tensor pgd_start_linf(const at::Tensor& x, const at::Tensor& samples, double epsilon, int64_t seed, int64_t restart, bool clamp) {
  return start(x, samples, epsilon, restart, [&](auto* out, const auto* in, int64_t size, uint64_t sample) {
    kernels::linf_start(out, in, size, epsilon, static_cast<uint64_t>(seed), sample, static_cast<uint64_t>(restart), clamp);
  });
}

at::Tensor pgd_start_l2(const at::Tensor& x, const at::Tensor& samples, double epsilon, int64_t seed, int64_t restart, bool clamp) {
  return start(x, samples, epsilon, restart, [&](auto* out, const auto* in, int64_t size, uint64_t sample) {
    kernels::l2_start(out, in, size, epsilon, static_cast<uint64_t>(seed), sample, static_cast<uint64_t>(restart), clamp);
  });
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
  m.impl("pgd_step_linf_", a_infonce::ops::pgd_step_linf_);
  m.impl("pgd_step_l2_", a_infonce::ops::pgd_step_l2_);
  m.impl("pgd_start_linf", a_infonce::ops::pgd_start_linf);
  m.impl("pgd_start_l2", a_infonce::ops::pgd_start_l2);
}

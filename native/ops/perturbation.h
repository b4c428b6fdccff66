// The steps and starts of projected gradient descent as operators of namespace a_infonce (see kernels/perturbation/perturbation.h).
#pragma once
#include <ATen/core/Tensor.h>

namespace a_infonce::ops {

/// x_adv, grad, x [N, ...] of one shape, one type (float32 or float64), on the CPU; x_adv is updated and returned.
/// NonFinite, naming the sample, when a gradient is NaN or infinite: x_adv is then of no use.
at::Tensor& pgd_step_linf_(at::Tensor& x_adv, const at::Tensor& grad, const at::Tensor& x, double epsilon, double step_size,
                           bool clamp_then_project = false);
at::Tensor& pgd_step_l2_(at::Tensor& x_adv, const at::Tensor& grad, const at::Tensor& x, double epsilon, double step_size,
                         bool clamp_then_project = false);

/// A random point of the ball about every sample of x [N, ...]. samples: int64 [N], whose entries name the samples' random streams.
at::Tensor pgd_start_linf(const at::Tensor& x, const at::Tensor& samples, double epsilon, int64_t seed, int64_t restart = 0, bool clamp = true);
at::Tensor pgd_start_l2(const at::Tensor& x, const at::Tensor& samples, double epsilon, int64_t seed, int64_t restart = 0, bool clamp = true);

}  // namespace a_infonce::ops

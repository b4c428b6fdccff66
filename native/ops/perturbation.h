// The steps and starts of projected gradient descent as operators of namespace a_infonce (see kernels/perturbation/perturbation.h).
#pragma once
#include <ATen/core/Tensor.h>

namespace a_infonce::ops {

/// x_adv, grad, x [N, ...] of one shape, one type (float32 or float64) and one device; x_adv is updated and returned.
/// NonFinite, naming the sample, when a gradient is NaN or infinite: x_adv is then of no use. While a CUDA graph is captured nobody looks.
at::Tensor& pgd_step_linf_(at::Tensor& x_adv, const at::Tensor& grad, const at::Tensor& x, double epsilon, double step_size, bool clamp_then_project = false);
at::Tensor& pgd_step_l2_(at::Tensor& x_adv, const at::Tensor& grad, const at::Tensor& x, double epsilon, double step_size, bool clamp_then_project = false);

/// The same without looking: rows of `bad` (bool [N] on that device) become true where a gradient is NaN or infinite. Nothing waits for the device. Undefined at first, `bad` is
/// made once there may be something to tell: on the CPU by the first such gradient.
void pgd_step_linf_(at::Tensor& x_adv, const at::Tensor& grad, const at::Tensor& x, double epsilon, double step_size, bool clamp_then_project, at::Tensor& bad);
void pgd_step_l2_(at::Tensor& x_adv, const at::Tensor& grad, const at::Tensor& x, double epsilon, double step_size, bool clamp_then_project, at::Tensor& bad);

/// A random point of the ball about every sample of x [N, ...]. samples: int64 [N] beside x, whose entries name the samples' random streams.
at::Tensor pgd_start_linf(const at::Tensor& x, const at::Tensor& samples, double epsilon, int64_t seed, int64_t restart = 0, bool clamp = true);
at::Tensor pgd_start_l2(const at::Tensor& x, const at::Tensor& samples, double epsilon, int64_t seed, int64_t restart = 0, bool clamp = true);

/// Random numbers for the samples (int64 [N]), [N, count] on their device: number i of a sample is random::uniform(seed, its entry, i), on [0, 1), of `dtype` (float32 or
/// float64), or random::normal(seed, its entry, i), float64; on other devices than the CPU that may differ in the last bit.
at::Tensor uniform(const at::Tensor& samples, int64_t count, at::ScalarType dtype, uint64_t seed);
at::Tensor normal(const at::Tensor& samples, int64_t count, uint64_t seed);

}  // namespace a_infonce::ops

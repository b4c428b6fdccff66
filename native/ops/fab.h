// An iteration of the FAB attack as an operator of namespace a_infonce (see kernels/fab/fab.h).
#pragma once
#include <ATen/core/Tensor.h>

namespace a_infonce::ops {

/// z, x, w [N, ...] of one shape, type (float32 or float64) and device, f [N] of that type beside them; contiguous z is updated and returned.
/// l2: the norm, else linf. ArgumentRange unless eta is finite and alpha_max in [0, 1]; NonFinite, naming the sample, when f or w is NaN or infinite (while a CUDA graph is
/// captured nobody looks).
at::Tensor& fab_step_(at::Tensor& z, const at::Tensor& x, const at::Tensor& w, const at::Tensor& f, bool l2, double eta = 1.05, double alpha_max = 0.1);
/// The same without looking: rows of `bad` (bool [N], made here) become true instead, and nothing waits for the device.
void fab_step_(at::Tensor& z, const at::Tensor& x, const at::Tensor& w, const at::Tensor& f, bool l2, double eta, double alpha_max, at::Tensor& bad);

}  // namespace a_infonce::ops

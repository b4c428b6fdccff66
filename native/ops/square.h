// The proposals of Square Attack as operators of namespace a_infonce (see kernels/square/square.h).
#pragma once
#include <ATen/core/Tensor.h>

namespace a_infonce::ops {

/// x, best [N, C, H, W] of one shape, type (float32 or float64) and device; u [N, count] of that type beside them, uniform on [0, 1): C W numbers an image for
/// square_start_linf, 2 + C for square_step_linf, square_start_l2_numbers(x) for square_start_l2, 5 + C for square_step_l2.
/// side: from 1 to min(H, W). square_start_l2 needs H and W of at least 5. Results are in [0, 1] and in the ball about x, exactly.
at::Tensor square_start_linf(const at::Tensor& x, const at::Tensor& u, double epsilon);
at::Tensor square_step_linf(const at::Tensor& best, const at::Tensor& x, const at::Tensor& u, double epsilon, int64_t side);
at::Tensor square_start_l2(const at::Tensor& x, const at::Tensor& u, double epsilon);
at::Tensor square_step_l2(const at::Tensor& best, const at::Tensor& x, const at::Tensor& u, double epsilon, int64_t side);

int64_t square_start_l2_numbers(const at::Tensor& x);

}  // namespace a_infonce::ops

// Common corruptions as an operator of namespace a_infonce.
#pragma once
#include <ATen/core/Tensor.h>
#include <string>

namespace a_infonce::ops {

/// pixels: uint8 [N, C, H, W] with C 1 or 3 and sides of at least 8; samples: int64 [N], which name the random numbers -> uint8 [N, C, H, W].
/// `type`: a name of kernels/corruption/corruption.h; `severity`: 1 to 5. Neither the batch nor the thread count changes a bit.
at::Tensor corrupt(const at::Tensor& pixels, const at::Tensor& samples, const std::string& type, int64_t severity, int64_t seed);

}  // namespace a_infonce::ops

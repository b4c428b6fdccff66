// BatchNorm in train mode with the residual and the relu that follow it, of bfloat16 channels last.
#pragma once
#include <ATen/core/Tensor.h>

namespace a_infonce::ops {

struct BatchMoments {
  at::Tensor mean, variance;  // float32 [C]; the variance over n - 1
};

/// Whether `norm` takes x: bfloat16 [N, C, H, W] on the CPU, channels last and dense, C a multiple of 16.
bool norm_takes(const at::Tensor& x);

/// weight (x - mean) / sqrt(variance + eps) + bias, + residual if defined, and relu if asked for, over every axis but the second: like x, with float32 arithmetic
/// between; differentiable once in x, weight, bias and residual (like x). The same bits at any thread count.
at::Tensor norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& residual, bool relu, double eps, BatchMoments& moments);

}  // namespace a_infonce::ops

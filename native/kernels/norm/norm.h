// Train-mode BatchNorm with what follows it in a residual block, y = relu(gamma (x - mean) / sqrt(variance + eps) + beta + residual), of bfloat16 rows [n, channels] with float32
// arithmetic: over a range of rows, so that callers choose the chunks. Channels are a multiple of 16; for processors with AVX512_BF16.
#pragma once
#include <cstdint>

namespace a_infonce::kernels::avx512_bf16 {

using bf16 = uint16_t;

/// mean[c], and squares[c] = sum of (x - mean[c])^2, of n >= 1 rows.
void norm_moments(const bf16* x, int64_t n, int64_t channels, float* mean, float* squares);

/// y = x scale + shift, + residual unless that is null, and relu if asked for.
void norm_apply(const bf16* x, const float* scale, const float* shift, const bf16* residual, bool relu, bf16* y, int64_t n, int64_t channels);

/// g = the gradient of y, 0 where relu cut it off (y null: no relu). sum[c] = sum of g, product[c] = sum of g (x - mean[c]).
void norm_sums(const bf16* grad, const bf16* y, const bf16* x, const float* mean, float* sum, float* product, int64_t n, int64_t channels);

/// grad_x = g scale + x slope + offset, and grad_residual = g unless that is null.
void norm_gradient(const bf16* grad, const bf16* y, const bf16* x, const float* scale, const float* slope, const float* offset, bf16* grad_x, bf16* grad_residual, int64_t n,
                   int64_t channels);

}  // namespace a_infonce::kernels::avx512_bf16

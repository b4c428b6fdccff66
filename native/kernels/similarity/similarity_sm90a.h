// Moments of Bf16 products and their gradients on compute capability 9.0 (similarity_sm90a.cu), in the place of the portable ones.
#pragma once
#include "kernels/similarity/similarity_cuda.h"

namespace a_infonce::kernels::cuda::sm90a {

constexpr int64_t most_dimensions = 128;  // rows of more are the portable kernels'

/// Of Context::workspace, for either of these up to most_dimensions.
int64_t workspace_bytes();
/// As in DeviceSimilarity. Visits::splits does not matter: they share the multiprocessors out themselves.
void log_moments(const DeviceMatrix&, const DeviceLogMoments<float>&, const Visits&, const Context&);
void log_moments_gradient(const DeviceMatrix&, const DeviceLogMomentsGradient<float>&, const Visits&, const Context&);

}  // namespace a_infonce::kernels::cuda::sm90a

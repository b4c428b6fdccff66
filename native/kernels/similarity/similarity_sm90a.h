// Moments of Bf16 products and their gradients on compute capability 9.0 (similarity_sm90a.cu), in the place of the portable ones.
#pragma once
#include "kernels/similarity/similarity_cuda.h"

namespace a_infonce::kernels::cuda::sm90a {

constexpr int64_t most_dimensions = 128;  // rows of more are the portable kernels'

/// Blocks of columns after which sums in registers are added to those in memory: the tensor cores round towards zero. What the gradients and sums of rows that are alike lose is
/// printed by `build/cuda/similarity_test long` (after npm run check:cuda).
constexpr int chip_columns_between_sums = 170;
#ifdef A_INFONCE_EMULATED
extern int columns_between_sums;  // or fewer, so that small tests get there
#else
constexpr int columns_between_sums = chip_columns_between_sums;
#endif

/// Of Context::workspace, for either of these up to most_dimensions.
int64_t workspace_bytes();
/// As in DeviceSimilarity. Visits::splits does not matter: they share the multiprocessors out themselves.
void log_moments(const DeviceMatrix&, const DeviceLogMoments<float>&, const Visits&, const Context&);
void log_moments_gradient(const DeviceMatrix&, const DeviceLogMomentsGradient<float>&, const Visits&, const Context&);

}  // namespace a_infonce::kernels::cuda::sm90a

// The steps and starts of perturbation.h for batches on a device: the same arithmetic and random bits. Sums of squares have an order of their own, so that L2 may differ
// from the CPU in the last bits.
#pragma once
#include "kernels/cuda/stream.h"
#include "kernels/perturbation/perturbation.h"

namespace a_infonce::kernels::cuda {

/// x_adv, grad, x [rows, size]; in place. bad[row] becomes true where a gradient is NaN or infinite (linf_step: the row is then of no use; l2_step: as it was).
template <typename Scalar>
void linf_step(Scalar* x_adv, const Scalar* grad, const Scalar* x, int64_t rows, int64_t size, double epsilon, double step_size, StepOrder order, bool* bad, Stream stream);
template <typename Scalar>
void l2_step(Scalar* x_adv, const Scalar* grad, const Scalar* x, int64_t rows, int64_t size, double epsilon, double step_size, StepOrder order, bool* bad, Stream stream);

/// x_adv, x [rows, size]; samples [rows].
template <typename Scalar>
void linf_start(Scalar* x_adv, const Scalar* x, const int64_t* samples, int64_t rows, int64_t size, double epsilon, uint64_t seed, uint64_t restart, bool clamp_start, Stream stream);
template <typename Scalar>
void l2_start(Scalar* x_adv, const Scalar* x, const int64_t* samples, int64_t rows, int64_t size, double epsilon, uint64_t seed, uint64_t restart, bool clamp_start, Stream stream);

/// out [rows, size] = random::uniform(seed, samples[row], i), or random::normal.
template <typename Scalar>
void fill_uniform(Scalar* out, const int64_t* samples, int64_t rows, int64_t size, uint64_t seed, Stream stream);
void fill_normal(double* out, const int64_t* samples, int64_t rows, int64_t size, uint64_t seed, Stream stream);

}  // namespace a_infonce::kernels::cuda

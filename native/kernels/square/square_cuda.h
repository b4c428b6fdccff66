// square.h for batches on a device: x, best, out [rows, channels, height, width], u [rows, ...], the tile on the device. Linf gives the CPU's bits; sums of squares have an
// order of their own, so that L2 may differ in the last ones.
#pragma once
#include "kernels/cuda/stream.h"
#include "kernels/square/square.h"

namespace a_infonce::kernels::cuda {

template <typename Scalar>
void square_start_linf(Scalar* out, const Scalar* x, const Scalar* u, int64_t rows, ImageShape shape, double epsilon, Stream stream);
template <typename Scalar>
void square_step_linf(Scalar* out, const Scalar* best, const Scalar* x, const Scalar* u, int64_t rows, ImageShape shape, double epsilon, int64_t side, Stream stream);
template <typename Scalar>
void square_start_l2(Scalar* out, const Scalar* x, const Scalar* u, const double* tile, int64_t rows, ImageShape shape, double epsilon, Stream stream);
template <typename Scalar>
void square_step_l2(Scalar* out, const Scalar* best, const Scalar* x, const Scalar* u, const double* tile, int64_t rows, ImageShape shape, double epsilon, int64_t side, Stream stream);

}  // namespace a_infonce::kernels::cuda

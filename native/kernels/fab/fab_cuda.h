// fab.h for a batch on a device. Sums have an order of their own: results may differ from the CPU in the last bits.
#pragma once
#include "kernels/cuda/stream.h"
#include "kernels/fab/fab.h"

namespace a_infonce::kernels::cuda {

/// z, x, w [rows, size], f [rows]. Where f or w is NaN or infinite the row of z stays, and bad[row] becomes true.
template <typename Scalar>
void fab_step(Scalar* z, const Scalar* x, const Scalar* w, const Scalar* f, int64_t rows, int64_t size, FabNorm norm, double eta, double alpha_max, bool* bad, Stream stream);

}  // namespace a_infonce::kernels::cuda

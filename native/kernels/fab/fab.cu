#include "kernels/cuda/reduce.h"
#include "kernels/fab/fab_cuda.h"
#include "kernels/fab/projection.h"

namespace a_infonce::kernels::cuda {
namespace {

constexpr unsigned threads = 256, most_threads = 1024;  // of small and of large images

template <typename Scalar, FabNorm norm>
__device__ void project(Projection<Scalar, norm>& projection, int64_t size, double* room) {
  constexpr int sums = Projection<Scalar, norm>::sums;
  double saturated = -1, total[sums];
  do {
    double mine[sums] = {};
    for (int64_t i = threadIdx.x; i < size; i += blockDim.x) {
      double term[sums];
      projection.terms(i, term);
      for (int k = 0; k < sums; ++k) mine[k] += term[k];
    }
    for (int k = 0; k < sums; ++k) total[k] = sum(mine[k], room);
  } while (projection.step(total, saturated));
  double length = 0;
  for (int64_t i = threadIdx.x; i < size; i += blockDim.x) {
    const double d = projection.move(i);
    length = norm == FabNorm::L2 ? length + d * d : std::fabs(d) > length ? std::fabs(d) : length;
  }
  if constexpr (norm == FabNorm::L2) projection.size = sqrt(sum(length, room));
  else projection.size = reduce(length, room, [](double a, double b) { return a > b ? a : b; });
}

/// A block a row.
template <typename Scalar, FabNorm norm>
__global__ void __launch_bounds__(most_threads, 1) fab_step_kernel(Scalar* z, const Scalar* x, const Scalar* w, const Scalar* f, int64_t size, double eta, double alpha_max, bool* bad) {
  double* const room = shared_memory<double>();
  z += blockIdx.x * size, x += blockIdx.x * size, w += blockIdx.x * size;
  const double value = f[blockIdx.x];
  double wrong = value - value, at_x = 0;  // wrong: NaN where something is not finite
  for (int64_t i = threadIdx.x; i < size; i += blockDim.x) {
    const double weight = w[i];
    wrong += weight - weight;
    at_x += weight * (double{x[i]} - double{z[i]});
  }
  if (!(sum(wrong, room) == 0)) {
    if (threadIdx.x == 0) bad[blockIdx.x] = true;
    return;
  }
  Projection<Scalar, norm> d1{z, w, value}, d2{x, w, value + sum(at_x, room)};
  project(d1, size, room), project(d2, size, room);
  const double alpha = fab_alpha(d1.size, d2.size, alpha_max);
  for (int64_t i = threadIdx.x; i < size; i += blockDim.x) z[i] = fab_next(d1, d2, eta, alpha, i);
}

}  // namespace

template <typename Scalar>
void fab_step(Scalar* z, const Scalar* x, const Scalar* w, const Scalar* f, int64_t rows, int64_t size, FabNorm norm, double eta, double alpha_max, bool* bad, Stream stream) {
  launch("fab_step", norm == FabNorm::Linf ? fab_step_kernel<Scalar, FabNorm::Linf> : fab_step_kernel<Scalar, FabNorm::L2>, dim3(static_cast<unsigned>(rows)),
         dim3(size < 4096 ? threads : most_threads), reduce_bytes<double>, stream, z, x, w, f, size, eta, alpha_max, bad);
}

template void fab_step(float*, const float*, const float*, const float*, int64_t, int64_t, FabNorm, double, double, bool*, Stream);
template void fab_step(double*, const double*, const double*, const double*, int64_t, int64_t, FabNorm, double, double, bool*, Stream);

}  // namespace a_infonce::kernels::cuda

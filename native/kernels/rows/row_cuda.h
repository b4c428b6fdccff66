// What kernels do with a row of rows_cuda.h; a warp has it.
#pragma once
#include "kernels/cuda/instructions.h"
#include "kernels/cuda/reduce.h"
#include "kernels/rows/rows_cuda.h"

namespace a_infonce::kernels::cuda {

/// Null for padding.
template <typename T>
__device__ __forceinline__ const T* row_at(const ViewRows<T>& z, int64_t place) {
  if (place < z.first_count) return z.first + place * z.d;
  const int64_t at = place - z.places.second_place;
  return z.second && at >= 0 && at < z.second_count ? z.second + at * z.d : nullptr;
}
template <typename T>
__device__ __forceinline__ double dot(const T* x, const T* y, int64_t d) {
  double sum = 0;
#pragma unroll 4
  for (int64_t k = lane(); k < d; k += 32) sum += static_cast<double>(x[k]) * static_cast<double>(y[k]);
  return warp_sum(sum);
}

/// to [d] = factor * d loss / d x of the row at a place, from by_row(k), of d loss / d z: it moves a row's direction alone, |z| being 1 (in form rocl, nearly).
template <typename T, typename ByRow>
__device__ __forceinline__ void give_back(const ViewRows<T>& z, int64_t place, const ByRow& by_row, double factor, T* to) {
  const T* const x = row_at(z, place);
  const double length = z.lengths[place], inverse = z.inverses[place];
  double along = 0;
  if (z.normalize && (z.released ? length > 0 : length > least_length)) {
    for (int64_t k = lane(); k < z.d; k += 32) along += by_row(k) * static_cast<double>(x[k]);
    along = warp_sum(along) * inverse * inverse / length;
  }
  for (int64_t k = lane(); k < z.d; k += 32) to[k] = static_cast<T>(factor * (inverse * by_row(k) - along * static_cast<double>(x[k])));
}

}  // namespace a_infonce::kernels::cuda

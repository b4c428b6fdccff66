// What the kernels of all products share.
#include <algorithm>
#include <cmath>
#include "kernels/cuda/launch.h"
#include "kernels/similarity/join_cuda.h"
#include "kernels/similarity/similarity_sm90a.h"

namespace a_infonce::kernels::cuda {
namespace {

constexpr int threads = 256;

__global__ void describe_kernel(const int32_t* codes, int64_t strips, Strip* out) {  // a warp a strip
  const int64_t strip = static_cast<int64_t>(blockIdx.x) * (threads / 32) + threadIdx.x / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (strip >= strips) return;
  Strip found{0x7fffffff, -1, 0};
  for (int half = 0; half < 2; ++half) {
    const int32_t code = codes[strip * chunk_rows + 32 * half + lane];
    if (code >= 0) found.first_group = min(found.first_group, code >> 1), found.last_group = max(found.last_group, code >> 1);
    found.kinds |= code < 0 ? 4 : 1 << (code & 1);
  }
  for (int step = 1; step < 32; step *= 2) {
    found.first_group = min(found.first_group, __shfl_xor_sync(full_warp, found.first_group, step));
    found.last_group = max(found.last_group, __shfl_xor_sync(full_warp, found.last_group, step));
    found.kinds |= __shfl_xor_sync(full_warp, found.kinds, step);
  }
  if (lane == 0) out[strip] = found;
}

__global__ void range_kernel(const double* sums, int64_t size, double least, int32_t* flag, int32_t value) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (i < size && !(sums[i] == 0 || (sums[i] >= least && sums[i] < static_cast<double>(INFINITY)))) *flag = value;
}

template <typename T, Joining joining>
__global__ void join_kernel(const T* partials, T* to, const Splits splits, const int32_t* flag, int32_t value) {
  if (flag && *flag != value) return;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x, k = blockIdx.y, inner = splits.owned * splits.numbers;
  if (i >= splits.rows * splits.numbers || splits.codes[i / splits.numbers] < 0) return;
  const auto partial = [&](int s) { return partials[(s * splits.count + k) * inner + i]; };
  T& result = to[k * splits.R * splits.numbers + i];
  if constexpr (joining == Joining::LogSums) {
    T top = partial(0), sum = 0;
    for (int s = 1; s < splits.splits; ++s) top = max(top, partial(s));
    for (int s = 0; s < splits.splits && top > -static_cast<T>(INFINITY); ++s) sum += exp(partial(s) - top);
    result = sum == 0 ? top : top + log(sum);
  } else {
    T all = partial(0);
    for (int s = 1; s < splits.splits; ++s) all = joining == Joining::Sums ? all + partial(s) : max(all, partial(s));
    result = joining == Joining::Sums ? result + all : max(result, all);
  }
}


}  // namespace

template <typename T>
void join_splits(Joining joining, const T* partials, T* to, const Splits& splits, const Context& context) {
  const dim3 grid(blocks_for(splits.rows * splits.numbers, threads), static_cast<unsigned>(splits.count));
  const auto run = [&](const char* name, auto* kernel) { launch(name, kernel, grid, threads, 0, context.stream, partials, to, splits, context.flag, context.value); };
  if (joining == Joining::Sums) return run("join sums", join_kernel<T, Joining::Sums>);
  if (joining == Joining::Maxima) return run("join maxima", join_kernel<T, Joining::Maxima>);
  if constexpr (sizeof(T) == sizeof(double)) run("join logarithms", join_kernel<T, Joining::LogSums>);
}
template void join_splits(Joining, const float*, float*, const Splits&, const Context&);
template void join_splits(Joining, const double*, double*, const Splits&, const Context&);

int splits_of(int64_t row_blocks, int64_t columns) {
  // Thread blocks run in waves of one a multiprocessor; each split reads and writes its share of the results once more, as if it had half a block of columns to visit.
  // After many waves the last one matters less than memory for partial results does.
  const int64_t processors = device().multiprocessors, most = std::clamp<int64_t>(std::min(columns, 32 * processors / std::max<int64_t>(row_blocks, 1)), 1, 16);
  int64_t best = 1;
  double least = INFINITY;
  for (int64_t splits = 1; splits <= most; ++splits) {
    const double waves = static_cast<double>((row_blocks * splits + processors - 1) / processors);
    const double time = waves * (static_cast<double>(columns) / static_cast<double>(splits) + (splits > 1 ? 0.5 : 0.0));
    if (time < 0.98 * least) best = splits, least = time;
  }
  return static_cast<int>(best);
}

namespace {
#if defined(A_INFONCE_SM90A) || defined(A_INFONCE_EMULATED)
bool on_hopper(Products products) { return products == Products::Bf16 && device().capability == 90; }
#endif
}  // namespace

int64_t workspace_bytes(Products products, int64_t d, const Visits& visits, [[maybe_unused]] bool log_moments) {
#if defined(A_INFONCE_SM90A) || defined(A_INFONCE_EMULATED)
  if (log_moments && on_hopper(products) && d <= sm90a::most_dimensions) return sm90a::workspace_bytes();
#endif
  const int64_t number = products == Products::Float64 ? sizeof(double) : sizeof(float);
  return visits.splits > 1 ? visits.splits * visits.row_blocks * block_rows * (2 * static_cast<int64_t>(sizeof(double)) + (2 + padded_dimensions(d)) * number) : 0;
}

template <>
DeviceSimilarity<float> device_similarity(Products products) {
#if defined(A_INFONCE_SM90A) || defined(A_INFONCE_EMULATED)
  if (on_hopper(products)) {
    DeviceSimilarity<float> kernels = portable_bf16;
    kernels.log_moments = sm90a::log_moments, kernels.log_moments_gradient = sm90a::log_moments_gradient;
    return kernels;
  }
#endif
  return products == Products::Bf16 ? portable_bf16 : products == Products::Bf16x3 ? portable_bf16x3 : portable_float32;
}
template <>
DeviceSimilarity<double> device_similarity(Products) {
  return portable_float64;
}

void describe_codes(const int32_t* codes, int64_t R, Strip* strips, Stream stream) {
  launch("describe_codes", describe_kernel, blocks_for(R / chunk_rows, threads / 32), threads, 0, stream, codes, R / chunk_rows, strips);
}

template <typename T>
void find_out_of_range(const double* sums, int64_t size, int64_t n, int32_t* flag, int32_t value, Stream stream) {
  const double least = static_cast<double>(n) * (sizeof(T) == 4 ? 0x1p-100 : 0x1p-960);
  launch("find_out_of_range", range_kernel, blocks_for(size, threads), threads, 0, stream, sums, size, least, flag, value);
}
template void find_out_of_range<float>(const double*, int64_t, int64_t, int32_t*, int32_t, Stream);
template void find_out_of_range<double>(const double*, int64_t, int64_t, int32_t*, int32_t, Stream);

}  // namespace a_infonce::kernels::cuda

#include "kernels/rows/rows_cuda.h"
#include <cmath>
#include <cstring>
#include "kernels/rows/row_cuda.h"

namespace a_infonce::kernels::cuda {
namespace {

constexpr int threads = 256, warps = threads / 32;

/// Numbers of at least 0 have the order of their bits.
__device__ __forceinline__ void raise(double* to, double x) {
  unsigned long long bits;
  memcpy(&bits, &x, sizeof bits);
  atomicMax(reinterpret_cast<unsigned long long*>(to), bits);
}

__global__ void visits_kernel(int32_t blocks, int32_t moving, int32_t* offsets, int32_t* ranges) {
  const int32_t block = static_cast<int32_t>(blockIdx.x * threads + threadIdx.x);
  if (block <= blocks) offsets[block] = block;
  if (block < blocks) ranges[2 * block] = 0, ranges[2 * block + 1] = block < moving ? blocks : moving;
}

template <typename T>
__global__ void __launch_bounds__(threads, 1) measure_kernel(const ViewRows<T> z, Numbers* numbers) {  // a warp a row
  double square = 0, error = 0;  // the largest
  for (int64_t place = static_cast<int64_t>(blockIdx.x) * warps + warp(); place < z.rows; place += static_cast<int64_t>(gridDim.x) * warps) {
    const T* const x = row_at(z, place);
    double length = 0, inverse = x ? 1 : 0;
    if (x) {
      const double sum = dot(x, x, z.d);
      length = sqrt(sum);
      if (z.normalize) inverse = 1 / (z.released ? length + 1e-8 : length < least_length ? least_length : length);
      const double whole = sum * inverse * inverse, off = fabs(length - 1);
      if (!(whole <= square)) square = whole < static_cast<double>(INFINITY) ? whole : static_cast<double>(INFINITY);
      if (off > error) error = off;
    }
    if (lane() == 0) {
      z.lengths[place] = length, z.inverses[place] = inverse;
      int32_t code = -1;
      if (x && z.given) {
        code = z.given[place < z.first_count ? place : z.first_count + place - z.places.second_place];
        if (code < 0) atomicMin(&numbers->least_code, code);
      } else if (x) {
        code = static_cast<int32_t>(2 * z.places.image(place) + (z.places.view(place) == z.places.adversarial));
      }
      z.codes[place] = code;
    }
  }
  double* const shared = shared_memory<double>();
  if (lane() == 0) shared[warp()] = square, shared[warps + warp()] = error;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 0; w < warps; ++w) square = max(square, shared[w]), error = max(error, shared[warps + w]);
  raise(&numbers->largest_square, square), raise(&numbers->largest_error, error);
}

template <typename T>
__global__ void __launch_bounds__(threads, 1) within_kernel(const ViewRows<T> z, double scale, double* similarity, double* partials) {  // a warp an image
  const int64_t image = static_cast<int64_t>(blockIdx.x) * warps + warp(), views = z.places.views;
  double sum = 0;
  if (image < z.places.batch)
    for (int64_t v = 0; v < views; ++v)
      for (int64_t w = v; w < views; ++w) {
        const int64_t a = z.places.place(v, image), b = z.places.place(w, image);
        const double s = scale * (z.inverses[a] * z.inverses[b] * dot(row_at(z, a), row_at(z, b), z.d));
        if (lane() == 0) similarity[(image * views + v) * views + w] = similarity[(image * views + w) * views + v] = s;
        sum += v == w ? s : 2 * s;
      }
  if (!partials) return;
  const double all = cuda::sum(lane() == 0 ? sum : 0, shared_memory<double>());
  if (threadIdx.x == 0) partials[blockIdx.x] = all;
}

template <typename T>
struct SumsBy {
  const T* by[4];
};
/// A block takes 32 dimensions of a part of the rows; its warps take rows in turn.
template <typename T, int count>
__global__ void __launch_bounds__(threads, 1) sum_rows_kernel(const ViewRows<T> z, const SumsBy<T> by, double* out) {
  const int64_t own = static_cast<int64_t>(blockIdx.y) * 32 + lane(), k = own < z.d ? own : 0, first = z.rows * blockIdx.x / gridDim.x, last = z.rows * (blockIdx.x + 1) / gridDim.x;
  double sums[2][count] = {};
#pragma unroll 4
  for (int64_t place = first + warp(); place < last; place += warps) {  // no branches: loads of several rows are in flight
    const T* const x = row_at(z, place);
    const double e = static_cast<double>((x ? x : z.first)[k]) * z.inverses[place];
    const bool adversarial = z.codes[place] & 1;
#pragma unroll
    for (int c = 0; c < count; ++c) {
      const double term = by.by[c] ? static_cast<double>(by.by[c][place]) * e : e;
      sums[0][c] += adversarial ? 0 : term, sums[1][c] += adversarial ? term : 0;
    }
  }
  double* const shared = shared_memory<double>();  // [warps, 2, count, 32]
#pragma unroll
  for (int c = 0; c < 2 * count; ++c) shared[(warp() * 2 * count + c) * 32 + lane()] = sums[c / count][c % count];
  __syncthreads();
  for (int at = static_cast<int>(threadIdx.x); at < 2 * count * 32; at += threads) {
    double sum = 0;
    for (int w = 0; w < warps; ++w) sum += shared[w * 2 * count * 32 + at];
    const int64_t dimension = static_cast<int64_t>(blockIdx.y) * 32 + at % 32;
    if (dimension < z.d) out[(static_cast<int64_t>(blockIdx.x) * 2 * count + at / 32) * z.d + dimension] = sum;
  }
}
__global__ void sum_parts_kernel(const double* parts, int64_t width, double* out) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (at >= width) return;
  double sum = 0;
#pragma unroll 8
  for (int64_t part = 0; part < row_sum_parts; ++part) sum += parts[part * width + at];
  out[at] = sum;
}

__global__ void mean_kernel(const double* sums, int64_t d, const double* partials, int64_t count, const Places places, double scale, Numbers* numbers) {
  double square = 0;
  for (int64_t k = threadIdx.x; k < d; k += threads) {
    const double sum = sums[k] + sums[d + k];
    square += scale * sum * sum;
  }
  for (int64_t k = threadIdx.x; k < count; k += threads) square -= partials[k];
  square = cuda::sum(square, shared_memory<double>());
  const int64_t rows = places.views * places.batch, pairs = rows * (rows - places.views);
  if (threadIdx.x == 0) numbers->mean = square / static_cast<double>(pairs > 1 ? pairs : 1);
}

template <typename T>
__global__ void __launch_bounds__(threads, 1) finish_kernel(const ViewRows<T> z, const RowGradient<T> task) {  // a warp a row
  const int64_t views = z.places.views, at = static_cast<int64_t>(blockIdx.x) * warps + warp();
  if (at >= z.first_count) return;
  double* const factors = shared_memory<double>() + warp() * views;  // of the rows of the image
  const int64_t image = z.places.image(at), view = z.places.view(at);
  const bool kind = view == z.places.adversarial;
  const double across = 2 * (kind ? 1 - task.alpha : task.alpha);
  for (int64_t w = lane(); w < views; w += 32) {
    const int64_t place = z.places.place(w, image), there = (image * views + view) * views + w, back = (image * views + w) * views + view;
    const double end = (w == z.places.adversarial) == kind ? 1 : across;
    double by = 0;
    for (int c = 0; c < task.centres; ++c) {
      const double mine = task.weights[c] ? static_cast<double>(task.weights[c][at]) : 1, theirs = task.weights[c] ? static_cast<double>(task.weights[c][place]) : 1;
      by -= end * task.numbers->centres[c] * (static_cast<double>(task.own[c][at]) * theirs + mine * static_cast<double>(task.other[c][place]));
    }
    if (w != view) by += end * (task.full[there] + task.full[back]) + task.detached[there];
    factors[w] = task.scale * by * z.inverses[place];
  }
  __syncwarp();
  const double factor = task.scale * (task.factors ? static_cast<double>(task.factors[at]) : 1);
  double own[2] = {}, weight[2] = {};
  for (int c = 0; c < task.centres; ++c) {
    const double centre = task.scale * task.numbers->centres[c];
    own[c] = centre * static_cast<double>(task.own[c][at]), weight[c] = centre * (task.weights[c] ? static_cast<double>(task.weights[c][at]) : 1);
  }
  const auto by_row = [&](int64_t k) {  // d loss / d z
    double g = factor * static_cast<double>(task.sums[at * task.stride + k]);
    for (int other = 0; other < 2; ++other)
      for (int c = 0; c < task.centres; ++c) {
        const double* const sums = task.common + (other * task.centres + c) * 2 * z.d + k;
        const double end = (other == 1) == kind ? 1 : across;
        g += end * (own[c] * sums[0] + weight[c] * sums[z.d]);
      }
    for (int64_t w = 0; w < views; ++w)
      if (factors[w] != 0) g += factors[w] * static_cast<double>(row_at(z, z.places.place(w, image))[k]);
    return g;
  };
  give_back(z, at, by_row, *task.by_loss, task.to + at * z.d);
}

}  // namespace

void visit_moving(int64_t blocks, int64_t moving, int32_t* offsets, int32_t* ranges, Stream stream) {
  launch("visit_moving", visits_kernel, blocks_for(blocks + 1, threads), threads, 0, stream, static_cast<int32_t>(blocks), static_cast<int32_t>(moving), offsets, ranges);
}

template <typename T>
void measure(const ViewRows<T>& z, Numbers* numbers, Stream stream) {
  const unsigned blocks = blocks_for(z.rows, warps);
  launch("measure", measure_kernel<T>, blocks < 2048 ? blocks : 2048, threads, 2 * warps * sizeof(double), stream, z, numbers);
}

int64_t partial_sums(int64_t batch) { return blocks_for(batch, warps); }
template <typename T>
void similarities_within(const ViewRows<T>& z, double scale, double* similarity, double* partials, Stream stream) {
  launch("similarities_within", within_kernel<T>, blocks_for(z.places.batch, warps), threads, partials ? reduce_bytes<double> : 0, stream, z, scale, similarity, partials);
}

template <typename T>
void sum_rows(const ViewRows<T>& z, int count, const T* const* by, double* workspace, double* sums, Stream stream) {
  SumsBy<T> all{};
  for (int c = 0; c < count; ++c) all.by[c] = by[c];
  auto* const kernel = count == 1 ? sum_rows_kernel<T, 1> : count == 2 ? sum_rows_kernel<T, 2> : sum_rows_kernel<T, 4>;
  const int64_t width = 2 * count * z.d;
  launch("sum_rows", kernel, dim3(row_sum_parts, blocks_for(z.d, 32)), threads, threads * 2 * count * sizeof(double), stream, z, all, workspace);
  launch("sum_parts", sum_parts_kernel, blocks_for(width, threads), threads, 0, stream, workspace, width, sums);
}

void find_mean(const double* sums, int64_t d, const double* partials, const Places& places, double scale, Numbers* numbers, Stream stream) {
  launch("find_mean", mean_kernel, 1, threads, reduce_bytes<double>, stream, sums, d, partials, partial_sums(places.batch), places, scale, numbers);
}

template <typename T>
void finish_gradient(const ViewRows<T>& z, const RowGradient<T>& task, Stream stream) {
  launch("finish_gradient", finish_kernel<T>, blocks_for(z.first_count, warps), threads, warps * z.places.views * sizeof(double), stream, z, task);
}

#define A_INFONCE_FOR(T)                                                                        \
  template void measure<T>(const ViewRows<T>&, Numbers*, Stream);                               \
  template void similarities_within<T>(const ViewRows<T>&, double, double*, double*, Stream);   \
  template void sum_rows<T>(const ViewRows<T>&, int, const T* const*, double*, double*, Stream); \
  template void finish_gradient<T>(const ViewRows<T>&, const RowGradient<T>&, Stream);
A_INFONCE_FOR(float)
A_INFONCE_FOR(double)

}  // namespace a_infonce::kernels::cuda

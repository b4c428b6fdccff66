#define A_INFONCE_ISA cuda
#include "kernels/square/square_cuda.h"
#include "kernels/cuda/reduce.h"
#include "kernels/perturbation/arithmetic.h"

namespace a_infonce::kernels::cuda {
namespace {

constexpr unsigned threads = 256, most_threads = 512;  // where a block has an image: of small and of large ones

/// Of a pixel: its channel, row and column.
struct Place {
  __device__ Place(int64_t i, ImageShape shape) : channel(i / (shape.height * shape.width)) {
    i -= channel * shape.height * shape.width;
    row = i / shape.width, column = i - row * shape.width;
  }
  int64_t channel, row, column;
};

struct Window {
  int64_t top, left, side;
  __device__ bool holds(int64_t row, int64_t column) const { return row >= top && column >= left && row < top + side && column < left + side; }
};
template <typename Scalar>
__device__ Window window(Scalar vertical, Scalar horizontal, ImageShape shape, int64_t side) {
  return {square_coordinate(vertical, shape.height - side), square_coordinate(horizontal, shape.width - side), side};
}

/// A thread a pixel.
template <typename Scalar>
__global__ void start_linf_kernel(Scalar* out, const Scalar* x, const Scalar* u, int64_t n, ImageShape shape, Scalar radius) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const int64_t image = i / shape.size();
  const Place at(i - image * shape.size(), shape);
  const Scalar sign = square_sign(u[(image * shape.channels + at.channel) * shape.width + at.column]);
  out[i] = clamp(project_linf(x[i] + sign * radius, x[i], radius), Scalar{0}, Scalar{1});
}

template <typename Scalar>
__global__ void step_linf_kernel(Scalar* out, const Scalar* best, const Scalar* x, const Scalar* u, int64_t n, ImageShape shape, Scalar radius, int64_t side) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const int64_t image = i / shape.size();
  const Place at(i - image * shape.size(), shape);
  u += image * (2 + shape.channels);
  Scalar value = best[i];
  if (window(u[0], u[1], shape, side).holds(at.row, at.column))
    value = clamp(project_linf(value + square_sign(u[2 + at.channel]) * 2 * radius, x[i], radius), Scalar{0}, Scalar{1});
  out[i] = value;
}

/// out = x + delta(i) scaled to length epsilon, in the box; a block an image.
template <typename Scalar, typename Delta>
__device__ void place(Scalar* out, const Scalar* x, int64_t size, double epsilon, double* room, const Delta& delta) {
  double squares = 0;
  for (int64_t i = threadIdx.x; i < size; i += blockDim.x) squares += delta(i) * delta(i);
  const double scale = epsilon * RADIUS_MARGIN<Scalar> / (square_root(sum(squares, room)) + 1e-12);
  for (int64_t i = threadIdx.x; i < size; i += blockDim.x) out[i] = clamp(add_toward(x[i], static_cast<Scalar>(delta(i) * scale)), Scalar{0}, Scalar{1});
}

template <typename Scalar>
__global__ void __launch_bounds__(most_threads, 1) start_l2_kernel(Scalar* out, const Scalar* x, const Scalar* u, const double* tile, ImageShape shape, double epsilon) {
  const TileGrid grid(shape);
  const int64_t side = grid.side, first = (shape.height - 5 * side) / 2;
  u += blockIdx.x * grid.rows * grid.columns * (1 + shape.channels);
  place(out + blockIdx.x * shape.size(), x + blockIdx.x * shape.size(), shape.size(), epsilon, shared_memory<double>(), [&](int64_t i) -> double {
    const Place at(i, shape);
    if (at.row < first || at.column < first) return 0;
    const int64_t row = (at.row - first) / side, column = (at.column - first) / side, r = at.row - first - row * side, c = at.column - first - column * side;
    if (row >= grid.rows || column >= grid.columns) return 0;
    const Scalar* const mine = u + (row * grid.columns + column) * (1 + shape.channels);
    return square_sign(mine[1 + at.channel]) * (mine[0] > Scalar{0.5} ? tile[c * side + r] : tile[r * side + c]);
  });
}

/// Sums over the pixels of a window, a double a pixel.
template <typename Body>
__device__ double window_sum(const Window& window, double* room, const Body& body) {
  double total = 0;
  for (int64_t i = threadIdx.x; i < window.side * window.side; i += blockDim.x) {
    const int64_t r = i / window.side, c = i - r * window.side;
    total += body(window.top + r, window.left + c);
  }
  return sum(total, room);
}

template <typename Scalar>
__global__ void __launch_bounds__(most_threads, 1) step_l2_kernel(Scalar* out, const Scalar* best, const Scalar* x, const Scalar* u, const double* tile, ImageShape shape, double epsilon, int64_t side) {
  double *const room = shared_memory<double>(), *const lengths = room + reduce_bytes<double> / sizeof(double), *const scales = lengths + shape.channels;  // of each channel
  out += blockIdx.x * shape.size(), best += blockIdx.x * shape.size(), x += blockIdx.x * shape.size(), u += blockIdx.x * (5 + shape.channels);
  const Window to = window(u[0], u[1], shape, side), from = window(u[2], u[3], shape, side);
  const bool transposed = u[4] > Scalar{0.5};
  const auto change = [=](int64_t i) { return static_cast<double>(best[i]) - static_cast<double>(x[i]); };
  const auto painted = [=](int64_t channel, int64_t row, int64_t column, double change, double length) {
    const int64_t r = row - to.top, c = column - to.left;
    return square_sign(u[5 + channel]) * (transposed ? tile[c * side + r] : tile[r * side + c]) + change / (1e-12 + length);
  };
  double squares = 0;
  for (int64_t i = threadIdx.x; i < shape.size(); i += blockDim.x) squares += change(i) * change(i);
  const double left = epsilon * epsilon - sum(squares, room), unused = (left > 0 ? left : 0) / static_cast<double>(shape.channels);
  for (int64_t channel = 0; channel < shape.channels; ++channel) {
    const auto at = [&](int64_t row, int64_t column) { return change((channel * shape.height + row) * shape.width + column); };
    // Squared lengths: of the window, of both windows together, of what comes into the window.
    const double here = window_sum(to, room, [&](int64_t row, int64_t column) { return at(row, column) * at(row, column); });
    const double both = here + window_sum(from, room, [&](int64_t row, int64_t column) { return to.holds(row, column) ? 0 : at(row, column) * at(row, column); });
    const double length = square_root(here);
    const double squared = window_sum(to, room, [&](int64_t row, int64_t column) {
      const double value = painted(channel, row, column, at(row, column), length);
      return value * value;
    });
    if (threadIdx.x == 0) lengths[channel] = length, scales[channel] = square_root(unused + both) / (1e-12 + square_root(squared));
  }
  __syncthreads();
  place(out, x, shape.size(), epsilon, room, [&](int64_t i) -> double {
    const Place at(i, shape);
    if (to.holds(at.row, at.column)) return painted(at.channel, at.row, at.column, change(i), lengths[at.channel]) * scales[at.channel];
    return from.holds(at.row, at.column) ? 0 : change(i);
  });
}

dim3 image_threads(ImageShape shape) { return dim3(shape.size() < 4096 ? threads : most_threads); }

}  // namespace

template <typename Scalar>
void square_start_linf(Scalar* out, const Scalar* x, const Scalar* u, int64_t rows, ImageShape shape, double epsilon, Stream stream) {
  const int64_t n = rows * shape.size();
  launch("square_start_linf", start_linf_kernel<Scalar>, blocks_for(n, threads), dim3(threads), 0, stream, out, x, u, n, shape, round_down<Scalar>(epsilon));
}

template <typename Scalar>
void square_step_linf(Scalar* out, const Scalar* best, const Scalar* x, const Scalar* u, int64_t rows, ImageShape shape, double epsilon, int64_t side, Stream stream) {
  const int64_t n = rows * shape.size();
  launch("square_step_linf", step_linf_kernel<Scalar>, blocks_for(n, threads), dim3(threads), 0, stream, out, best, x, u, n, shape, round_down<Scalar>(epsilon), side);
}

template <typename Scalar>
void square_start_l2(Scalar* out, const Scalar* x, const Scalar* u, const double* tile, int64_t rows, ImageShape shape, double epsilon, Stream stream) {
  launch("square_start_l2", start_l2_kernel<Scalar>, dim3(static_cast<unsigned>(rows)), image_threads(shape), reduce_bytes<double>, stream, out, x, u, tile, shape, epsilon);
}

template <typename Scalar>
void square_step_l2(Scalar* out, const Scalar* best, const Scalar* x, const Scalar* u, const double* tile, int64_t rows, ImageShape shape, double epsilon, int64_t side, Stream stream) {
  const size_t shared_bytes = reduce_bytes<double> + 2 * static_cast<size_t>(shape.channels) * sizeof(double);
  launch("square_step_l2", step_l2_kernel<Scalar>, dim3(static_cast<unsigned>(rows)), image_threads(shape), shared_bytes, stream, out, best, x, u, tile, shape, epsilon, side);
}

#define A_INFONCE_INSTANTIATE(Scalar)                                                                                                                          \
  template void square_start_linf(Scalar*, const Scalar*, const Scalar*, int64_t, ImageShape, double, Stream);                                                \
  template void square_step_linf(Scalar*, const Scalar*, const Scalar*, const Scalar*, int64_t, ImageShape, double, int64_t, Stream);                         \
  template void square_start_l2(Scalar*, const Scalar*, const Scalar*, const double*, int64_t, ImageShape, double, Stream);                                   \
  template void square_step_l2(Scalar*, const Scalar*, const Scalar*, const Scalar*, const double*, int64_t, ImageShape, double, int64_t, Stream);
A_INFONCE_INSTANTIATE(float)
A_INFONCE_INSTANTIATE(double)

}  // namespace a_infonce::kernels::cuda

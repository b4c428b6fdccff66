#define A_INFONCE_ISA portable
#include "kernels/square/square.h"
#include <algorithm>
#include <cmath>
#include <vector>
#include "kernels/perturbation/perturbation_impl.h"

namespace a_infonce::kernels {
namespace {

using portable::add_toward, portable::clamp, portable::project_linf, portable::round_down, portable::RADIUS_MARGIN;

/// Offsets, within a channel, of the pixels of a window.
template <typename Body>
void for_window(int64_t top, int64_t left, int64_t side, ImageShape shape, Body body) {
  const int64_t rows = std::min(side, shape.height - top), columns = std::min(side, shape.width - left);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) body((top + r) * shape.width + left + c, r, c);
}

double length(const double* values, int64_t n) { return std::sqrt(portable::sum_of_squares(values, n)); }

/// out = x + delta scaled to length epsilon, in the box.
template <typename Scalar>
void place(Scalar* out, const Scalar* x, const std::vector<double>& delta, double epsilon) {
  const auto n = static_cast<int64_t>(delta.size());
  const double scale = epsilon * RADIUS_MARGIN<Scalar> / (length(delta.data(), n) + 1e-12);
  for (int64_t i = 0; i < n; ++i) out[i] = clamp(add_toward(x[i], static_cast<Scalar>(delta[i] * scale)), Scalar{0}, Scalar{1});
}

/// Adds concentric rectangles of weight 1 / ring^2 to rows x columns pixels of `tile`, then scales them to length `sign`.
void add_rectangles(double* tile, int64_t rows, int64_t columns, double sign) {
  int64_t top = rows / 2, left = columns / 2;
  for (int64_t ring = 0; ring < std::max(rows / 2, columns / 2) + 1; ++ring, --top, --left)
    for (int64_t r = std::max<int64_t>(top, 0); r < std::min(top + 2 * ring + 1, rows); ++r)
      for (int64_t c = std::max<int64_t>(left, 0); c < std::min(left + 2 * ring + 1, columns); ++c)
        tile[r * columns + c] += 1.0 / static_cast<double>((ring + 1) * (ring + 1));
  const double scale = sign / length(tile, rows * columns);
  for (int64_t i = 0; i < rows * columns; ++i) tile[i] *= scale;
}

}  // namespace

template <typename Scalar>
void square_start_linf(Scalar* out, const Scalar* x, const Scalar* u, ImageShape shape, double epsilon) {
  const Scalar radius = round_down<Scalar>(epsilon);
  for (int64_t channel = 0; channel < shape.channels; ++channel, u += shape.width)
    for (int64_t row = 0; row < shape.height; ++row, out += shape.width, x += shape.width)
      for (int64_t column = 0; column < shape.width; ++column)
        out[column] = clamp(project_linf(x[column] + square_sign(u[column]) * radius, x[column], radius), Scalar{0}, Scalar{1});
}

template <typename Scalar>
void square_step_linf(Scalar* out, const Scalar* best, const Scalar* x, const Scalar* u, ImageShape shape, double epsilon, int64_t side) {
  std::copy(best, best + shape.size(), out);
  const Scalar radius = round_down<Scalar>(epsilon);
  const int64_t top = square_coordinate(u[0], shape.height - side), left = square_coordinate(u[1], shape.width - side);
  for (int64_t channel = 0; channel < shape.channels; ++channel) {
    const Scalar change = square_sign(u[2 + channel]) * 2 * radius;
    const int64_t first = channel * shape.height * shape.width;
    for_window(top, left, side, shape, [&](int64_t pixel, int64_t, int64_t) {
      const int64_t i = first + pixel;
      out[i] = clamp(project_linf(best[i] + change, x[i], radius), Scalar{0}, Scalar{1});
    });
  }
}

void square_tile(double* tile, int64_t side) {
  std::fill(tile, tile + side * side, 0);
  const int64_t upper = side / 2;
  if (upper > 0) add_rectangles(tile, upper, side, 1);
  add_rectangles(tile + upper * side, side - upper, side, -1);
  const double scale = 1 / length(tile, side * side);
  for (int64_t i = 0; i < side * side; ++i) tile[i] *= scale;
}

template <typename Scalar>
void square_start_l2(Scalar* out, const Scalar* x, const Scalar* u, const double* tile, ImageShape shape, double epsilon) {
  const TileGrid grid(shape);
  const int64_t side = grid.side, first = (shape.height - 5 * side) / 2;
  std::vector<double> delta(static_cast<size_t>(shape.size()));
  for (int64_t row = 0; row < grid.rows; ++row)
    for (int64_t column = 0; column < grid.columns; ++column, u += 1 + shape.channels)
      for (int64_t channel = 0; channel < shape.channels; ++channel)
        for_window(first + row * side, first + column * side, side, shape, [&](int64_t pixel, int64_t r, int64_t c) {
          delta[channel * shape.height * shape.width + pixel] += square_sign(u[1 + channel]) * (u[0] > Scalar{0.5} ? tile[c * side + r] : tile[r * side + c]);
        });
  place(out, x, delta, epsilon);
}

template <typename Scalar>
void square_step_l2(Scalar* out, const Scalar* best, const Scalar* x, const Scalar* u, const double* tile, ImageShape shape, double epsilon, int64_t side) {
  const int64_t top = square_coordinate(u[0], shape.height - side), left = square_coordinate(u[1], shape.width - side);
  const int64_t from_top = square_coordinate(u[2], shape.height - side), from_left = square_coordinate(u[3], shape.width - side);
  const bool transposed = u[4] > Scalar{0.5};
  std::vector<double> delta(static_cast<size_t>(shape.size())), window(static_cast<size_t>(side * side));
  for (int64_t i = 0; i < shape.size(); ++i) delta[i] = static_cast<double>(best[i]) - static_cast<double>(x[i]);
  const double whole = length(delta.data(), shape.size()), unused = std::max(epsilon * epsilon - whole * whole, 0.0) / static_cast<double>(shape.channels);
  const auto inside = [=](int64_t r, int64_t c) { return r >= 0 && c >= 0 && r < side && c < side; };
  for (int64_t channel = 0; channel < shape.channels; ++channel) {
    double* plane = delta.data() + channel * shape.height * shape.width;
    double here = 0, both = 0, squared = 0;  // squared lengths: of the window, of both windows together, of what comes into the window
    for_window(top, left, side, shape, [&](int64_t pixel, int64_t, int64_t) { here += plane[pixel] * plane[pixel]; });
    for_window(from_top, from_left, side, shape, [&](int64_t pixel, int64_t r, int64_t c) {
      if (!inside(from_top + r - top, from_left + c - left)) both += plane[pixel] * plane[pixel];
    });
    both += here;
    for_window(top, left, side, shape, [&](int64_t pixel, int64_t r, int64_t c) {
      const double value = square_sign(u[5 + channel]) * (transposed ? tile[c * side + r] : tile[r * side + c]) + plane[pixel] / (1e-12 + std::sqrt(here));
      window[r * side + c] = value;
      squared += value * value;
    });
    const double scale = std::sqrt(unused + both) / (1e-12 + std::sqrt(squared));
    for_window(from_top, from_left, side, shape, [&](int64_t pixel, int64_t, int64_t) { plane[pixel] = 0; });
    for_window(top, left, side, shape, [&](int64_t pixel, int64_t r, int64_t c) { plane[pixel] = window[r * side + c] * scale; });
  }
  place(out, x, delta, epsilon);
}

#define A_INFONCE_INSTANTIATE(Scalar)                                                                                                  \
  template void square_start_linf(Scalar*, const Scalar*, const Scalar*, ImageShape, double);                                          \
  template void square_step_linf(Scalar*, const Scalar*, const Scalar*, const Scalar*, ImageShape, double, int64_t);                   \
  template void square_start_l2(Scalar*, const Scalar*, const Scalar*, const double*, ImageShape, double);                             \
  template void square_step_l2(Scalar*, const Scalar*, const Scalar*, const Scalar*, const double*, ImageShape, double, int64_t);
A_INFONCE_INSTANTIATE(float)
A_INFONCE_INSTANTIATE(double)

}  // namespace a_infonce::kernels

// What the corruptions are made of, each with the semantics of the library that the authors called. Planes are rows of `width` numbers.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace a_infonce::kernels::corruption {

using Plane = std::vector<double>;

/// ... c b a | a b c ... : the sample that stands at place i of an axis of n.
constexpr int64_t reflect(int64_t i, int64_t n) {
  const int64_t place = (i % (2 * n) + 2 * n) % (2 * n);
  return place < n ? place : 2 * n - 1 - place;
}
/// ... c b | a b c ... (n > 1)
constexpr int64_t mirror(int64_t i, int64_t n) {
  const int64_t place = (i % (2 * n - 2) + 2 * n - 2) % (2 * n - 2);
  return place < n ? place : 2 * n - 2 - place;
}

/// scipy.ndimage.gaussian_filter, cut off at `truncate` sigma; outside the plane is its reflection, or its nearest sample.
void gaussian_filter(double* plane, int64_t height, int64_t width, double sigma, double truncate, bool reflected);

/// ImageMagick's motion blur: the samples on the way from each pixel in direction `degrees`, weighed by half a Gaussian, rounded to whole numbers.
void motion_filter(const double* plane, int64_t height, int64_t width, double radius, double sigma, double degrees, double* out);

/// Enlarges the middle of a plane by `factor` >= 1 (scipy.ndimage.zoom of order 1) and cuts it to the size it had.
void clipped_zoom(const double* plane, int64_t height, int64_t width, double factor, double* out);

/// Pillow's resize with its BOX filter, from bytes to bytes.
void box_resize(const uint8_t* plane, int64_t height, int64_t width, int64_t new_height, int64_t new_width, uint8_t* out);

/// A plasma fractal (diamond-square, periodic) on [0, 1] of side `side`, a power of two; uniform(i) is the number drawn at place i, in [0, 1).
template <typename Uniform>
Plane plasma(int64_t side, double decay, Uniform uniform) {
  Plane map(static_cast<size_t>(side * side), 0.0);
  double wibble = 100, least = 0, most = 0;
  const auto at = [&](int64_t y, int64_t x) -> double& { return map[static_cast<size_t>((y & (side - 1)) * side + (x & (side - 1)))]; };
  const auto set = [&](int64_t y, int64_t x, double sum) {
    at(y, x) = sum / 4 + wibble * (-wibble + 2 * wibble * uniform(y * side + x));  // the square of wibble, as in the original
    least = at(y, x) < least ? at(y, x) : least, most = at(y, x) > most ? at(y, x) : most;
  };
  for (int64_t step = side; step >= 2; step /= 2, wibble /= decay) {
    const int64_t half = step / 2;
    for (int64_t y = 0; y < side; y += step)
      for (int64_t x = 0; x < side; x += step) set(y + half, x + half, at(y, x) + at(y + step, x) + (at(y, x + step) + at(y + step, x + step)));
    for (int64_t y = 0; y < side; y += step)
      for (int64_t x = 0; x < side; x += step) {
        set(y, x + half, at(y + half, x + half) + at(y - half, x + half) + (at(y, x) + at(y, x + step)));
        set(y + half, x, at(y + half, x + half) + at(y + half, x - half) + (at(y, x) + at(y + step, x)));
      }
  }
  for (double& value : map) value = (value - least) / (most - least);
  return map;
}

}  // namespace a_infonce::kernels::corruption

#include "kernels/corruption/filters.h"
#include <algorithm>
#include <cmath>

namespace a_infonce::kernels::corruption {

void gaussian_filter(double* plane, int64_t height, int64_t width, double sigma, double truncate, bool reflected) {
  const auto radius = static_cast<int64_t>(truncate * sigma + 0.5);
  if (radius == 0) return;
  std::vector<double> weight(static_cast<size_t>(radius + 1)), line(static_cast<size_t>(std::max(height, width) + 2 * radius));
  double sum = 0;
  for (int64_t k = 0; k <= radius; ++k) sum += (k ? 2 : 1) * (weight[static_cast<size_t>(k)] = std::exp(-0.5 / (sigma * sigma) * static_cast<double>(k * k)));
  for (double& each : weight) each /= sum;
  const auto filter = [&](double* first, int64_t n, int64_t step) {
    for (int64_t i = -radius; i < n + radius; ++i)
      line[static_cast<size_t>(i + radius)] = first[(reflected ? reflect(i, n) : std::clamp<int64_t>(i, 0, n - 1)) * step];
    for (int64_t i = 0; i < n; ++i) {
      const double* middle = &line[static_cast<size_t>(i + radius)];
      double value = middle[0] * weight[0];
      for (int64_t k = radius; k >= 1; --k) value += (middle[-k] + middle[k]) * weight[static_cast<size_t>(k)];
      first[i * step] = value;
    }
  };
  for (int64_t x = 0; x < width; ++x) filter(plane + x, height, width);
  for (int64_t y = 0; y < height; ++y) filter(plane + y * width, width, 1);
}

void motion_filter(const double* plane, int64_t height, int64_t width, double radius, double sigma, double degrees, double* out) {
  struct Tap { int64_t y, x; double weight; };
  std::vector<Tap> taps(static_cast<size_t>(2 * std::ceil(radius) + 1));
  const double angle = degrees * (3.14159265358979323846 / 180);
  double sum = 0;
  for (size_t k = 0; k < taps.size(); ++k) {
    const auto way = static_cast<double>(k);
    taps[k] = {static_cast<int64_t>(std::ceil(way * std::sin(angle) - 0.5)), static_cast<int64_t>(std::ceil(way * std::cos(angle) - 0.5)),
               std::exp(-way * way / (2 * sigma * sigma))};
    sum += taps[k].weight;
  }
  for (int64_t y = 0; y < height; ++y)
    for (int64_t x = 0; x < width; ++x) {
      double value = 0;
      for (const Tap& tap : taps)
        value += tap.weight * plane[std::clamp<int64_t>(y + tap.y, 0, height - 1) * width + std::clamp<int64_t>(x + tap.x, 0, width - 1)];
      out[y * width + x] = std::floor(value / sum + 0.5);
    }
}

namespace {

/// Place o of the result lies between samples `first` and `second`, `share` of the way.
struct Between { int64_t first, second; double share; };

std::vector<Between> zoomed(int64_t n, double factor) {
  const auto cut = static_cast<int64_t>(std::ceil(static_cast<double>(n) / factor)), top = (n - cut) / 2;
  const auto size = static_cast<int64_t>(std::nearbyint(static_cast<double>(cut) * factor)), trim = (size - n) / 2;  // half to even, as Python rounds
  const double step = size > 1 ? static_cast<double>(cut - 1) / static_cast<double>(size - 1) : 0;
  std::vector<Between> axis;
  for (int64_t o = trim; o < trim + n; ++o) {
    const double place = static_cast<double>(o) * step;
    const auto first = std::min(static_cast<int64_t>(place), cut - 1);
    axis.push_back({top + first, top + std::min(first + 1, cut - 1), place - static_cast<double>(first)});
  }
  return axis;
}

}  // namespace

void clipped_zoom(const double* plane, int64_t height, int64_t width, double factor, double* out) {
  const std::vector<Between> rows = zoomed(height, factor), columns = zoomed(width, factor);
  for (const Between& y : rows)
    for (const Between& x : columns) {
      const double *upper = plane + y.first * width, *lower = plane + y.second * width;
      *out++ = (1 - y.share) * ((1 - x.share) * upper[x.first] + x.share * upper[x.second]) +
               y.share * ((1 - x.share) * lower[x.first] + x.share * lower[x.second]);
    }
}

namespace {

constexpr int precision = 32 - 8 - 2;  // bits of a weight in Pillow

/// result[o * step] = sum of weights and samples of one line of n, resized to `size`.
struct Box {
  struct Window { int64_t first, count; };
  std::vector<Window> windows;
  std::vector<int64_t> weights;

  Box(int64_t n, int64_t size) {
    const double scale = static_cast<double>(n) / static_cast<double>(size), support = 0.5 * std::max(scale, 1.0), shrink = 1 / std::max(scale, 1.0);
    std::vector<double> share;
    for (int64_t o = 0; o < size; ++o) {
      const double centre = (static_cast<double>(o) + 0.5) * scale;
      const int64_t begin = std::max<int64_t>(0, static_cast<int64_t>(centre - support + 0.5));
      const int64_t end = std::min(n, static_cast<int64_t>(centre + support + 0.5));
      share.clear();
      double sum = 0;
      for (int64_t i = begin; i < end; ++i) {
        const double place = (static_cast<double>(i) - centre + 0.5) * shrink;
        share.push_back(place > -0.5 && place <= 0.5 ? 1.0 : 0.0);
        sum += share.back();
      }
      windows.push_back({begin, end - begin});
      for (double each : share) weights.push_back(static_cast<int64_t>(0.5 + (sum != 0 ? each / sum : each) * (1 << precision)));
    }
  }

  void apply(const uint8_t* in, int64_t in_step, uint8_t* out, int64_t out_step) const {
    const int64_t* weight = weights.data();
    for (const Window& window : windows) {
      int64_t sum = int64_t{1} << (precision - 1);
      for (int64_t k = 0; k < window.count; ++k) sum += *weight++ * in[(window.first + k) * in_step];
      *out = static_cast<uint8_t>(std::clamp<int64_t>(sum >> precision, 0, 255));
      out += out_step;
    }
  }
};

}  // namespace

void box_resize(const uint8_t* plane, int64_t height, int64_t width, int64_t new_height, int64_t new_width, uint8_t* out) {
  const Box rows(height, new_height), columns(width, new_width);
  std::vector<uint8_t> half(static_cast<size_t>(height * new_width));
  for (int64_t y = 0; y < height; ++y) columns.apply(plane + y * width, 1, half.data() + y * new_width, 1);
  for (int64_t x = 0; x < new_width; ++x) rows.apply(half.data() + x, new_width, out + x, new_width);
}

}  // namespace a_infonce::kernels::corruption

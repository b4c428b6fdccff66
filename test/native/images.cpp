// The kernels over images and perturbations: every number they write is finite and where it may be.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>
#include "check.h"
#include "kernels/augment/augment.h"
#include "kernels/corruption/corruption.h"
#include "kernels/corruption/filters.h"
#include "kernels/fab/fab.h"
#include "kernels/perturbation/perturbation.h"
#include "kernels/procedural/procedural.h"
#include "kernels/random.h"
#include "kernels/square/square.h"

using namespace a_infonce::kernels;

namespace {

template <typename Scalar>
std::vector<Scalar> uniform(int64_t n, uint64_t stream, double low = 0, double high = 1) {
  std::vector<Scalar> x(n);
  a_infonce::random::fill_uniform(x.data(), n, 7, stream, static_cast<Scalar>(low), static_cast<Scalar>(high - low));
  return x;
}
/// Within the box, and within `epsilon` of `centre` in the norm (0: of no norm; 2; -1: the largest difference).
template <typename Scalar>
void inside(const char* what, const std::vector<Scalar>& y, const std::vector<Scalar>& centre, double epsilon, int norm) {
  double square = 0, largest = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    CHECK(y[i] >= 0 && y[i] <= 1, "%s, %zu numbers: %g at %zu", what, y.size(), double(y[i]), i);
    const double difference = static_cast<double>(y[i]) - centre[i];
    square += difference * difference, largest = std::max(largest, std::abs(difference));
  }
  CHECK(norm == 0 || (norm == 2 ? std::sqrt(square) : largest) <= epsilon, "%s leaves the ball of %g", what, epsilon);
}

template <typename Scalar>
void perturbations() {
  for (const int64_t n : {1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 64, 100, 257, 1023}) {
    const auto x = uniform<Scalar>(n, 1), gradient = uniform<Scalar>(n, 2, -1, 1);
    for (const StepOrder order : {StepOrder::ProjectThenClamp, StepOrder::ClampThenProject}) {
      auto y = x;
      for (int step = 0; step < 3; ++step) CHECK(linf_step(y.data(), gradient.data(), x.data(), n, 0.03, 0.02, order), "finite gradients");
      inside("linf_step", y, x, 0.03, -1);
      for (int step = 0; step < 3; ++step) CHECK(l2_step(y.data(), gradient.data(), x.data(), n, 0.5, 0.3, order), "finite gradients");
      inside("l2_step", y, x, 0.5, 2);
      auto bad = gradient;
      bad[n - 1] = static_cast<Scalar>(NAN);
      CHECK(!linf_step(y.data(), bad.data(), x.data(), n, 0.03, 0.02, order) && !l2_step(y.data(), bad.data(), x.data(), n, 0.5, 0.3, order), "NaN in a gradient of %ld", long(n));
    }
    std::vector<Scalar> start(n);
    linf_start(start.data(), x.data(), n, 0.03, 5, 6, 1, true);
    inside("linf_start", start, x, 0.03, -1);
    l2_start(start.data(), x.data(), n, 0.5, 5, 6, 1, true);
    inside("l2_start", start, x, 0.5, 2);
    for (const FabNorm norm : {FabNorm::Linf, FabNorm::L2})
      for (const double f : {0.0, 0.4, -0.4, 1e3}) {
        auto z = uniform<Scalar>(n, 3);
        CHECK(fab_step(z.data(), x.data(), gradient.data(), f, n, norm, 1.05, 0.1), "finite numbers");
        inside("fab_step", z, x, 0, 0);
      }
  }
}

template <typename Scalar>
void squares() {
  for (const ImageShape shape : {ImageShape{1, 5, 5}, ImageShape{3, 7, 9}, ImageShape{3, 32, 32}, ImageShape{1, 11, 6}}) {
    const auto x = uniform<Scalar>(shape.size(), 1);
    auto best = x, out = x;
    const auto signs = uniform<Scalar>(shape.channels * shape.width, 2);
    square_start_linf(best.data(), x.data(), signs.data(), shape, 0.1);
    inside("square_start_linf", best, x, 0.1, -1);
    for (int64_t side = 1; side <= std::min(shape.height, shape.width); ++side)
      for (const double corner : {0.0, 0.5, 1 - 0x1p-24}) {
        auto u = uniform<Scalar>(2 + shape.channels, 3);
        u[0] = u[1] = static_cast<Scalar>(corner);
        square_step_linf(out.data(), best.data(), x.data(), u.data(), shape, 0.1, side);
        inside("square_step_linf", out, x, 0.1, -1);
      }
    if (shape.height > shape.width) continue;  // L2 tiles are of the height's size
    const TileGrid grid(shape);
    std::vector<double> tile(grid.side * grid.side);
    square_tile(tile.data(), grid.side);
    const auto tiles = uniform<Scalar>(grid.rows * grid.columns * (1 + shape.channels), 4);
    square_start_l2(best.data(), x.data(), tiles.data(), tile.data(), shape, 0.5);
    inside("square_start_l2", best, x, 0.5, 2);
    for (int64_t side = 3; side <= shape.height; side += 2)
      for (const double corner : {0.0, 0.5, 1 - 0x1p-24}) {
        auto u = uniform<Scalar>(5 + shape.channels, 5);
        u[0] = u[3] = static_cast<Scalar>(corner), u[1] = u[2] = static_cast<Scalar>(1 - 0x1p-24 - corner);
        std::vector<double> window(side * side);
        square_tile(window.data(), side);
        square_step_l2(out.data(), best.data(), x.data(), u.data(), window.data(), shape, 0.5, side);
        inside("square_step_l2", out, x, 0.5, 2);
      }
  }
}

std::vector<uint8_t> bytes(int64_t n) {
  std::vector<uint8_t> x(n);
  for (int64_t i = 0; i < n; ++i) x[i] = static_cast<uint8_t>(a_infonce::random::bits(9, 0, i));
  return x;
}

void augmentations() {
  for (const int64_t channels : {1, 3})
    for (const auto& [height, width] : {std::pair<int64_t, int64_t>{1, 1}, {5, 3}, {32, 32}, {17, 40}}) {
      const auto image = bytes(channels * height * width);
      for (const bool resized : {true, false})
        for (const bool color_first : {true, false})
          for (const int64_t size : {int64_t{1}, int64_t{7}, std::min(height, width) + 2}) {
            if (!resized && size > std::min(height, width) + 2) continue;
            const augment::Pipeline pipeline{size, resized, {0.08, 1}, {0.75, 1.3}, 1, 0.5, 0.9, 0.8, 0.8, 0.8, 0.4, 0.3, color_first};
            for (uint64_t sample = 0; sample < 6; ++sample) {
              const auto choice = augment::draw(pipeline, height, width, 1, 2, 0, sample);
              std::vector<float> out(channels * size * size);
              augment::apply(image.data(), channels, height, width, choice, size, color_first, out.data());
              inside("augment", out, out, 0, 0);
            }
          }
    }
}

void corruptions() {
  for (const auto& [channels, height, width] : {std::array<int64_t, 3>{1, 8, 8}, {3, 9, 14}, {3, 33, 32}}) {
    const auto image = bytes(channels * height * width);
    for (int type = 0; type < static_cast<int>(std::size(corruption::names)); ++type)
      for (int severity = 1; severity <= corruption::severities; ++severity) {
        std::vector<uint8_t> out(image.size());
        corruption::Corruption(static_cast<corruption::Type>(type), severity, 3).apply(image.data(), channels, height, width, 11, out.data());
        CHECK(height == 8 || out != image, "%s changes nothing", corruption::names[type].data());
      }
  }
  for (const auto& [from, to] : {std::pair<int64_t, int64_t>{1, 1}, {9, 4}, {4, 9}, {13, 13}}) {
    std::vector<uint8_t> out(to * (to + 1));
    corruption::box_resize(std::vector<uint8_t>(from * (from + 1), 77).data(), from, from + 1, to, to + 1, out.data());
    for (const uint8_t value : out) CHECK(value == 77, "box_resize of a constant gives %d", value);
  }
  for (const bool reflected : {true, false}) {
    std::vector<double> plane(3 * 5, 2);
    corruption::gaussian_filter(plane.data(), 3, 5, 4, 4, reflected);
    for (const double value : plane) CHECK(std::abs(value - 2) < 1e-12, "gaussian_filter of a constant gives %g", value);
  }
}

void procedural_images() {
  for (const int64_t side : {1, 2, 7, 32})
    for (uint64_t index = 0; index < 20; ++index) {
      std::vector<uint8_t> out(procedural::channels * side * side);
      procedural::draw(out.data(), side, 1, 0, index);
    }
}

}  // namespace

void check_images() {
  perturbations<float>(), perturbations<double>();
  squares<float>(), squares<double>();
  augmentations(), corruptions(), procedural_images();
}

// The taps of Pillow's bilinear filter along an axis: a triangle of half-width max(1, length / size), cut off at the edges and normalised to sum 1.
#pragma once
#include <cmath>
#include <cstdint>
#include "kernels/host_device.h"

namespace a_infonce::kernels::augment {

struct Filter {
  A_INFONCE_HOST_DEVICE Filter(int64_t length, int64_t size)
      : length(length), scale(static_cast<double>(length) / static_cast<double>(size)), support(scale > 1 ? scale : 1) {
    const int64_t most = scale <= 1 ? 2 : 2 * static_cast<int64_t>(std::ceil(support)) + 1;
    taps = most < length ? most : length;
  }
  /// The taps from `begin` to `end` of result o. All windows have the same number of taps; one at the end of the axis starts earlier, at `first`, with weights of zero.
  struct Window {
    double centre;
    int64_t begin, end, first;
  };
  A_INFONCE_HOST_DEVICE Window window(int64_t o) const {
    const double centre = (static_cast<double>(o) + 0.5) * scale;
    const auto low = static_cast<int64_t>(centre - support + 0.5), high = static_cast<int64_t>(centre + support + 0.5);
    const int64_t begin = low > 0 ? low : 0, most = begin + taps < length ? begin + taps : length;
    return {centre, begin, high < most ? high : most, begin < length - taps ? begin : length - taps};
  }
  /// Before they are normalised.
  A_INFONCE_HOST_DEVICE double tap(const Window& window, int64_t i) const {
    const double height = 1 - std::fabs((static_cast<double>(i) - window.centre + 0.5) / support);
    return height > 0 ? height : 0;
  }

  int64_t length, taps;
  double scale, support;
};

}  // namespace a_infonce::kernels::augment

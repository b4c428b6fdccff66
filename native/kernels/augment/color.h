// The arithmetic of a pixel's color, numbers in [0, 1]: for CPUs and CUDA alike, in the namespace A_INFONCE_ISA, as in cpu/vector.h.
#pragma once
#include <cstdint>
#include "kernels/host_device.h"

namespace a_infonce::kernels::A_INFONCE_ISA {

A_INFONCE_HOST_DEVICE inline float unit(float x) { return x < 0 ? 0.0f : x > 1 ? 1.0f : x; }
A_INFONCE_HOST_DEVICE inline float luma(float r, float g, float b) { return 0.299f * r + 0.587f * g + 0.114f * b; }  // ITU-R BT.601

/// byte / 255, rounded once (ToTensor): 1 / 255 = 2^-8 + 2^-16 + ..., of which the product with the first two powers is exact.
A_INFONCE_HOST_DEVICE inline float from_byte(uint8_t byte) {
  constexpr float high = 0x1.01p-8f, low = static_cast<float>(1.0 / 255 - static_cast<double>(high));
  const auto x = static_cast<float>(byte);
  return x * high + x * low;
}

/// Blends with the gray image.
A_INFONCE_HOST_DEVICE inline void saturate(float& r, float& g, float& b, float factor) {
  const float gray = (1 - factor) * luma(r, g, b);
  r = unit(r * factor + gray);
  g = unit(g * factor + gray);
  b = unit(b * factor + gray);
}

/// Turns the hue in HSV by `shift` sixths of the circle. A channel of hue H (in sixths), value V and chroma C is V - C * clamp(min(k, 4 - k), 0, 1) with
/// k = (n + H) mod 6 and n = 5, 3, 1 for red, green, blue.
A_INFONCE_HOST_DEVICE inline void turn_hue(float& r, float& g, float& b, float shift) {
  const float red = r, green = g, blue = b;
  const float rg_high = red > green ? red : green, rg_low = red > green ? green : red;
  const float value = rg_high > blue ? rg_high : blue, low = rg_low < blue ? rg_low : blue, chroma = value - low;
  const float inverse = 1 / (chroma > 0 ? chroma : 1.0f);
  float sixths = value == red ? (green - blue) * inverse : value == green ? (blue - red) * inverse + 2 : (red - green) * inverse + 4;
  sixths += shift;
  sixths = sixths < 0 ? sixths + 6 : sixths;
  sixths = sixths >= 6 ? sixths - 6 : sixths;
  const auto channel = [=](float offset) {
    float k = sixths + offset;
    k = k >= 6 ? k - 6 : k;
    const float fall = 4 - k;
    return value - chroma * unit(k < fall ? k : fall);
  };
  r = channel(5), g = channel(3), b = channel(1);
}

}  // namespace a_infonce::kernels::A_INFONCE_ISA

// The fifteen common corruptions of Hendrycks and Dietterich (ICLR 2019), less JPEG, which needs a codec: with the parameters of their CIFAR-10-C
// (make_cifar_c.py), for images of any size. Images are planar bytes; each is a function of its bytes and its key alone.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

namespace a_infonce::kernels::corruption {

/// In the order of CIFAR-10-C, under the names of its files with dashes.
constexpr std::string_view names[] = {
    "gaussian-noise", "shot-noise", "impulse-noise", "defocus-blur", "glass-blur", "motion-blur", "zoom-blur",
    "snow", "frost", "fog", "brightness", "contrast", "elastic-transform", "pixelate"};
enum class Type { gaussian_noise, shot_noise, impulse_noise, defocus_blur, glass_blur, motion_blur, zoom_blur,
                  snow, frost, fog, brightness, contrast, elastic_transform, pixelate };

constexpr int severities = 5;
constexpr int64_t least_side = 8;

class Corruption {
 public:
  /// `severity`: 1 to 5.
  Corruption(Type type, int severity, uint64_t seed);
  /// in, out: bytes [channels, height, width], channels 1 (gray) or 3 (red, green, blue), sides of at least `least_side`. Sample `sample` of the set.
  void apply(const uint8_t* in, int64_t channels, int64_t height, int64_t width, uint64_t sample, uint8_t* out) const;

 private:
  Type type_;
  int severity_;
  uint64_t seed_;
  std::vector<std::vector<uint32_t>> poisson_;  // shot noise: for each byte, the distribution function at first_[byte], first_[byte] + 1, ... in 2^-32
  std::vector<int64_t> first_;
};

}  // namespace a_infonce::kernels::corruption

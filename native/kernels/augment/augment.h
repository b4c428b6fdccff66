// Augmentation of one image with torchvision's semantics, in two steps: draw what happens to the image, then do it.
// Drawing depends on (seed, epoch, sample, view) alone; doing it depends on the drawn row alone. Planar float32 images in [0, 1].
#pragma once
#include <cstdint>
#include "kernels/host_device.h"

namespace a_infonce::kernels::augment {

/// What may happen. Order: geometry (crop, flip), then color (jitter, gray); with `color_first` the other way round.
struct Pipeline {
  int64_t size;                 // side of the result
  bool resized;                 // RandomResizedCrop(size, scale, ratio); else RandomCrop(size, padding) with black padding
  double scale[2], ratio[2];    // share of the area; width / height
  int64_t padding;
  double flip;                  // probability of a horizontal flip
  double jitter;                // probability of ColorJitter(brightness, contrast, saturation, hue)
  double brightness, contrast, saturation, hue;
  double gray;                  // probability of three equal gray channels
  bool color_first;
};

/// What happens to one image.
struct Choice {
  int64_t top, left, height, width;  // the box, which may reach over the edge (black there), resized to size x size
  bool flip, gray;
  int64_t order;                     // 0..23: the permutation of the four jitter operations; -1: no jitter
  float brightness, contrast, saturation, hue;  // factors; hue in turns; 1, 1, 1, 0 change nothing
};

/// The jitter operations (0 brightness, 1 contrast, 2 saturation, 3 hue) in the order of permutation `order`. Static for the reason in random.h.
A_INFONCE_HOST_DEVICE static constexpr void permutation(int64_t order, int (&operations)[4]) {
  int left[4] = {0, 1, 2, 3};
  int64_t radix = 6;
  for (int place = 0; place < 4; ++place) {  // the Lehmer code: digits of 6, 2, 1, 1
    const int64_t digit = order / radix;
    order %= radix;
    operations[place] = left[digit];
    for (int64_t i = digit; i < 3; ++i) left[i] = left[i + 1];
    radix = place == 0 ? 2 : 1;
  }
}

/// Draws for an image of height x width. `epoch` < 2^40, `view` < 2^16, `sample` < 2^56.
Choice draw(const Pipeline& pipeline, int64_t height, int64_t width, uint64_t seed, uint64_t epoch, uint64_t view, uint64_t sample);

/// in: bytes [channels, height, width], channels 1 or 3; out: float32 [channels, size, size]. One gray channel takes brightness and contrast alone.
void apply(const uint8_t* in, int64_t channels, int64_t height, int64_t width, const Choice& choice, int64_t size, bool color_first, float* out);

}  // namespace a_infonce::kernels::augment

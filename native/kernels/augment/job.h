// What the files of one instruction set do for `apply`: the pixels of one image. Between augment.cpp and them only.
#pragma once
#include "kernels/augment/augment.h"

namespace a_infonce::kernels {
namespace augment {

/// The taps of one axis: result o is sum_k weight[o * taps + k] * in[first[o] + k].
struct Axis {
  int64_t taps;
  const int64_t* first;
  const float* weight;
};

/// The arguments of `apply`, and room for what comes between. Where the box is resized, planes on the way have rows of whole vectors in every
/// instruction set: `box_stride` and `out_stride` are the sides rounded up to multiples of 16.
struct Job {
  const uint8_t* in;
  int64_t channels, height, width;
  const Choice& choice;
  int64_t size;
  bool color_first, resize;
  float* out;
  int64_t box_stride, out_stride;
  float* colored = nullptr;                       // with `color_first` [channels, height, width]
  Axis vertical{}, horizontal{};
  float *box = nullptr, *tall = nullptr;          // [choice.height, box_stride]; with its rows resized [out_stride, box_stride]
  float *turned = nullptr, *resized = nullptr;    // that transposed [box_stride, out_stride]; with its rows resized [size, out_stride]
};

}  // namespace augment

namespace portable { void render(const augment::Job&); }
namespace avx2 { void render(const augment::Job&); }
namespace avx512 { void render(const augment::Job&); }

}  // namespace a_infonce::kernels

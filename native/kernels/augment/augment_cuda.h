// `apply` of augment.h for a batch on a device, in the same bits.
#pragma once
#include "kernels/augment/augment.h"
#include "kernels/cuda/stream.h"

namespace a_infonce::kernels::cuda {

/// n views of images that lie on the device.
struct Views {
  const uint8_t* images;       // [_, channels, height, width]
  int64_t channels, height, width;
  const int64_t* indices;      // [n]: the images seen
  const augment::Choice* choices;  // [n], on the device
  int64_t n, size;
  bool color_first;
  float* out;                  // [n, channels, size, size]
};

/// Where the taps of a view, and with `color_first` its colored image, lie on the way: `slots` views at a time, in shared memory or in `workspace_bytes` on the device.
struct Scratch {
  int64_t vertical_taps, horizontal_taps;  // the most of any view
  size_t slot_bytes, workspace_bytes;      // workspace_bytes 0: shared memory does
  int64_t slots;
};
/// `choices`: on the host.
Scratch scratch(const augment::Choice* choices, int64_t n, int64_t channels, int64_t height, int64_t width, int64_t size, bool color_first);

void augment(const Views& views, const Scratch& scratch, void* workspace, Stream stream);

}  // namespace a_infonce::kernels::cuda

#define A_INFONCE_ISA cuda
#include <algorithm>
#include "kernels/augment/color.h"
#include "kernels/augment/augment_cuda.h"
#include "kernels/augment/filter.h"
#include "kernels/cuda/launch.h"

namespace a_infonce::kernels::cuda {
namespace {

using augment::Choice;
using augment::Filter;

constexpr unsigned threads = 256;
constexpr int lanes = 16;  // partial sums of `contrast`, as on the CPU
constexpr size_t sums_bytes = lanes * sizeof(float);

/// Planes of n floats, red, green, blue, or one gray. A thread looks after the same pixels throughout: only the mean of `contrast` is everybody's.
struct Planes {
  float* data;
  int64_t n, channels;

  template <typename Body>
  __device__ void each(Body body) const {
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) body(i);
  }
  template <typename Body>
  __device__ void each_color(Body body) const {
    each([=, *this](int64_t i) { body(data[i], data[n + i], data[2 * n + i]); });
  }
  template <typename Function>
  __device__ void each_number(Function f) const {
    each([=, *this](int64_t i) {
      for (int64_t c = 0; c < channels; ++c) data[c * n + i] = unit(f(data[c * n + i]));
    });
  }
};

/// The mean of the gray image, from the same sixteen sums in float as on the CPU.
__device__ float mean_gray(const Planes& image, float* sums) {
  __syncthreads();
  if (threadIdx.x < lanes) {
    const float *r = image.data, *g = r + image.n, *b = g + image.n;
    float sum = 0;
    for (int64_t i = threadIdx.x; i < image.n; i += lanes) sum += image.channels == 3 ? luma(r[i], g[i], b[i]) : r[i];
    sums[threadIdx.x] = sum;
  }
  __syncthreads();
  double total = 0;
  for (int lane = 0; lane < lanes; ++lane) total += static_cast<double>(sums[lane]);
  return static_cast<float>(total / static_cast<double>(image.n));
}

__device__ void recolor(const Planes& image, const Choice& choice, float* sums) {
  if (choice.order >= 0) {
    int operations[4];
    augment::permutation(choice.order, operations);
    for (int operation : operations) {
      if (operation == 0 && choice.brightness != 1) image.each_number([factor = choice.brightness](float x) { return x * factor; });
      if (operation == 1 && choice.contrast != 1) {
        const float factor = choice.contrast, offset = (1 - factor) * mean_gray(image, sums);
        image.each_number([=](float x) { return x * factor + offset; });
      }
      if (operation == 2 && choice.saturation != 1 && image.channels == 3)
        image.each_color([factor = choice.saturation](float& r, float& g, float& b) { saturate(r, g, b, factor); });
      if (operation == 3 && choice.hue != 0 && image.channels == 3)
        image.each_color([shift = 6 * choice.hue](float& r, float& g, float& b) { turn_hue(r, g, b, shift); });
    }
  }
  if (choice.gray && image.channels == 3) image.each_color([](float& r, float& g, float& b) { r = g = b = luma(r, g, b); });
}

/// The taps of an axis: result o is sum_k weight[o * taps + k] * in[first[o] + k].
struct Axis {
  int64_t taps;
  float* weight;
  int* first;

  __device__ void set(int64_t length, int64_t size) {
    const Filter filter(length, size);
    taps = filter.taps;
    for (int64_t o = threadIdx.x; o < size; o += blockDim.x) {
      const auto here = filter.window(o);
      double sum = 0;
      for (int64_t i = here.begin; i < here.end; ++i) sum += filter.tap(here, i);
      for (int64_t k = 0; k < taps; ++k) {
        const int64_t i = here.first + k;
        weight[o * taps + k] = i >= here.begin && i < here.end ? static_cast<float>(filter.tap(here, i) / sum) : 0.0f;
      }
      first[o] = static_cast<int>(here.first);
    }
  }
};

/// A plane of the source seen from the box: black where that reaches over the edge.
struct Plane {
  const uint8_t* bytes;
  const float* colored;  // in place of the bytes unless null
  int64_t height, width, top, left;
  __device__ float operator()(int64_t y, int64_t x) const {
    y += top, x += left;
    if (y < 0 || x < 0 || y >= height || x >= width) return 0;
    return colored ? colored[y * width + x] : from_byte(bytes[y * width + x]);
  }
};

/// First down the columns, then along the row.
__device__ float resized(const Plane& plane, const Axis& vertical, const Axis& horizontal, int64_t y, int64_t x) {
  const float *down = vertical.weight + y * vertical.taps, *along = horizontal.weight + x * horizontal.taps;
  const int64_t row = vertical.first[y], column = horizontal.first[x];
  float sum = 0;
  for (int64_t k = 0; k < horizontal.taps; ++k) {
    float tall = down[0] * plane(row, column + k);
    for (int64_t j = 1; j < vertical.taps; ++j) tall += down[j] * plane(row + j, column + k);
    sum = k == 0 ? along[0] * tall : sum + along[k] * tall;
  }
  return sum;
}

/// A block a view, one after the other where there are fewer blocks.
__global__ void __launch_bounds__(threads, 2) augment_kernel(Views views, Scratch scratch, char* workspace) {
  float* const sums = shared_memory<float>();
  char* const slot = workspace ? workspace + blockIdx.x * scratch.slot_bytes : reinterpret_cast<char*>(sums) + sums_bytes;
  const int64_t size = views.size, pixels = views.height * views.width, channels = views.channels;
  Axis vertical{}, horizontal{};
  vertical.weight = reinterpret_cast<float*>(slot), horizontal.weight = vertical.weight + size * scratch.vertical_taps;
  vertical.first = reinterpret_cast<int*>(horizontal.weight + size * scratch.horizontal_taps), horizontal.first = vertical.first + size;
  const Planes colored{views.color_first ? reinterpret_cast<float*>(horizontal.first + size) : nullptr, pixels, channels};
  for (int64_t k = blockIdx.x; k < views.n; k += gridDim.x) {
    const Choice choice = views.choices[k];
    const uint8_t* const in = views.images + views.indices[k] * channels * pixels;
    const Planes out{views.out + k * channels * size * size, size * size, channels};
    const bool resize = choice.height != size || choice.width != size;
    __syncthreads();  // the view before is done with the slot
    if (views.color_first) {
      colored.each([&](int64_t i) {
        for (int64_t c = 0; c < channels; ++c) colored.data[c * pixels + i] = from_byte(in[c * pixels + i]);
      });
      recolor(colored, choice, sums);
    }
    if (resize) vertical.set(choice.height, size), horizontal.set(choice.width, size);
    __syncthreads();
    out.each([&](int64_t i) {
      const int64_t y = i / size, column = i - y * size, x = choice.flip ? size - 1 - column : column;
      for (int64_t c = 0; c < channels; ++c) {
        const Plane plane{in + c * pixels, colored.data ? colored.data + c * pixels : nullptr, views.height, views.width, choice.top, choice.left};
        out.data[c * size * size + i] = resize ? resized(plane, vertical, horizontal, y, x) : plane(y, x);
      }
    });
    if (!views.color_first) recolor(out, choice, sums);
  }
}

}  // namespace

Scratch scratch(const Choice* choices, int64_t n, int64_t channels, int64_t height, int64_t width, int64_t size, bool color_first) {
  Scratch result{};
  for (int64_t k = 0; k < n; ++k) {
    if (choices[k].height == size && choices[k].width == size) continue;
    result.vertical_taps = std::max(result.vertical_taps, Filter(choices[k].height, size).taps);
    result.horizontal_taps = std::max(result.horizontal_taps, Filter(choices[k].width, size).taps);
  }
  const int64_t numbers = size * (result.vertical_taps + result.horizontal_taps + 2) + (color_first ? channels * height * width : 0);
  result.slot_bytes = static_cast<size_t>(numbers) * 4;
  result.slots = n;
  if (sums_bytes + result.slot_bytes <= 48 * 1024) return result;
  constexpr size_t most = size_t{256} << 20;
  result.slots = std::clamp<int64_t>(static_cast<int64_t>(most / result.slot_bytes), 1, n);
  result.workspace_bytes = result.slot_bytes * static_cast<size_t>(result.slots);
  return result;
}

void augment(const Views& views, const Scratch& scratch, void* workspace, Stream stream) {
  launch("augment", augment_kernel, dim3(static_cast<unsigned>(scratch.slots)), dim3(threads), sums_bytes + (scratch.workspace_bytes ? 0 : scratch.slot_bytes), stream, views, scratch,
         scratch.workspace_bytes ? static_cast<char*>(workspace) : nullptr);
}

}  // namespace a_infonce::kernels::cuda

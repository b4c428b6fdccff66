// The pixels of augment.h, compiled once an instruction set. See cpu/vector.h for why nothing of std:: is used here. Every number comes from the same
// operations in the same order, whatever the width of the vectors: the instruction sets give the same bits.
#include "kernels/cpu/vector.h"
#include "kernels/augment/color.h"
#include "kernels/augment/job.h"

namespace a_infonce::kernels::A_INFONCE_ISA {
namespace {

using augment::Axis;
using augment::Choice;
using augment::Job;

// --- Color: planes of n floats, red, green, blue -----------------------------------------------------------------------------------------

/// Blends with black.
void brightness(float* image, int64_t n, int64_t channels, float factor) {
  for (int64_t i = 0; i < n * channels; ++i) image[i] = unit(image[i] * factor);
}

/// Blends with the mean of the gray image. Sixteen partial sums, whatever the width of the vectors: one order of additions everywhere.
void contrast(float* image, int64_t n, int64_t channels, float factor) {
  constexpr int64_t width = 16;
  float sums[width] = {};
  const float *r = image, *g = image + n, *b = image + 2 * n;
  const auto add = [&](auto gray) {
    int64_t i = 0;
    for (; i + width <= n; i += width)
      for (int64_t lane = 0; lane < width; ++lane) sums[lane] += gray(i + lane);
    for (int64_t lane = 0; i < n; ++i, ++lane) sums[lane] += gray(i);
  };
  if (channels == 3) add([=](int64_t i) { return luma(r[i], g[i], b[i]); });
  else add([=](int64_t i) { return r[i]; });
  double total = 0;
  for (float sum : sums) total += static_cast<double>(sum);
  const float mean = static_cast<float>(total / static_cast<double>(n)), offset = (1 - factor) * mean;
  for (int64_t k = 0; k < n * channels; ++k) image[k] = unit(image[k] * factor + offset);
}

void saturation(float* image, int64_t n, float factor) {
  float *r = image, *g = image + n, *b = image + 2 * n;
  for (int64_t i = 0; i < n; ++i) saturate(r[i], g[i], b[i], factor);
}

/// Turns the hue by `turns` of the circle.
void hue(float* image, int64_t n, float turns) {
  float *r = image, *g = image + n, *b = image + 2 * n;
  const float shift = 6 * turns;
  for (int64_t i = 0; i < n; ++i) turn_hue(r[i], g[i], b[i], shift);
}

void grayscale(float* image, int64_t n) {
  float *r = image, *g = image + n, *b = image + 2 * n;
  for (int64_t i = 0; i < n; ++i) r[i] = g[i] = b[i] = luma(r[i], g[i], b[i]);
}

void recolor(float* image, int64_t n, int64_t channels, const Choice& choice) {
  if (choice.order >= 0) {
    int operations[4];
    augment::permutation(choice.order, operations);
    for (int operation : operations) {
      if (operation == 0 && choice.brightness != 1) brightness(image, n, channels, choice.brightness);
      if (operation == 1 && choice.contrast != 1) contrast(image, n, channels, choice.contrast);
      if (operation == 2 && choice.saturation != 1 && channels == 3) saturation(image, n, choice.saturation);
      if (operation == 3 && choice.hue != 0 && channels == 3) hue(image, n, choice.hue);
    }
  }
  if (choice.gray && channels == 3) grayscale(image, n);
}

// --- Geometry ----------------------------------------------------------------------------------------------------------------------------

/// out[o, x] = sum_k weight[o, k] * in[first[o] + k, x]: resizes the rows of an image of `width` columns, a multiple of 16; last row first when `flip`.
void resize_rows(const float* in, int64_t width, const Axis& axis, int64_t size, bool flip, float* out) {
  constexpr int parts = 16 / lanes<float>;
  for (int64_t o = 0; o < size; ++o) {
    const float *weight = axis.weight + o * axis.taps, *row = in + axis.first[o] * width;
    float* to = out + (flip ? size - 1 - o : o) * width;
    for (int64_t x = 0; x < width; x += 16) {
      Floats sum[parts];
      for (int part = 0; part < parts; ++part) sum[part] = weight[0] * load(row + x + part * lanes<float>);
      for (int64_t k = 1; k < axis.taps; ++k)
        for (int part = 0; part < parts; ++part) sum[part] += weight[k] * load(row + k * width + x + part * lanes<float>);
      for (int part = 0; part < parts; ++part) store(to + x + part * lanes<float>, sum[part]);
    }
  }
}

/// The places of the lanes, as a pack.
template <int... lane> struct Places {};
template <int n, int... lane> struct UpTo : UpTo<n - 1, n - 1, lane...> {};
template <int... lane> struct UpTo<0, lane...> { using Type = Places<lane...>; };

/// Exchanges the lanes of a with bit `half` and those of b without.
template <int half, int... lane>
inline void exchange(Floats& a, Floats& b, Places<lane...>) {
  constexpr int next = lanes<float>;
  const Floats low = __builtin_shuffle(a, b, Ints{(lane & half ? lane - half + next : lane)...});
  b = __builtin_shuffle(a, b, Ints{(lane & half ? lane + next : lane + half)...});
  a = low;
}
template <int half>
inline void exchange_rows(Floats (&row)[lanes<float>]) {
#pragma GCC unroll 16
  for (int i = 0; i < lanes<float>; ++i)
    if (!(i & half)) exchange<half>(row[i], row[i + half], typename UpTo<lanes<float>>::Type{});
  if constexpr (half > 1) exchange_rows<half / 2>(row);
}

/// out[x, y] = in[y, x], by blocks as wide and high as a vector.
void transpose(const float* in, int64_t in_stride, int64_t rows, int64_t columns, float* out, int64_t out_stride) {
  constexpr int64_t side = lanes<float>;
  const int64_t whole_rows = rows / side * side, whole_columns = columns / side * side;
  for (int64_t y = 0; y < whole_rows; y += side)
    for (int64_t x = 0; x < whole_columns; x += side) {
      const float* from = in + y * in_stride + x;
      float* to = out + x * out_stride + y;
      Floats row[side];
#pragma GCC unroll 16
      for (int i = 0; i < side; ++i, from += in_stride) {
        asm("" : "+r"(from));  // one address, not sixteen that do not fit the registers
        row[i] = load(from);
      }
      exchange_rows<side / 2>(row);
#pragma GCC unroll 16
      for (int i = 0; i < side; ++i, to += out_stride) {
        asm("" : "+r"(to));
        store(to, row[i]);
      }
    }
  for (int64_t y = 0; y < rows; ++y)
    for (int64_t x = y < whole_rows ? whole_columns : 0; x < columns; ++x) out[x * out_stride + y] = in[y * in_stride + x];
}

inline float convert(uint8_t byte) { return from_byte(byte); }
inline float convert(float value) { return value; }

/// The box of a plane as floats, mirrored when `flip`; black where it reaches over the edge.
template <bool flip, typename Value>
void cut(const Value* plane, int64_t height, int64_t width, const Choice& box, float* out, int64_t out_stride) {
  const int64_t begin = box.left >= 0 ? 0 : smaller(-box.left, box.width);
  const int64_t room = width - box.left, end = room < begin ? begin : smaller(room, box.width);
  for (int64_t y = 0; y < box.height; ++y, out += out_stride) {
    const int64_t row = box.top + y, from = row < 0 || row >= height ? box.width : begin, to = row < 0 || row >= height ? box.width : end;
    const auto at = [=](int64_t x) -> float& { return out[flip ? box.width - 1 - x : x]; };
    for (int64_t x = 0; x < from; ++x) at(x) = 0;
    const Value* pixels = plane + row * width + box.left;
    for (int64_t x = from; x < to; ++x) at(x) = convert(pixels[x]);
    for (int64_t x = to; x < box.width; ++x) at(x) = 0;
  }
}

template <bool flip>
void cut(const Job& job, int64_t channel, float* out, int64_t out_stride) {
  const int64_t first = channel * job.height * job.width;
  if (job.color_first) cut<flip>(job.colored + first, job.height, job.width, job.choice, out, out_stride);
  else cut<flip>(job.in + first, job.height, job.width, job.choice, out, out_stride);
}

}  // namespace

void render(const Job& job) {
  const int64_t pixels = job.height * job.width, size = job.size;
  if (job.color_first) {
    for (int64_t i = 0; i < job.channels * pixels; ++i) job.colored[i] = from_byte(job.in[i]);
    recolor(job.colored, pixels, job.channels, job.choice);
  }
  for (int64_t c = 0; c < job.channels; ++c) {
    float* plane = job.out + c * size * size;
    if (job.resize) {
      // Columns are resized as rows of the transposed image: whole vectors of neighbours at a time.
      cut<false>(job, c, job.box, job.box_stride);
      resize_rows(job.box, job.box_stride, job.vertical, size, false, job.tall);
      transpose(job.tall, job.box_stride, job.out_stride, job.box_stride, job.turned, job.out_stride);
      resize_rows(job.turned, job.out_stride, job.horizontal, size, job.choice.flip, job.resized);
      transpose(job.resized, job.out_stride, size, size, plane, size);
    } else if (job.choice.flip) {
      cut<true>(job, c, plane, size);
    } else {
      cut<false>(job, c, plane, size);
    }
  }
  if (!job.color_first) recolor(job.out, size * size, job.channels, job.choice);
}

}  // namespace a_infonce::kernels::A_INFONCE_ISA

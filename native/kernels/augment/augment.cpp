#include "kernels/augment/augment.h"
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>
#include "kernels/random.h"

namespace a_infonce::kernels::augment {
namespace {

// --- Drawing -----------------------------------------------------------------------------------------------------------------------------

constexpr uint64_t domain = uint64_t{0x41} << 56;  // streams no other room draws from
constexpr uint64_t words_a_sample = 64;
enum Word : uint64_t { flip_word, jitter_word, order_word, gray_word, factor_words, position_words = 8, attempt_words = 16 };
constexpr int attempts = 10;  // as in torchvision
static_assert(attempt_words + 4 * attempts <= words_a_sample);

/// The words of one view of one sample, each with its fixed place, so that no choice shifts another.
struct Chance {
  uint64_t seed, stream, first;
  double uniform(uint64_t word, double low = 0, double high = 1) const {
    return low + (high - low) * (random::bits(seed, stream, first + word) * 0x1p-32);
  }
  bool happens(uint64_t word, double probability) const { return uniform(word) < probability; }
  int64_t integer(uint64_t word, int64_t count) const { return static_cast<int64_t>(uniform(word) * static_cast<double>(count)); }
  float factor(uint64_t word, double spread) const { return static_cast<float>(uniform(word, std::max(0.0, 1 - spread), 1 + spread)); }
};

struct Box { int64_t top, left, height, width; };

/// RandomResizedCrop.get_params: ten attempts, then the largest centred box of an allowed ratio.
Box resized_crop(const Pipeline& pipeline, int64_t height, int64_t width, const Chance& chance) {
  const double low = std::log(pipeline.ratio[0]), high = std::log(pipeline.ratio[1]), side = static_cast<double>(height) * static_cast<double>(width);
  for (int attempt = 0; attempt < attempts; ++attempt) {
    const uint64_t word = attempt_words + 4 * static_cast<uint64_t>(attempt);
    const double area = side * chance.uniform(word, pipeline.scale[0], pipeline.scale[1]), ratio = std::exp(chance.uniform(word + 1, low, high));
    const auto w = static_cast<int64_t>(std::nearbyint(std::sqrt(area * ratio))), h = static_cast<int64_t>(std::nearbyint(std::sqrt(area / ratio)));
    if (w > 0 && w <= width && h > 0 && h <= height)
      return {chance.integer(word + 2, height - h + 1), chance.integer(word + 3, width - w + 1), h, w};
  }
  int64_t h = height, w = width;
  const double ratio = static_cast<double>(width) / static_cast<double>(height);
  if (ratio < pipeline.ratio[0]) h = std::max<int64_t>(1, static_cast<int64_t>(std::nearbyint(static_cast<double>(width) / pipeline.ratio[0])));
  else if (ratio > pipeline.ratio[1]) w = std::max<int64_t>(1, static_cast<int64_t>(std::nearbyint(static_cast<double>(height) * pipeline.ratio[1])));
  return {(height - h) / 2, (width - w) / 2, h, w};
}

// --- Color: planes of n floats in [0, 1], red, green, blue -------------------------------------------------------------------------------

inline float unit(float x) { return x < 0 ? 0.0f : x > 1 ? 1.0f : x; }
inline float luma(float r, float g, float b) { return 0.299f * r + 0.587f * g + 0.114f * b; }  // ITU-R BT.601

/// Blends with black.
void brightness(float* image, int64_t n, int64_t channels, float factor) {
  for (int64_t i = 0; i < n * channels; ++i) image[i] = unit(image[i] * factor);
}

/// Blends with the mean of the gray image. Sixteen partial sums, whatever the width of the vectors: one order of additions everywhere.
void contrast(float* image, int64_t n, int64_t channels, float factor) {
  constexpr int64_t lanes = 16;
  float sums[lanes] = {};
  const float *r = image, *g = image + n, *b = image + 2 * n;
  const auto gray = [=](int64_t i) { return channels == 3 ? luma(r[i], g[i], b[i]) : r[i]; };
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (int64_t lane = 0; lane < lanes; ++lane) sums[lane] += gray(i + lane);
  for (int64_t lane = 0; i < n; ++i, ++lane) sums[lane] += gray(i);
  const float mean = static_cast<float>(std::accumulate(sums, sums + lanes, 0.0) / static_cast<double>(n)), offset = (1 - factor) * mean;
  for (int64_t k = 0; k < n * channels; ++k) image[k] = unit(image[k] * factor + offset);
}

/// Blends with the gray image.
void saturation(float* image, int64_t n, float factor) {
  float *r = image, *g = image + n, *b = image + 2 * n;
  for (int64_t i = 0; i < n; ++i) {
    const float gray = (1 - factor) * luma(r[i], g[i], b[i]);
    r[i] = unit(r[i] * factor + gray);
    g[i] = unit(g[i] * factor + gray);
    b[i] = unit(b[i] * factor + gray);
  }
}

/// Turns the hue in HSV by `turns` of the circle. A channel of hue H (in sixths), value V and chroma C is V - C * clamp(min(k, 4 - k), 0, 1) with
/// k = (n + H) mod 6 and n = 5, 3, 1 for red, green, blue.
void hue(float* image, int64_t n, float turns) {
  float *r = image, *g = image + n, *b = image + 2 * n;
  const float shift = 6 * turns;
  for (int64_t i = 0; i < n; ++i) {
    const float red = r[i], green = g[i], blue = b[i];
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
    r[i] = channel(5), g[i] = channel(3), b[i] = channel(1);
  }
}

void grayscale(float* image, int64_t n) {
  float *r = image, *g = image + n, *b = image + 2 * n;
  for (int64_t i = 0; i < n; ++i) r[i] = g[i] = b[i] = luma(r[i], g[i], b[i]);
}

void recolor(float* image, int64_t n, int64_t channels, const Choice& choice) {
  if (choice.order >= 0) {
    int operations[4];
    permutation(choice.order, operations);
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

/// The taps of one axis: result o is sum_k weight[o * taps + k] * in[first[o] + k].
struct Axis {
  int64_t taps;
  std::vector<int64_t> first;
  std::vector<float> weight;
};

/// Pillow's bilinear filter: a triangle of half-width max(1, length / size), cut off at the edges and normalised to sum 1.
void triangle(int64_t length, int64_t size, Axis& axis) {
  const double scale = static_cast<double>(length) / static_cast<double>(size), support = std::max(scale, 1.0);
  axis.taps = std::min(length, scale <= 1 ? 2 : 2 * static_cast<int64_t>(std::ceil(support)) + 1);
  axis.first.resize(static_cast<size_t>(size));
  axis.weight.assign(static_cast<size_t>(size * axis.taps), 0.0f);
  for (int64_t o = 0; o < size; ++o) {
    const double centre = (static_cast<double>(o) + 0.5) * scale;
    const int64_t begin = std::max<int64_t>(0, static_cast<int64_t>(centre - support + 0.5));
    const int64_t end = std::min({length, begin + axis.taps, static_cast<int64_t>(centre + support + 0.5)});
    // All windows have the same number of taps; one at the end of the axis starts earlier, with weights of zero.
    const int64_t first = std::min(begin, length - axis.taps);
    const auto tap = [&](int64_t i) { return std::max(0.0, 1 - std::abs((static_cast<double>(i) - centre + 0.5) / support)); };
    double sum = 0;
    for (int64_t i = begin; i < end; ++i) sum += tap(i);
    for (int64_t i = begin; i < end; ++i) axis.weight[static_cast<size_t>(o * axis.taps + i - first)] = static_cast<float>(tap(i) / sum);
    axis.first[static_cast<size_t>(o)] = first;
  }
}

/// out[o, x] = sum_k weight[o, k] * in[first[o] + k, x]: resizes the rows of an image of `width` columns.
void resize_rows(const float* in, int64_t width, const Axis& axis, int64_t size, float* out) {
  for (int64_t o = 0; o < size; ++o, out += width) {
    const float *weight = &axis.weight[static_cast<size_t>(o * axis.taps)], *row = in + axis.first[static_cast<size_t>(o)] * width;
    if (axis.taps == 2) {
      const float w0 = weight[0], w1 = weight[1];
      for (int64_t x = 0; x < width; ++x) out[x] = w0 * row[x] + w1 * row[width + x];
      continue;
    }
    for (int64_t x = 0; x < width; ++x) out[x] = weight[0] * row[x];
    for (int64_t k = 1; k < axis.taps; ++k)
      for (int64_t x = 0; x < width; ++x) out[x] += weight[k] * row[k * width + x];
  }
}

/// Resizes the columns of [rows, width] to [rows, size], mirrored when `flip`.
void resize_columns(const float* in, int64_t rows, int64_t width, const Axis& axis, int64_t size, bool flip, float* out) {
  const int64_t step = flip ? -1 : 1, taps = axis.taps;
  const int64_t* first = axis.first.data();
  for (int64_t y = 0; y < rows; ++y, in += width, out += size) {
    const float* weight = axis.weight.data();
    float* to = flip ? out + size - 1 : out;
    for (int64_t o = 0; o < size; ++o, to += step, weight += taps) {
      const float* from = in + first[o];
      float sum = weight[0] * from[0];
      if (taps == 2) sum += weight[1] * from[1];  // every enlargement
      else for (int64_t k = 1; k < taps; ++k) sum += weight[k] * from[k];
      *to = sum;
    }
  }
}

/// The box of a plane as floats; black where it reaches over the edge.
template <typename Value, typename Convert>
void cut(const Value* plane, int64_t height, int64_t width, const Choice& box, Convert convert, float* out) {
  const int64_t begin = std::clamp<int64_t>(-box.left, 0, box.width), end = std::clamp<int64_t>(width - box.left, begin, box.width);
  for (int64_t y = 0; y < box.height; ++y, out += box.width) {
    const int64_t row = box.top + y;
    if (row < 0 || row >= height) {
      std::fill(out, out + box.width, 0.0f);
      continue;
    }
    const Value* from = plane + row * width + box.left;
    std::fill(out, out + begin, 0.0f);
    for (int64_t x = begin; x < end; ++x) out[x] = convert(from[x]);
    std::fill(out + end, out + box.width, 0.0f);
  }
}

}  // namespace

void permutation(int64_t order, int (&operations)[4]) {
  int left[4] = {0, 1, 2, 3};
  for (int64_t place = 0, radix = 6; place < 4; ++place) {  // the Lehmer code: digits of 6, 2, 1, 1
    const int64_t digit = order / radix;
    order %= radix;
    operations[place] = left[digit];
    std::copy(left + digit + 1, left + 4, left + digit);
    radix = place == 0 ? 2 : 1;
  }
}

Choice draw(const Pipeline& pipeline, int64_t height, int64_t width, uint64_t seed, uint64_t epoch, uint64_t view, uint64_t sample) {
  const Chance chance{seed, domain | view << 40 | epoch, sample * words_a_sample};
  Box box;
  if (pipeline.resized) {
    box = resized_crop(pipeline, height, width, chance);
  } else {
    const int64_t span = 2 * pipeline.padding - pipeline.size + 1;
    box = {chance.integer(position_words, height + span) - pipeline.padding, chance.integer(position_words + 1, width + span) - pipeline.padding,
           pipeline.size, pipeline.size};
  }
  const bool jitter = chance.happens(jitter_word, pipeline.jitter);
  return {box.top, box.left, box.height, box.width, chance.happens(flip_word, pipeline.flip), chance.happens(gray_word, pipeline.gray),
          jitter ? chance.integer(order_word, 24) : -1,
          chance.factor(factor_words, pipeline.brightness), chance.factor(factor_words + 1, pipeline.contrast),
          chance.factor(factor_words + 2, pipeline.saturation), static_cast<float>(chance.uniform(factor_words + 3, -pipeline.hue, pipeline.hue))};
}

void apply(const uint8_t* in, int64_t channels, int64_t height, int64_t width, const Choice& choice, int64_t size, bool color_first, float* out) {
  const int64_t pixels = height * width, box = choice.height * choice.width;
  const auto from_byte = [](uint8_t byte) { return static_cast<float>(byte) / 255.0f; };  // ToTensor
  const auto same = [](float value) { return value; };
  const bool resize = choice.height != size || choice.width != size;
  static thread_local std::vector<float> scratch;
  static thread_local Axis vertical, horizontal;
  scratch.resize(static_cast<size_t>((color_first ? channels * pixels : 0) + box + size * choice.width));
  float *whole = scratch.data(), *part = whole + (color_first ? channels * pixels : 0), *rows = part + box;

  if (color_first) {
    for (int64_t i = 0; i < channels * pixels; ++i) whole[i] = from_byte(in[i]);
    recolor(whole, pixels, channels, choice);
  }
  if (resize) {
    triangle(choice.height, size, vertical);
    triangle(choice.width, size, horizontal);
  }
  for (int64_t c = 0; c < channels; ++c) {
    float* plane = out + c * size * size;
    float* target = resize ? part : plane;
    if (color_first) cut(whole + c * pixels, height, width, choice, same, target);
    else cut(in + c * pixels, height, width, choice, from_byte, target);
    if (resize) {
      resize_rows(part, choice.width, vertical, size, rows);
      resize_columns(rows, size, choice.width, horizontal, size, choice.flip, plane);
    } else if (choice.flip) {
      for (int64_t y = 0; y < size; ++y) std::reverse(plane + y * size, plane + (y + 1) * size);
    }
  }
  if (!color_first) recolor(out, size * size, channels, choice);
}

}  // namespace a_infonce::kernels::augment

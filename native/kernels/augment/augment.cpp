#include "kernels/augment/augment.h"
#include <algorithm>
#include <cmath>
#include <vector>
#include "kernels/augment/filter.h"
#include "kernels/augment/job.h"
#include "kernels/cpu/instruction_set.h"
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

// --- Geometry ----------------------------------------------------------------------------------------------------------------------------

/// The taps of an axis, and a window of them before they are normalised.
struct Taps {
  int64_t count;
  std::vector<int64_t> first;
  std::vector<float> weight;
  std::vector<double> window;
  Axis axis() const { return {count, first.data(), weight.data()}; }
};

void triangle(int64_t length, int64_t size, Taps& taps) {
  const Filter filter(length, size);
  taps.count = filter.taps;
  taps.first.resize(static_cast<size_t>(size));
  taps.weight.assign(static_cast<size_t>(size * taps.count), 0.0f);
  taps.window.resize(static_cast<size_t>(taps.count));
  float* weight = taps.weight.data();
  double* window = taps.window.data();
  for (int64_t o = 0; o < size; ++o) {
    const auto here = filter.window(o);
    double sum = 0;
    for (int64_t i = here.begin; i < here.end; ++i) sum += window[i - here.begin] = filter.tap(here, i);
    for (int64_t i = here.begin; i < here.end; ++i) weight[o * taps.count + i - here.first] = static_cast<float>(window[i - here.begin] / sum);
    taps.first[static_cast<size_t>(o)] = here.first;
  }
}

}  // namespace

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
  static thread_local std::vector<float> scratch;
  static thread_local Taps vertical, horizontal;
  const auto padded = [](int64_t length) { return (length + 15) & ~int64_t{15}; };
  Job job{in, channels, height, width, choice, size, color_first, choice.height != size || choice.width != size, out, padded(choice.width), padded(size)};
  const int64_t colored = color_first ? channels * height * width : 0, box = choice.height * job.box_stride, tall = job.out_stride * job.box_stride;
  scratch.resize(static_cast<size_t>(colored + (job.resize ? box + 2 * tall + size * job.out_stride : 0)));
  job.colored = scratch.data();
  if (job.resize) {
    triangle(choice.height, size, vertical);
    triangle(choice.width, size, horizontal);
    job.vertical = vertical.axis(), job.horizontal = horizontal.axis();
    job.box = job.colored + colored, job.tall = job.box + box, job.turned = job.tall + tall, job.resized = job.turned + tall;
  }
  dispatch(&portable::render, &avx2::render, &avx512::render)(job);
}

}  // namespace a_infonce::kernels::augment

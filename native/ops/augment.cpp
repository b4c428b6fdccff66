#include "ops/augment.h"
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/fft_irfft2.h>
#include <ATen/ops/fft_rfft2.h>
#include <ATen/ops/tensor.h>
#include <torch/library.h>
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>
#include "describe.h"
#include "dtype.h"
#include "error.h"
#include "kernels/procedural/procedural.h"
#include "ops/backend.h"
#include "transfer.h"

namespace a_infonce::ops {
namespace {

using kernels::augment::Choice;
using kernels::augment::Pipeline;

constexpr int64_t chunk = 16;  // samples a task

void require_dtype(const at::Tensor& tensor, at::ScalarType dtype, const char* argument) {
  if (tensor.scalar_type() != dtype)
    throw Error(ErrorKind::ArgumentType, argument, "a tensor of dtype " + dtype_name(dtype), dtype_name(tensor.scalar_type()));
}

/// pixels: uint8 [N, C, H, W], C 1 or 3; indices: int64 [n], each in [0, N), on their device or the CPU. Both contiguous afterwards, the indices on the CPU.
struct Images {
  at::Tensor pixels, indices;
  const Backend* device;  // null: the CPU
  int64_t channels, height, width;

  Images(const at::Tensor& pixels_in, const at::Tensor& indices_in) {
    require_dtype(pixels_in, at::kByte, "pixels");
    require_dtype(indices_in, at::kLong, "indices");
    require_range(pixels_in.dim() == 4 && (pixels_in.size(1) == 1 || pixels_in.size(1) == 3) && pixels_in.size(2) > 0 && pixels_in.size(3) > 0,
                  "pixels", "shape [images, 1 or 3, height, width]", shape_text(pixels_in.sizes()));
    require_range(indices_in.dim() == 1, "indices", "shape [n]", shape_text(indices_in.sizes()));
    require_range(indices_in.device().is_cpu() || indices_in.device() == pixels_in.device(), "indices", "a tensor on the device of the pixels, " + pixels_in.device().str() + ", or on the cpu",
                  "one on " + indices_in.device().str());
    device = backend_of(pixels_in, "pixels");
    if (device) device->require_no_capture(pixels_in, "augment");
    pixels = pixels_in.contiguous(), indices = indices_in.cpu().contiguous();
    channels = pixels.size(1), height = pixels.size(2), width = pixels.size(3);
    for (int64_t k = 0; k < indices.size(0); ++k)
      require_range(index(k) >= 0 && index(k) < pixels.size(0), "indices", "integers from 0 to " + std::to_string(pixels.size(0) - 1),
                    std::to_string(index(k)));
  }
  int64_t count() const { return indices.size(0); }
  int64_t index(int64_t k) const { return indices.const_data_ptr<int64_t>()[k]; }
};

/// f(k) for k in [0, n), in fixed chunks over the threads.
template <typename Function>
void for_each_sample(int64_t n, Function f) {
  at::parallel_for(0, (n + chunk - 1) / chunk, 1, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin * chunk; k < std::min(end * chunk, n); ++k) f(k);
  });
}

void require_probability(double value, const char* argument) {
  require_range(value >= 0 && value <= 1, argument, "a probability from 0 to 1", std::to_string(value));
}

void require_integer(int64_t value, int bits, const char* argument) {
  require_range(value >= 0 && (bits >= 63 || value >> bits == 0), argument, "an integer from 0 to 2^" + std::to_string(bits) + " - 1", std::to_string(value));
}

/// Writes n views; choice(k) says what happens to sample k.
template <typename Function>
at::Tensor render(const Images& images, int64_t size, bool color_first, Function choice) {
  at::Tensor out = at::empty({images.count(), images.channels, size, size}, images.pixels.options().dtype(at::kFloat));
  if (images.count() == 0) return out;
  if (images.device) {
    std::vector<Choice> choices(static_cast<size_t>(images.count()));
    for_each_sample(images.count(), [&](int64_t k) { choices[static_cast<size_t>(k)] = choice(k); });
    images.device->augment(images.pixels, brought(images.indices, out.device()), choices, color_first, out);
    return out;
  }
  const uint8_t* in = images.pixels.const_data_ptr<uint8_t>();
  float* to = out.mutable_data_ptr<float>();
  const int64_t bytes = images.channels * images.height * images.width, floats = images.channels * size * size;
  for_each_sample(images.count(), [&](int64_t k) {
    kernels::augment::apply(in + images.index(k) * bytes, images.channels, images.height, images.width, choice(k), size, color_first, to + k * floats);
  });
  return out;
}

// --- Choices as tensors: float64 [n, 11], for whoever wants to see, keep or change what was drawn --------------------------------------------

constexpr int64_t columns = 11;  // top, left, height, width, flip, gray, order, brightness, contrast, saturation, hue

void store(const Choice& choice, double* row) {
  const double values[columns] = {double(choice.top), double(choice.left), double(choice.height), double(choice.width), double(choice.flip),
                                  double(choice.gray), double(choice.order), choice.brightness, choice.contrast, choice.saturation, choice.hue};
  std::copy(values, values + columns, row);
}

Choice parse(const double* row) {
  const auto require = [&](int64_t column, double low, double high, bool whole) {
    const double value = row[column];
    require_range(value >= low && value <= high && (!whole || value == std::floor(value)), "choices",
                  "column " + std::to_string(column) + (whole ? " a whole number" : "") + " from " + std::to_string(low) + " to " + std::to_string(high),
                  std::to_string(value));
  };
  constexpr double reach = 4096, strength = 1e3;
  for (int64_t c = 0; c < 2; ++c) require(c, -reach, reach, true);
  for (int64_t c = 2; c < 4; ++c) require(c, 1, reach, true);
  for (int64_t c = 4; c < 6; ++c) require(c, 0, 1, true);
  require(6, -1, 23, true);
  for (int64_t c = 7; c < 10; ++c) require(c, 0, strength, false);
  require(10, -0.5, 0.5, false);
  const auto whole = [&](int64_t column) { return static_cast<int64_t>(row[column]); };
  return {whole(0), whole(1), whole(2), whole(3), row[4] != 0, row[5] != 0, whole(6),
          static_cast<float>(row[7]), static_cast<float>(row[8]), static_cast<float>(row[9]), static_cast<float>(row[10])};
}

Pipeline make_pipeline(int64_t size, at::ArrayRef<double> scale, at::ArrayRef<double> ratio, int64_t padding, double flip, at::ArrayRef<double> jitter,
                       double jitter_probability, double gray, bool color_first) {
  const bool resized = !scale.empty();
  require_range(!resized || scale.size() == 2, "scale", "none or two numbers", std::to_string(scale.size()) + " numbers");
  require_range(ratio.size() == 2, "ratio", "two numbers", std::to_string(ratio.size()) + " numbers");
  require_range(jitter.size() == 4, "jitter", "four numbers (brightness, contrast, saturation, hue)", std::to_string(jitter.size()) + " numbers");
  return {size, resized, {resized ? scale[0] : 1, resized ? scale[1] : 1}, {ratio[0], ratio[1]}, padding, flip, jitter_probability,
          jitter[0], jitter[1], jitter[2], jitter[3], gray, color_first};
}

at::Tensor augment_op(const at::Tensor& pixels, const at::Tensor& indices, int64_t seed, int64_t epoch, int64_t view, int64_t size,
                      at::ArrayRef<double> scale, at::ArrayRef<double> ratio, int64_t padding, double flip, at::ArrayRef<double> jitter,
                      double jitter_probability, double gray, bool color_first) {
  return augment(pixels, indices, make_pipeline(size, scale, ratio, padding, flip, jitter, jitter_probability, gray, color_first), seed, epoch, view);
}

at::Tensor augment_choices(const at::Tensor& pixels, const at::Tensor& indices, int64_t seed, int64_t epoch, int64_t view, int64_t size,
                           at::ArrayRef<double> scale, at::ArrayRef<double> ratio, int64_t padding, double flip, at::ArrayRef<double> jitter,
                           double jitter_probability, double gray, bool color_first) {
  const Images images(pixels, indices);
  const Pipeline pipeline = make_pipeline(size, scale, ratio, padding, flip, jitter, jitter_probability, gray, color_first);
  check(pipeline, images.height, images.width);
  require_integer(epoch, 40, "epoch"), require_integer(view, 16, "view");
  at::Tensor out = at::empty({images.count(), columns}, at::kDouble);
  for (int64_t k = 0; k < images.count(); ++k)
    store(kernels::augment::draw(pipeline, images.height, images.width, seed, epoch, view, images.index(k)), out.mutable_data_ptr<double>() + k * columns);
  return out;
}

at::Tensor augment_apply(const at::Tensor& pixels, const at::Tensor& indices, const at::Tensor& choices, int64_t size, bool color_first) {
  const Images images(pixels, indices);
  require_range(size >= 1 && size <= 1 << 16, "size", "a side of 1 to 65536 pixels", std::to_string(size));
  require_dtype(choices, at::kDouble, "choices");
  require_range(choices.dim() == 2 && choices.size(0) == images.count() && choices.size(1) == columns, "choices",
                "shape [" + std::to_string(images.count()) + ", " + std::to_string(columns) + "]", shape_text(choices.sizes()));
  const at::Tensor values = choices.cpu().contiguous();
  std::vector<Choice> rows;
  for (int64_t k = 0; k < images.count(); ++k) rows.push_back(parse(values.const_data_ptr<double>() + k * columns));
  return render(images, size, color_first, [&](int64_t k) { return rows[static_cast<size_t>(k)]; });
}

}  // namespace

void check(const Pipeline& p, int64_t height, int64_t width) {
  const auto pair = [](const double (&range)[2]) { return std::to_string(range[0]) + " to " + std::to_string(range[1]); };
  require_range(p.size >= 1 && p.size <= 1 << 16, "size", "a side of 1 to 65536 pixels", std::to_string(p.size));
  require_range(p.scale[0] > 0 && p.scale[0] <= p.scale[1] && p.scale[1] <= 1, "scale", "0 < low <= high <= 1", pair(p.scale));
  require_range(p.ratio[0] > 0 && p.ratio[0] <= p.ratio[1] && std::isfinite(p.ratio[1]), "ratio", "0 < low <= high", pair(p.ratio));
  require_range(p.padding >= 0 && p.padding <= 1 << 16, "padding", "0 to 65536 pixels", std::to_string(p.padding));
  const int64_t room = std::min(height, width) + 2 * p.padding;
  require_range(p.resized || p.size <= room, "size", "at most " + std::to_string(room) + " (the padded image; nothing is resized)", std::to_string(p.size));
  require_probability(p.flip, "flip");
  require_probability(p.jitter, "jitter probability");
  require_probability(p.gray, "grayscale");
  for (double value : {p.brightness, p.contrast, p.saturation})
    require_range(value >= 0 && value <= 1e3, "jitter", "brightness, contrast and saturation from 0 to 1000", std::to_string(value));
  require_range(p.hue >= 0 && p.hue <= 0.5, "jitter", "hue from 0 to 0.5", std::to_string(p.hue));
}

at::Tensor augment(const at::Tensor& pixels, const at::Tensor& indices, const Pipeline& pipeline, int64_t seed, int64_t epoch, int64_t view) {
  const Images images(pixels, indices);
  check(pipeline, images.height, images.width);
  require_integer(epoch, 40, "epoch"), require_integer(view, 16, "view");
  return render(images, pipeline.size, pipeline.color_first, [&](int64_t k) {
    return kernels::augment::draw(pipeline, images.height, images.width, seed, epoch, view, images.index(k));
  });
}

at::Tensor high_frequency(const at::Tensor& images, double radius) {
  if (!at::isFloatingType(images.scalar_type()))
    throw Error(ErrorKind::ArgumentType, "images", "a floating-point tensor", dtype_name(images.scalar_type()));
  require_range(images.dim() >= 2 && images.size(-1) == images.size(-2) && images.size(-1) > 0, "images", "shape [..., side, side]", shape_text(images.sizes()));
  require_range(radius >= 0 && std::isfinite(radius), "radius", "a finite number of at least 0", std::to_string(radius));
  const int64_t side = images.size(-1), half = side / 2 + 1;
  // Bin k of an axis is at place (k + side/2) mod side of the centred spectrum, side/2 away from its middle.
  const auto kept = [&](int64_t y, int64_t x) {
    const auto frequency = [&](int64_t k) { return static_cast<double>((k + side / 2) % side - side / 2); };
    return std::hypot(frequency(y), frequency(x)) < radius ? 0.0 : 1.0;
  };
  // The real part of a filtered real image sees the mask symmetrised, so the half spectrum carries all of it.
  std::vector<double> mask;
  for (int64_t y = 0; y < side; ++y)
    for (int64_t x = 0; x < half; ++x) mask.push_back((kept(y, x) + kept((side - y) % side, (side - x) % side)) / 2);
  if (images.is_cuda()) backend_of(images, "images")->require_no_capture(images, "high_frequency");
  const at::Tensor weights = at::tensor(mask, at::dtype(images.scalar_type())).view({side, half}).to(images.device(), images.scalar_type(), /*non_blocking=*/true);
  return at::fft_irfft2(at::fft_rfft2(images).mul(weights), at::IntArrayRef{side, side});
}

std::tuple<at::Tensor, at::Tensor> procedural_images(int64_t seed, int64_t split, int64_t first, int64_t count, int64_t size) {
  namespace procedural = kernels::procedural;
  require_integer(split, 32, "split"), require_integer(first, 32, "first");
  require_range(size >= 8 && size <= 1024, "size", "a side of 8 to 1024 pixels", std::to_string(size));
  require_range(count >= 0 && count <= 10'000'000, "count", "0 to 10000000 images", std::to_string(count));
  at::Tensor images = at::empty({count, procedural::channels, size, size}, at::kByte), labels = at::empty({count}, at::kLong);
  uint8_t* bytes = images.mutable_data_ptr<uint8_t>();
  int64_t* classes = labels.mutable_data_ptr<int64_t>();
  for_each_sample(count, [&](int64_t k) {
    procedural::draw(bytes + k * procedural::channels * size * size, size, seed, static_cast<uint32_t>(split), first + k);
    classes[k] = procedural::label(first + k);
  });
  return {images, labels};
}

TORCH_LIBRARY_FRAGMENT(a_infonce, library) {
  const std::string drawn = "(Tensor pixels, Tensor indices, *, int seed, int epoch, int view, int size, float[] scale, float[] ratio, int padding, "
                            "float flip, float[] jitter, float jitter_probability, float gray, bool color_first) -> Tensor";
  library.def(("augment" + drawn).c_str(), augment_op);
  library.def(("augment_choices" + drawn).c_str(), augment_choices);
  library.def("augment_apply(Tensor pixels, Tensor indices, Tensor choices, *, int size, bool color_first) -> Tensor", augment_apply);
  library.def("high_frequency(Tensor images, float radius) -> Tensor", high_frequency);
  library.def("procedural_images(int seed, int split, int first, int count, int size) -> (Tensor images, Tensor labels)", procedural_images);
}

}  // namespace a_infonce::ops

#include "ops/corruption.h"
#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>
#include <algorithm>
#include <iterator>
#include "cancellation.h"
#include "describe.h"
#include "dtype.h"
#include "error.h"
#include "kernels/corruption/corruption.h"

namespace a_infonce::ops {
namespace {

constexpr int64_t chunk = 16, round_size = 1024;  // images a task, and between two looks whether the job was aborted

void require(const at::Tensor& tensor, at::ScalarType dtype, const char* argument) {
  if (tensor.scalar_type() != dtype) throw Error(ErrorKind::ArgumentType, argument, "a tensor of dtype " + dtype_name(dtype), dtype_name(tensor.scalar_type()));
  if (!tensor.device().is_cpu()) throw Error(ErrorKind::ArgumentType, argument, "a tensor on the cpu", "one on " + tensor.device().str());
}

at::Tensor corrupt_op(const at::Tensor& pixels, const at::Tensor& samples, c10::string_view type, int64_t severity, int64_t seed) {
  return corrupt(pixels, samples, std::string(type), severity, seed);
}

}  // namespace

at::Tensor corrupt(const at::Tensor& pixels, const at::Tensor& samples, const std::string& type, int64_t severity, int64_t seed) {
  namespace corruption = kernels::corruption;
  require(pixels, at::kByte, "pixels"), require(samples, at::kLong, "samples");
  require_range(pixels.dim() == 4 && (pixels.size(1) == 1 || pixels.size(1) == 3) && pixels.size(2) >= corruption::least_side && pixels.size(3) >= corruption::least_side,
                "pixels", "shape [images, 1 or 3, height, width] with sides of at least 8", shape_text(pixels.sizes()));
  require_range(samples.dim() == 1 && samples.size(0) == pixels.size(0), "samples", shape_text({pixels.size(0)}), shape_text(samples.sizes()));
  const auto* name = std::find(std::begin(corruption::names), std::end(corruption::names), type);
  require_range(name != std::end(corruption::names), "type", "a corruption of kernels/corruption/corruption.h", "'" + type + "'");
  require_range(severity >= 1 && severity <= corruption::severities, "severity", "an integer from 1 to 5", std::to_string(severity));
  require_range(seed >= 0, "seed", "an integer of at least 0", std::to_string(seed));

  const corruption::Corruption work(static_cast<corruption::Type>(name - std::begin(corruption::names)), static_cast<int>(severity), static_cast<uint64_t>(seed));
  const at::Tensor in = pixels.contiguous(), keys = samples.contiguous();
  at::Tensor out = at::empty_like(in);
  const int64_t channels = in.size(1), height = in.size(2), width = in.size(3), bytes = channels * height * width, count = in.size(0);
  const uint8_t* from = in.const_data_ptr<uint8_t>();
  const int64_t* sample = keys.const_data_ptr<int64_t>();
  uint8_t* to = out.mutable_data_ptr<uint8_t>();
  for (int64_t first = 0; first < count; first += round_size) {
    check_cancelled();
    at::parallel_for(first / chunk, (std::min(first + round_size, count) + chunk - 1) / chunk, 1, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin * chunk; k < std::min(end * chunk, count); ++k)
        work.apply(from + k * bytes, channels, height, width, static_cast<uint64_t>(sample[k]), to + k * bytes);
    });
  }
  return out;
}

TORCH_LIBRARY_FRAGMENT(a_infonce, library) {
  library.def("corrupt(Tensor pixels, Tensor samples, *, str type, int severity, int seed) -> Tensor", corrupt_op);
}

}  // namespace a_infonce::ops

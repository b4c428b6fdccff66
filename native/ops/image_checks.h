// What the operators of the attacks ask of batches of images.
#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/ops/aminmax.h>
#include <ATen/ops/stack.h>
#include <cmath>
#include <string>
#include <utility>
#include "describe.h"
#include "dtype.h"
#include "error.h"
#include "ops/backend.h"

namespace a_infonce::ops {

inline std::string describe(const at::Tensor& tensor) {
  return dtype_name(tensor.scalar_type()) + " " + shape_text(tensor.sizes()) + " on " + tensor.device().str();
}

/// Of the images that an operator works on; its backend, null on the CPU.
inline const Backend* require_floating(const char* name, const at::Tensor& tensor) {
  const bool floating = tensor.scalar_type() == at::kFloat || tensor.scalar_type() == at::kDouble;
  require_range(floating && tensor.dim() > 0, name, "a float32 or float64 tensor [N, ...]", describe(tensor));
  return backend_of(tensor, name);
}

inline void require_radius(const char* name, double value) {
  require_range(std::isfinite(value) && value >= 0, name, "a finite number of at least 0", std::to_string(value));
}

inline void require_like(const char* name, const at::Tensor& tensor, const at::Tensor& x) {
  require_range(tensor.scalar_type() == x.scalar_type() && tensor.device() == x.device() && tensor.sizes() == x.sizes(), name, describe(x),
                describe(tensor));
}

/// `dtype` [sizes] on the device of x.
inline void require_beside(const char* name, const at::Tensor& tensor, at::ScalarType dtype, at::IntArrayRef sizes, const at::Tensor& x) {
  require_range(tensor.scalar_type() == dtype && tensor.device() == x.device() && tensor.sizes() == sizes, name,
                dtype_name(dtype) + " " + shape_text(sizes) + " on " + x.device().str(), describe(tensor));
}

/// [the least, the greatest] of numbers, of which there is one at least, beside them.
inline at::Tensor bounds(const at::Tensor& numbers) {
  const auto [low, high] = at::aminmax(numbers);
  return at::stack({low, high});
}

/// Throws NonFinite where a row of `bad` (bool [N]) is true: "<what> of sample <row> is NaN or infinite". Waits for the device.
inline void require_none(const at::Tensor& bad, const std::string& what) {
  if (!bad.any().item<bool>()) return;
  throw Error(ErrorKind::NonFinite, what + " of sample " + std::to_string(bad.nonzero()[0][0].item<int64_t>()) + " is NaN or infinite");
}

}  // namespace a_infonce::ops

// What the operators of the attacks ask of batches of images.
#pragma once
#include <ATen/core/Tensor.h>
#include <cmath>
#include <string>
#include "describe.h"
#include "dtype.h"
#include "error.h"

namespace a_infonce::ops {

inline std::string describe(const at::Tensor& tensor) {
  return dtype_name(tensor.scalar_type()) + " " + shape_text(tensor.sizes()) + " on " + tensor.device().str();
}

inline void require_floating_cpu(const char* name, const at::Tensor& tensor) {
  const bool floating = tensor.scalar_type() == at::kFloat || tensor.scalar_type() == at::kDouble;
  require_range(floating && tensor.device().is_cpu() && tensor.dim() > 0, name, "a float32 or float64 tensor [N, ...] on the CPU", describe(tensor));
}

inline void require_radius(const char* name, double value) {
  require_range(std::isfinite(value) && value >= 0, name, "a finite number of at least 0", std::to_string(value));
}

inline void require_like(const char* name, const at::Tensor& tensor, const at::Tensor& x) {
  require_range(tensor.scalar_type() == x.scalar_type() && tensor.device() == x.device() && tensor.sizes() == x.sizes(), name, describe(x),
                describe(tensor));
}

}  // namespace a_infonce::ops

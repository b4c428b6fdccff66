// Distances of adversaries from their images.
#pragma once
#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <limits>
#include "attack/attack.h"

namespace a_infonce::attack {

/// [n], in the type of the images.
inline at::Tensor distance(const at::Tensor& x_adv, const at::Tensor& images, Norm norm) {
  return at::linalg_vector_norm((x_adv - images).flatten(1), norm == Norm::L2 ? 2 : std::numeric_limits<double>::infinity(), at::IntArrayRef{1});
}

/// bool [n]: who is in the ball, as computed in doubles.
inline at::Tensor within(const at::Tensor& x_adv, const at::Tensor& images, Norm norm, double epsilon) {
  return distance(x_adv.to(at::kDouble), images.to(at::kDouble), norm).le(epsilon);
}

}  // namespace a_infonce::attack

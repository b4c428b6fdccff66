// Row moments of exp(scale Z Z^T) as differentiable operators. Each returns its values twice: as a function of both ends of every pair ("full"), and as a
// function of the row's own end only ("detached": S' = scale Z sg(Z)^T). One forward serves both, and one backward pass merges their gradients.
#pragma once
#include <ATen/core/Tensor.h>
#include <torch/custom_class.h>
#include <cstdint>
#include <tuple>
#include <vector>
#include "ops/moments.h"

namespace a_infonce::ops {

/// log_sums[p, i] = log sum_{j selected} e^{powers[p] s_ij}, s = scale <z_i, z_j>; -infinity for rows without a selected pair.
/// z [n, d] float32 or float64; codes int32 [n]: 2 * group + kind; selection: kernels::Selection, the diagonal never. One or two positive powers.
/// Returns (full, detached), float64 [powers, n] each, where z is; codes are there or on the CPU.
std::tuple<at::Tensor, at::Tensor> log_moments(const at::Tensor& z, const at::Tensor& codes, double scale, const std::vector<double>& powers,
                                               int64_t selection, CrossFactors factors = {});

/// Log moments that are known, and what their gradient needs.
struct KnownLogMoments : torch::CustomClassHolder {
  virtual at::Tensor log_sums() const = 0;  // [powers, n]
  /// By z, from that by the log sums, each of which may be undefined.
  virtual at::Tensor gradient(const at::Tensor& full, const at::Tensor& detached) = 0;
};

/// Throws ArgumentRange on a scale at which similarities of rows, the largest square given, have no precision left in the dtype; NonFinite on a square that is not finite.
void check_scale(double largest_square, double scale, const std::vector<double>& powers, at::ScalarType dtype);
/// Throws ArgumentRange where the least code is negative.
void check_least_code(int32_t least);

/// For the backward of what is differentiable once: throws where autograd would differentiate the gradient again (create_graph), which is a constant to it.
void require_first_order();

/// Throws where x is not [rows, dim] of float32 or float64, neither of them 0.
void check_rows(const at::Tensor& x, const char* argument);

/// Throws NonFinite naming the first row of x [n, d] that holds NaN or infinity; nothing if there is none.
void require_finite_rows(const at::Tensor& x, const char* argument);

}  // namespace a_infonce::ops

// Row moments of exp(scale Z Z^T) as differentiable operators. Each returns its values twice: as a function of both ends of every pair ("full"), and as a
// function of the row's own end only ("detached": S' = scale Z sg(Z)^T). One forward serves both, and one backward pass merges their gradients.
#pragma once
#include <ATen/core/Tensor.h>
#include <cstdint>
#include <tuple>
#include <vector>

namespace a_infonce::ops {

/// Pairs of a clean and an adversarial row send their gradient to each end times that end's factor.
struct CrossFactors {
  double clean = 1, adversarial = 1;
};

/// log_sums[p, i] = log sum_{j selected} e^{powers[p] s_ij}, s = scale <z_i, z_j>; -infinity for rows without a selected pair.
/// z [n, d] float32 or float64; codes int32 [n]: 2 * group + kind; selection: kernels::Selection, the diagonal never. One or two positive powers.
/// Returns (full, detached), float64 [powers, n] each.
std::tuple<at::Tensor, at::Tensor> log_moments(const at::Tensor& z, const at::Tensor& codes, double scale, const std::vector<double>& powers,
                                               int64_t selection, CrossFactors factors = {});

/// sums[i] = sum_{j negative} phi(e_ij) q_j, e_ij = exp(scale <z_i, z_j> - shift_i), phi(e) = (e + epsilon)^exponent (times e if times_e).
/// q, detached_q (same values, used by the full and the detached sums) and shift float64 [n]; shift carries no gradient.
/// Returns (full, detached, maximum of s_ij over the negatives), float64 [n] each; the maximum is empty if times_e.
std::tuple<at::Tensor, at::Tensor, at::Tensor> hard_moments(const at::Tensor& z, const at::Tensor& codes, const at::Tensor& q, const at::Tensor& detached_q,
                                                            const at::Tensor& shift, double scale, double epsilon, double exponent, bool times_e);

/// The similarities within each image: s[b, v, w] = scale <z_{v B + b}, z_{w B + b}> in float64, z [views * B, d] view-major.
/// Returns (full, detached), [B, views, views] each. adversarial_view -1: every view is clean.
std::tuple<at::Tensor, at::Tensor> view_similarity(const at::Tensor& z, int64_t views, double scale, int64_t adversarial_view = -1, CrossFactors factors = {});

/// Throws NonFinite naming the first row of x [n, d] that holds NaN or infinity; nothing if there is none.
void require_finite_rows(const at::Tensor& x, const char* argument);

}  // namespace a_infonce::ops

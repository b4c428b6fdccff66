// The forms without labels as one differentiable function: rows are normalised, packed and visited by the similarity kernels, and what is per row or per image is
// plain float64 arithmetic. Nothing else is stored than the packed rows and a few numbers a row.
#pragma once
#include "objective/options.h"

namespace a_infonce::objective {

/// The loss of checked features [views * batch, d] and options; a scalar of their dtype with its gradient.
at::Tensor fused(const at::Tensor& features, const Options& options);

/// The same number for [adversaries; clean rows] with the clean rows held fixed: the gradient is the adversaries' alone, and sums over pairs of clean rows are those
/// that `fused_clean_sums` has found. adversaries [batch, d]; clean [(views - 1) * batch, d]: the other views in order.
at::Tensor fused_adversaries(const at::Tensor& adversaries, const at::Tensor& clean, const at::Tensor& sums, const Options& options);

/// float64 [moments, (views - 1) * batch]: log of each clean row's sums over the clean negatives.
at::Tensor fused_clean_sums(const at::Tensor& clean, const Options& options);

}  // namespace a_infonce::objective

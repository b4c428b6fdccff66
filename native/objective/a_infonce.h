// The objective: one function for the attacks, the training methods and the facade.
#pragma once
#include "objective/options.h"

namespace a_infonce {

/// The loss of features [views * batch, dim] (float32 or float64), differentiable, a scalar of their dtype.
/// ArgumentType / ArgumentRange name the option in the facade's spelling; NonFinite names the first bad row.
at::Tensor a_infonce(const at::Tensor& features, const objective::Options& options);

/// The same number as a function of one view alone, the adversarial one (view 0 without any), the others held fixed: what an attack climbs. adversaries
/// [batch, d], clean [(views - 1) * batch, d]: the other views in order. Only pairs with an adversary are visited; `sums` are clean_sums of the same clean
/// rows and options, found once for all steps. No labels; hard negatives in form `paper` only.
at::Tensor adversarial_loss(const at::Tensor& adversaries, const at::Tensor& clean, const at::Tensor& sums, const objective::Options& options);

/// float64 [moments, (views - 1) * batch]: log of each clean row's sums over its clean negatives.
at::Tensor clean_sums(const at::Tensor& clean, const objective::Options& options);

}  // namespace a_infonce

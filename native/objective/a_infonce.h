// The objective: one function for the attacks, the training methods and the facade.
#pragma once
#include "objective/options.h"

namespace a_infonce {

/// The loss of features [views * batch, dim] (float32 or float64), differentiable, a scalar of their dtype.
/// ArgumentType / ArgumentRange name the option in the facade's spelling; NonFinite names the first bad row.
at::Tensor a_infonce(const at::Tensor& features, const objective::Options& options);

}  // namespace a_infonce

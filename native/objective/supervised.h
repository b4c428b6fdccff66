// Form `paper` with labels.
#pragma once
#include "objective/options.h"

namespace a_infonce::objective {

/// The loss of checked features [views * batch, d] and options with labels; a scalar of their dtype with its gradient.
at::Tensor supervised(const at::Tensor& features, const Options& options);

}  // namespace a_infonce::objective

// Hard negatives as the released code has them, in forms `advcl` and `rocl`.
#pragma once
#include "objective/options.h"

namespace a_infonce::objective {

/// The loss of checked features [views * batch, d] and options; a scalar of their dtype with its gradient.
at::Tensor released_hard_negatives(const at::Tensor& features, const Options& options);

}  // namespace a_infonce::objective

// The hard negatives of the released code, both lineages.
#pragma once
#include "objective/algebra.h"

namespace a_infonce::objective {

/// E = exp(logits); pos_i = mean of E over the positives of row i; Ng_i its weighed negatives. [batch, views, views] and [batch, views].
struct HardDenominator {
  at::Tensor logits, log_denominator;  // S - shift, log(pos + Ng)
};
struct HardDenominators {
  HardDenominator full, detached;
};

/// imp_ij = (En_ij + 1e-9)^beta with En = E on the negatives and 0 elsewhere; m_j = mean over all n columns of row j of imp;
/// Ng_i = max((sum_j imp_ij En_ij / m_j - tau_plus N pos_i) / (1 - tau_plus), N e^-2). subtract_maximum: E = exp(S - row maximum), else E = exp(S).
HardDenominators released_hard_negatives(const Rows& rows, const Options& options, bool subtract_maximum);

}  // namespace a_infonce::objective

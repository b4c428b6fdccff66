// SimCLR (Chen et al., ICML 2020) and supervised contrastive learning (Khosla et al., NeurIPS 2020): two views and no adversary.
#pragma once
#include "../objective/a_infonce.h"
#include "trainer.h"

namespace a_infonce::training {

/// The loss of one batch, views [B, C, H, W] in [0, 1]: one train-mode forward of both, concatenated, through the first BatchNorm branch, then the objective
/// (form paper, 2 views; with labels: supervised positives) times `scale`. Adds "contrastive", the loss before `scale`, to the values.
at::Tensor simclr_loss(nn::Network& network, const at::Tensor& view1, const at::Tensor& view2, const objective::Options& objective, double scale,
                       Values& values, const Check& check);

/// ArgumentRange unless both are [B, C, H, W] of one shape, B at least `least`.
void require_views(const at::Tensor& view1, const at::Tensor& view2, int64_t least = 1);

}  // namespace a_infonce::training

// RoCL (Kim, Tack and Hwang, NeurIPS 2020) and its asymmetric variants (Yu et al., ECCV 2022), as the released code runs them.
#pragma once
#include "../attack/pgd.h"
#include "../objective/a_infonce.h"
#include "trainer.h"

namespace a_infonce::training {

struct RoclOptions {
  objective::Options objective;        // of [view1, view2, adversary]: 3 views, form rocl
  attack::PgdOptions attack;
  double regularizer_weight = 1.0 / 256;  // of NT-Xent(adversary, view2), added to the loss
  // The released code projects [adversary, view2] once more for the regulariser, before the three views: a second update of the running
  // statistics a step. Shared, the regulariser reads the rows of the one forward: a fifth of the step less, almost the same weights.
  bool shared_forward = false;
  // Processes the batch stands for: the attack and the regulariser contrast a row with those of its own group only: runs of
  // neighbours, two rows or more each, of sizes that differ by at most one, the larger ones first. The released runs had two.
  int64_t groups = 1;
};

/// The loss of one batch, views [B, C, H, W] in [0, 1]. In eval mode the adversary of view 1 ascends the two-view NT-Xent against view 2, whose
/// projection is computed once; then one train-mode forward of the three views, concatenated, through the only BatchNorm branch:
///   A-InfoNCE(view1, view2, adversary) + regularizer_weight * NT-Xent(adversary, view2)
/// Adds "contrastive", "regularizer" and "perturbation" (mean |adversary - view1| / epsilon) to the values; `check` is called once an attack step.
at::Tensor rocl_loss(nn::Network& network, const at::Tensor& view1, const at::Tensor& view2, const RoclOptions& options, Values& values,
                     const Check& check);

}  // namespace a_infonce::training

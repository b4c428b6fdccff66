// AdvCL (Fan et al., NeurIPS 2021) and its asymmetric variants (Yu et al., ECCV 2022), as the released code runs them.
#pragma once
#include "../attack/pgd.h"
#include "../objective/a_infonce.h"
#include "trainer.h"

namespace a_infonce::training {

/// Adaptive inferior positives: alpha follows the mean distance d between the features of an image and of its adversary, both through the clean branch.
struct AdaptiveAlpha {
  double d_min = 0;             // below it alpha is 0.5: hardly moved adversaries are positives like others
  std::optional<double> d_max;  // above it alpha is the objective's, between them linear; undefined in the warm-up: the objective's whatever d is
};

struct AdvclOptions {
  objective::Options objective;           // of [adversary, aug1, aug2, high frequency], 4 views; alpha is the least one where it is adaptive
  std::optional<AdaptiveAlpha> adaptive;
  attack::PgdOptions attack;
  double label_weight = 0.2;              // of the mean cross-entropy over the heads; 0: neither labels nor their adversary
  double high_frequency_radius = 8;       // of the disc taken out of the spectrum
};

struct AdvclBatch {
  at::Tensor aug1, aug2, org;  // [B, C, H, W] in [0, 1]
  at::Tensor labels;           // int64 [heads, B], anywhere; undefined without
};

/// The loss of one batch, in train mode throughout. The adversaries of `org` for the
/// contrastive loss (branch `pgd`) and for the labels (`pgd_ce`) climb side by side; the contrastive one ascends the plain loss, neither alpha nor hard
/// negatives, against the clean views. The loss:
///   A-InfoNCE(adversary, aug1, aug2, high frequency of org) + label_weight * mean over the heads of CE(head(label adversary), label)
/// The released code runs the clean views through the network again with every attack step. Here that is done once, with gradients for the loss, and the
/// running statistics move as if it were done every time. `check` is called once an attack step and between the forwards.
/// Adds "contrastive", "crossEntropy" (with labels), "perturbation", "alpha" (inferior positives) and "distance" (adaptive) to the values.
at::Tensor advcl_loss(nn::Network& network, const AdvclBatch& batch, const AdvclOptions& options, Values& values, const Check& check);

}  // namespace a_infonce::training

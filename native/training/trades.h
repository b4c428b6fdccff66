// TRADES (Zhang et al., ICML 2019), as the released code of A-InfoNCE trains: the adversarial fine-tuning of everything (AFF).
#pragma once
#include "../attack/pgd.h"
#include "trainer.h"

namespace a_infonce::training {

struct TradesOptions {
  double beta = 6;
  double start_noise = 1e-3;  // the adversary starts from image + start_noise * N(0, 1); at 0 the KL has no gradient there and nothing moves
  attack::PgdOptions attack;  // its seed and samples name the noise's random streams; its random start is not used
};

/// images + scale * N(0, 1), not clamped. Each value depends on (seed, its sample's number, its place in the sample) alone.
at::Tensor noisy(const at::Tensor& images, const at::Tensor& samples, double scale, uint64_t seed);

/// The loss of one batch, images [B, C, H, W] in [0, 1] of classes `labels` (int64 [B], anywhere), through the network's branch. In eval mode the adversary ascends
/// the KL divergence of the clean prediction, which is computed once; then in train mode, with gradients through both forwards,
///   CE(clean, labels) + beta * sum KL(p(clean) || p(adversary)) / B
/// As in the released code of A-InfoNCE (its trades.py: two train-mode forwards) BatchNorm's running statistics hear of the clean batch, then of the adversaries.
/// Adds "natural", "robust" (the KL before beta), "accuracy" (clean) and "perturbation" (mean |adversary - image| / epsilon) to the values; `check` is
/// called once an attack step.
at::Tensor trades_loss(nn::Network& network, const at::Tensor& images, const at::Tensor& labels, const TradesOptions& options, Values& values, const Check& check);

}  // namespace a_infonce::training

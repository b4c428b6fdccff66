// A linear head on a fixed encoder: SLF on clean images, ALF on adversaries.
#pragma once
#include <optional>
#include "../attack/pgd.h"
#include "trainer.h"

namespace a_infonce::training {

/// The labels where the images are. Throws ArgumentRange unless images are [B, C, H, W], B > 0, labels int64 [B] and each of them a class of the network's head: labels on a device
/// are waited for.
at::Tensor labels_there(const nn::Network& network, const at::Tensor& images, const at::Tensor& labels);

/// Cross-entropy of the head on features of images [B, C, H, W] in [0, 1], labels anywhere, or with `attack` of their adversaries, which ascend the same loss through the
/// whole network. Eval mode throughout, through the network's branch; the graph holds the head alone. Adds "accuracy" on the images learnt from, and
/// with `attack` "perturbation" (mean |adversary - image| / epsilon), to the values; `check` is called once an attack step.
at::Tensor linear_loss(nn::Network& network, const at::Tensor& images, const at::Tensor& labels, const std::optional<attack::PgdOptions>& attack, Values& values,
                       const Check& check);

}  // namespace a_infonce::training

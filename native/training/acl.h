// ACL's dual stream (Jiang et al., NeurIPS 2020), on which DynACL (Luo et al., ICLR 2023) and adversarial invariant regularisation (Xu et al., NeurIPS 2023)
// build: clean views through BatchNorm branch `normal`, their adversaries through `pgd`.
#pragma once
#include <optional>
#include "../attack/pgd.h"
#include "../objective/a_infonce.h"
#include "trainer.h"

namespace a_infonce::training {

struct AclOptions {
  objective::Options objective;   // of two views: form paper
  attack::PgdOptions attack;
  double adversarial_weight = 1;  // w in [0, 2] of the adversarial stream; the clean one has 2 - w
  struct Invariance {
    double standard = 0.5, adversarial = 0.5;  // lambda 1 and 2
  };
  std::optional<Invariance> invariance;
};

/// The loss of one batch, views [B, C, H, W] in [0, 1]. In eval mode PGD moves both views together, through `pgd`, up the objective of the two; then,
/// in train mode, one forward of the adversaries through `pgd` and one of the views through `normal`:
///   ((2 - w) L(views) + w L(adversaries)) / 2,   with invariance   (2 - w) L(views) + w L(adversaries) + lambda_1 R_standard + lambda_2 R_adversarial
/// (the released code of ACL and DynACL halves, that of the regularisation does not).
/// With z1, z2 the normalised rows of the views, a1, a2 of the adversaries and o of `original` (the unaugmented images, needed with invariance only, a
/// forward of their own through `normal`), p(x, y) = softmax over the batch of <x_i, y_i> / t, and D(p || q) = sum_i q_i (log q_i - p_i):
///   R_standard = D(p(z1, o) || p(z2, o)),   R_adversarial = D(p(a1, o) p(a1, z1) || p(a2, o) p(a2, z2))
/// The paper has the divergence of Kullback and Leibler there; D is what the released code computes, since its first argument is not a logarithm.
/// Adds "clean", "adversarial", with invariance "standardInvariance" and "adversarialInvariance", and "perturbation" to the values.
at::Tensor acl_loss(nn::Network& network, const at::Tensor& view1, const at::Tensor& view2, const at::Tensor& original, const AclOptions& options,
                    Values& values, const Check& check);

}  // namespace a_infonce::training

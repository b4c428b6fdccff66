// Auto-PGD (Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks", ICML 2020, algorithm 1),
// step for step as in the authors' implementation; the samples that are fooled leave the batch at once.
#pragma once
#include "attack.h"

namespace a_infonce::attack {

enum class ApgdLoss {
  CrossEntropy,
  DLR,          // -(z_y - max_{i != y} z_i) / (z_1st - z_3rd): at least 3 classes
  TargetedDLR,  // -(z_y - z_t) / (z_1st - (z_3rd + z_4th)/2): at least 4 classes; t: one after the other the likeliest wrong classes of the image
};

struct ApgdOptions {
  Norm norm = Norm::Linf;
  double epsilon = 8.0 / 255;
  ApgdLoss loss = ApgdLoss::CrossEntropy;
  int64_t steps = 100;
  int64_t restarts = 1;  // of each target
  int64_t targets = 9;   // TargetedDLR: at most so many, and no more than there are wrong classes
  double rho = 0.75;     // the step is halved where fewer than this share of the steps since the last checkpoint raised the loss
  uint64_t seed = 0;
};

class Apgd final : public Attack {
 public:
  explicit Apgd(ApgdOptions options);
  int64_t steps() const override;
  at::Tensor run(const Batch& batch, const std::function<void()>& step) const override;

 private:
  const ApgdOptions options_;
};

}  // namespace a_infonce::attack

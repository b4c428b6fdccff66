// The targeted Fast Adaptive Boundary attack, FAB-T (Croce & Hein, ICML 2020; as in AutoAttack): seeks the adversary nearest to the image by
// projecting onto the linearised decision boundary, once against each of the classes that the model finds likeliest.
#pragma once
#include "attack/attack.h"

namespace a_infonce::attack {

struct FabOptions {
  Norm norm = Norm::Linf;
  double epsilon = 8.0 / 255;  // adversaries farther away do not count; restarts begin epsilon / 2 away
  int64_t steps = 100;
  int64_t restarts = 1;        // for each target class; the first begins at the image
  int64_t targets = 9;  // the likeliest on the image but the label; at most as many as there are
  double alpha_max = 0.1;      // bias toward the image
  double eta = 1.05;           // overshoot
  double beta = 0.9;           // back toward the image after success
  uint64_t seed = 0;
};

class Fab final : public Attack {
 public:
  explicit Fab(const FabOptions& options);
  int64_t steps() const override { return options_.targets * options_.restarts * options_.steps; }
  at::Tensor run(const Batch& batch, const std::function<void()>& step) const override;

 private:
  at::Tensor start(const Batch& batch, int64_t target, int64_t restart) const;
  /// The nearest points that fool the model on the way to `targets` (int64 [n]); the image where none does.
  at::Tensor search(const Batch& batch, const at::Tensor& targets, at::Tensor z, const std::function<void()>& step) const;

  const FabOptions options_;
};

}  // namespace a_infonce::attack

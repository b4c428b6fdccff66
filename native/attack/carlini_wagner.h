// The L2 attack of Carlini & Wagner (IEEE S&P 2017): the nearest adversary, by Adam on |x' - x|^2 + c max(margin + confidence, 0) in the space of
// x' = (tanh(w) + 1) / 2, with a binary search for c.
#pragma once
#include <limits>
#include "attack/attack.h"

namespace a_infonce::attack {

struct CarliniWagnerOptions {
  double epsilon = std::numeric_limits<double>::infinity();  // L2; adversaries farther away do not count
  int64_t steps = 1000;           // of Adam for each c
  int64_t search_steps = 9;       // values of c tried; from 10 on the last is the smallest that succeeded
  double initial_c = 1e-3;
  double learning_rate = 0.01;
  double confidence = 0;          // by which the adversary's class must beat the label
  bool abort_early = true;        // leave a c once a tenth of the steps has not lowered the loss by 0.01 %
  bool targeted = false;          // the labels are classes to reach
};

class CarliniWagner final : public Attack {
 public:
  explicit CarliniWagner(const CarliniWagnerOptions& options);
  int64_t steps() const override { return options_.search_steps * options_.steps; }
  at::Tensor run(const Batch& batch, const std::function<void()>& step) const override;

 private:
  struct Nearest;
  at::Tensor succeeded(const Batch& batch, const at::Tensor& logits) const;
  at::Tensor hinge(const Batch& batch, const at::Tensor& logits) const;
  /// Minimises the loss at c [n], notes what it comes by in `nearest`, and tells for which samples it came by any adversary.
  at::Tensor descend(const Batch& batch, const at::Tensor& c, Nearest& nearest, const std::function<void()>& step) const;

  const CarliniWagnerOptions options_;
};

}  // namespace a_infonce::attack

// Square Attack (Andriushchenko et al., ECCV 2020; as in AutoAttack): random search over squares of shrinking size. It reads the model's logits
// alone, no gradients, so that it also breaks models that only hide theirs.
#pragma once
#include "attack/attack.h"

namespace a_infonce::attack {

struct SquareOptions {
  Norm norm = Norm::Linf;
  double epsilon = 8.0 / 255;
  int64_t queries = 5000;        // after the start
  double p_init = 0.8;           // share of the pixels that the first squares cover
  bool rescale_schedule = true;  // shrink the squares as the paper does over 10000 queries, in proportion; false: at the same queries whatever their number
  int64_t restarts = 1;
  uint64_t seed = 0;
};

class Square final : public Attack {
 public:
  explicit Square(const SquareOptions& options);
  int64_t steps() const override { return options_.restarts * options_.queries; }
  at::Tensor run(const Batch& batch, const std::function<void()>& step) const override;

 private:
  at::Tensor start(const Batch& batch, int64_t restart) const;
  at::Tensor propose(const Batch& batch, const at::Tensor& best, int64_t restart, int64_t query) const;
  int64_t side(const at::Tensor& images, int64_t query) const;

  const SquareOptions options_;
};

}  // namespace a_infonce::attack

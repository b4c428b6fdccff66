#include "attack/apgd.h"
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <algorithm>
#include <cmath>
#include "error.h"
#include "ops/perturbation.h"

namespace a_infonce::attack {
namespace {

constexpr double TINY = 1e-12;  // as the authors guard their divisions

at::Tensor unit_length(const at::Tensor& vectors) {
  return vectors / (per_sample(vectors.flatten(1).norm(2, 1), vectors) + TINY);
}

/// A point of the ball's surface: a uniform direction (L2), uniform in the cube and stretched onto its surface (Linf).
at::Tensor start(const Batch& batch, const ApgdOptions& options, int64_t restart) {
  const at::Tensor origin = at::zeros_like(batch.images);
  const auto seed = static_cast<int64_t>(options.seed);
  at::Tensor direction;
  if (options.norm == Norm::Linf) {
    const at::Tensor cube = ops::pgd_start_linf(origin, batch.samples, 1, seed, restart, false);
    direction = cube / (per_sample(cube.flatten(1).abs().amax(1), cube) + TINY);
  } else {
    direction = unit_length(ops::pgd_start_l2(origin, batch.samples, 1, seed, restart, false));
  }
  at::Tensor x_adv = batch.images + options.epsilon * direction;
  batch.project_(x_adv, options.norm, options.epsilon);
  return x_adv;
}

Loss loss_of(ApgdLoss loss, const at::Tensor& labels, const at::Tensor& targets) {
  const auto of_class = [](const at::Tensor& logits, const at::Tensor& classes) { return logits.gather(1, classes.unsqueeze(1)).squeeze(1); };
  switch (loss) {
    case ApgdLoss::CrossEntropy:
      return [labels](const at::Tensor& logits) { return at::cross_entropy_loss(logits, labels, {}, /*reduction none=*/0); };
    case ApgdLoss::DLR:
      return [labels, of_class](const at::Tensor& logits) {
        const auto [sorted, classes] = logits.topk(3, 1);
        const at::Tensor rival = at::where(classes.select(1, 0).eq(labels), sorted.select(1, 1), sorted.select(1, 0));
        return -(of_class(logits, labels) - rival) / (sorted.select(1, 0) - sorted.select(1, 2) + TINY);
      };
    case ApgdLoss::TargetedDLR:
      return [labels, targets, of_class](const at::Tensor& logits) {
        const at::Tensor sorted = std::get<0>(logits.topk(4, 1));
        return -(of_class(logits, labels) - of_class(logits, targets)) /
               (sorted.select(1, 0) - 0.5 * (sorted.select(1, 2) + sorted.select(1, 3)) + TINY);
      };
  }
  return {};
}

/// One run from one start, on samples that the model gets right.
class Run {
 public:
  Run(const ApgdOptions& options, const Batch& batch, const at::Tensor& targets, int64_t restart)
      : options_(options), step_size_(at::full({batch.size()}, 2 * options.epsilon, batch.images.options())), x_adv_(start(batch, options, restart)),
        adversaries_(batch.images.clone()), fooled_(at::zeros_like(batch.labels, at::kBool)), rows_(at::arange(batch.size(), batch.labels.options())), targets_(targets) {}

  struct Result {
    at::Tensor fooled, adversaries;  // bool [n]; like the images, which stand for the samples that are not fooled
  };
  Result operator()(Batch batch, const std::function<void()>& step) {
    auto there = gradient(batch);
    step();
    leave(batch, there);
    x_best_ = x_before_ = x_adv_, grad_best_ = grad_ = there.grad, loss_best_ = loss_checked_ = there.loss;
    loss_before_ = rises_ = at::zeros_like(there.loss);  // the authors compare the first loss with 0
    halved_ = at::ones_like(there.loss, at::kBool);
    const auto share = [&](double of) { return std::max<int64_t>(static_cast<int64_t>(of * static_cast<double>(options_.steps)), 1); };
    int64_t window = share(0.22), since = 0;
    for (int64_t i = 0; i < options_.steps && batch.size() > 0; ++i) {
      move(batch, i == 0 ? 1.0 : 0.75);
      there = gradient(batch);
      step();
      leave(batch, there);
      grad_ = there.grad;
      remember(there.loss);
      if (++since == window) {
        check(window);
        since = 0, window = std::max(window - share(0.03), share(0.06));
      }
    }
    return {fooled_, adversaries_};
  }

 private:
  Batch::Gradient gradient(const Batch& batch) const { return batch.gradient(x_adv_, loss_of(options_.loss, batch.labels, targets_)); }

  /// A step along the gradient, and `share` of it with the rest from the step before.
  void move(const Batch& batch, double share) {
    const at::Tensor momentum = x_adv_ - x_before_;
    x_before_ = x_adv_;
    const at::Tensor direction = options_.norm == Norm::Linf ? grad_.sign() : unit_length(grad_);
    at::Tensor ahead = x_adv_ + per_sample(step_size_, x_adv_) * direction;
    batch.project_(ahead, options_.norm, options_.epsilon);
    ahead = x_adv_ + (ahead - x_adv_) * share + momentum * (1 - share);
    batch.project_(ahead, options_.norm, options_.epsilon);
    x_adv_ = ahead;
  }

  void remember(const at::Tensor& loss) {
    const at::Tensor better = loss.gt(loss_best_), each = per_sample(better, x_adv_);
    x_best_ = at::where(each, x_adv_, x_best_);
    grad_best_ = at::where(each, grad_, grad_best_);
    loss_best_ = at::where(better, loss, loss_best_);
    rises_ = rises_ + loss.gt(loss_before_);
    loss_before_ = loss;
  }

  /// A checkpoint: the step halves, from the best point on, where the loss rose too seldom, or the best loss and the step stayed since the last one.
  void check(int64_t window) {
    const at::Tensor halve = rises_.le(static_cast<double>(window) * options_.rho).logical_or(halved_.logical_not().logical_and(loss_checked_.ge(loss_best_)));
    const at::Tensor each = per_sample(halve, x_adv_);
    step_size_ = at::where(halve, step_size_ / 2, step_size_);
    x_adv_ = at::where(each, x_best_, x_adv_);
    grad_ = at::where(each, grad_best_, grad_);
    halved_ = halve, loss_checked_ = loss_best_;
    rises_ = at::zeros_like(rises_);
  }

  /// The samples fooled leave the batch; `there` was found at x_adv_.
  void leave(Batch& batch, Batch::Gradient& there) {
    const auto [stay, gone] = split(batch.fooled(there.logits));
    if (gone.numel() == 0) return;
    const at::Tensor places = rows_.index_select(0, gone);
    adversaries_.index_copy_(0, places, x_adv_.index_select(0, gone));
    fooled_.index_fill_(0, places, true);
    for (at::Tensor* each : {&there.loss, &there.grad, &rows_, &targets_, &step_size_, &x_adv_, &x_best_, &x_before_, &grad_best_, &loss_best_, &loss_checked_,
                             &loss_before_, &rises_, &halved_})
      if (each->defined()) *each = each->index_select(0, stay);
    batch = batch.select(stay);
  }

  const ApgdOptions& options_;
  at::Tensor step_size_, x_adv_, adversaries_, fooled_, rows_, targets_;
  at::Tensor x_best_, x_before_, grad_, grad_best_, loss_best_, loss_checked_, loss_before_, rises_, halved_;
};

}  // namespace

Apgd::Apgd(ApgdOptions options) : options_(options) {
  require_range(std::isfinite(options.epsilon) && options.epsilon >= 0, "epsilon", "a finite number of at least 0", std::to_string(options.epsilon));
  require_range(options.steps >= 1, "steps", "an integer of at least 1", std::to_string(options.steps));
  require_range(options.restarts >= 1, "restarts", "an integer of at least 1", std::to_string(options.restarts));
  require_range(options.targets >= 1, "targets", "an integer of at least 1", std::to_string(options.targets));
  require_range(std::isfinite(options.rho) && options.rho > 0 && options.rho <= 1, "rho", "a number above 0 and at most 1", std::to_string(options.rho));
}

int64_t Apgd::steps() const { return (options_.loss == ApgdLoss::TargetedDLR ? options_.targets : 1) * options_.restarts * (options_.steps + 1); }

at::Tensor Apgd::run(const Batch& batch, const std::function<void()>& step) const {
  at::Tensor adversaries = batch.images.clone();
  const at::Tensor clean = batch.logits(batch.images);
  const int64_t classes = clean.size(1), needed = options_.loss == ApgdLoss::TargetedDLR ? 4 : options_.loss == ApgdLoss::DLR ? 3 : 1;
  require_range(classes >= needed, "model", "at least " + std::to_string(needed) + " classes for this loss", std::to_string(classes));
  const bool targeted = options_.loss == ApgdLoss::TargetedDLR;
  const int64_t targets = targeted ? std::min(options_.targets, classes - 1) : 1;
  const at::Tensor ranks = clean.argsort(/*dim=*/1, /*descending=*/true);
  at::Tensor standing = split(batch.fooled(clean)).stay;
  for (int64_t restart = 0; restart < targets * options_.restarts && standing.numel() > 0; ++restart) {
    const at::Tensor target = targeted ? ranks.select(1, 1 + restart / options_.restarts).index_select(0, standing) : at::Tensor();
    const Batch left = batch.select(standing);
    const auto [fooled, found] = Run(options_, left, target, restart)(left, step);
    adversaries.index_copy_(0, standing, found);
    standing = standing.index_select(0, split(fooled).stay);
  }
  return adversaries;
}

}  // namespace a_infonce::attack

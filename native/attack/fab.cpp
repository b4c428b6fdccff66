#include "attack/fab.h"
#include <ATen/ops/argsort.h>
#include <ATen/ops/full.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <algorithm>
#include <cmath>
#include <numbers>
#include "attack/distance.h"
#include "error.h"
#include "ops/fab.h"

namespace a_infonce::attack {

Fab::Fab(const FabOptions& options) : options_(options) {
  const auto at_least = [](const char* name, int64_t value, int64_t least) {
    require_range(value >= least, name, "an integer of at least " + std::to_string(least), std::to_string(value));
  };
  require_range(std::isfinite(options.epsilon) && options.epsilon >= 0, "epsilon", "a finite number of at least 0", std::to_string(options.epsilon));
  at_least("steps", options.steps, 0);
  at_least("restarts", options.restarts, 1);
  at_least("targets", options.targets, 1);
  require_range(options.beta >= 0 && options.beta <= 1, "beta", "a number from 0 to 1", std::to_string(options.beta));
}

at::Tensor Fab::run(const Batch& batch, const std::function<void()>& step) const {
  at::Tensor adversaries = batch.images.clone();
  if (batch.size() == 0) return adversaries;
  const at::Tensor clean = batch.logits(batch.images), likeliest = clean.argsort(1, /*descending=*/true);
  at::Tensor rows = split(batch.fooled(clean)).stay;
  const int64_t classes = std::min(options_.targets, clean.size(1) - 1);
  for (int64_t target = 1; target <= classes; ++target)
    for (int64_t restart = 0; restart < options_.restarts && rows.size(0) > 0; ++restart) {
      const Batch standing = batch.select(rows);
      const at::Tensor found = search(standing, likeliest.select(1, target).index_select(0, rows), start(standing, target, restart), step);
      const at::Tensor won = standing.fooled(standing.logits(found)).logical_and(within(found, standing.images, options_.norm, options_.epsilon));
      const auto [losers, winners] = split(won);
      adversaries.index_copy_(0, rows.index_select(0, winners), found.index_select(0, winners));
      rows = rows.index_select(0, losers);
    }
  return adversaries;
}

at::Tensor Fab::start(const Batch& batch, int64_t target, int64_t restart) const {
  const at::Tensor& x = batch.images;
  if (restart == 0) return x.clone();
  const int64_t size = x.numel() / x.size(0);
  at::Tensor direction;
  if (options_.norm == Norm::Linf) {
    direction = 2 * batch.uniform(options_.seed, restart, target, size) - 1;
  } else {
    const at::Tensor u = batch.uniform(options_.seed, restart, target, 2 * size);
    direction = (-2 * (1 - u.slice(1, 0, size)).log()).sqrt() * (2 * std::numbers::pi * u.slice(1, size)).cos();  // normal
  }
  direction = direction.view(x.sizes());
  const at::Tensor length = distance(direction, at::zeros_like(direction), options_.norm);
  return (x + options_.epsilon / 2 * direction / per_sample(length, x)).clamp_(0, 1);
}

at::Tensor Fab::search(const Batch& batch, const at::Tensor& targets, at::Tensor z, const std::function<void()>& step) const {
  const at::Tensor& x = batch.images;
  const Loss difference = [&](const at::Tensor& logits) {
    return (logits.gather(1, targets.unsqueeze(1)) - logits.gather(1, batch.labels.unsqueeze(1))).squeeze(1);
  };
  at::Tensor best = x, nearest = at::full({batch.size()}, std::numeric_limits<double>::infinity(), x.options());
  for (int64_t i = 0; i < options_.steps; ++i) {
    const Batch::Gradient at_z = batch.gradient(z, difference);
    at::Tensor bad;  // none: batch.gradient looks, or will, and the step leaves such rows alone
    ops::fab_step_(z, x, at_z.grad, at_z.loss.to(x.scalar_type()), options_.norm == Norm::L2, options_.eta, options_.alpha_max, bad);
    const at::Tensor fooled = batch.fooled(batch.logits(z)), away = distance(z, x, options_.norm), better = fooled.logical_and(away.lt(nearest));
    best = at::where(per_sample(better, x), z, best);
    nearest = at::where(better, away, nearest);
    z = at::where(per_sample(fooled, x), x + (z - x) * options_.beta, z);
    step();
  }
  return best;
}

}  // namespace a_infonce::attack

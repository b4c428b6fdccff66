#include "attack/carlini_wagner.h"
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <algorithm>
#include <cmath>
#include <memory>
#include "attack/distance.h"
#include "error.h"

namespace a_infonce::attack {
namespace {

constexpr double INFINITE = std::numeric_limits<double>::infinity();
constexpr double TANH_RANGE = 0.999999;  // keeps black and white pixels at finite w, as in the authors' code

}  // namespace

CarliniWagner::CarliniWagner(const CarliniWagnerOptions& options) : options_(options) {
  const auto positive = [](const char* name, double value) {
    require_range(std::isfinite(value) && value > 0, name, "a finite number above 0", std::to_string(value));
  };
  require_range(options.epsilon >= 0, "epsilon", "a number of at least 0", std::to_string(options.epsilon));
  require_range(options.steps >= 1, "steps", "an integer of at least 1", std::to_string(options.steps));
  require_range(options.search_steps >= 1, "search_steps", "an integer of at least 1", std::to_string(options.search_steps));
  require_range(std::isfinite(options.confidence) && options.confidence >= 0, "confidence", "a finite number of at least 0",
                std::to_string(options.confidence));
  positive("initial_c", options.initial_c);
  positive("learning_rate", options.learning_rate);
}

/// The nearest adversaries so far of the samples of a batch, and their distances.
struct CarliniWagner::Nearest {
  at::Tensor adversaries, distance;
};

at::Tensor CarliniWagner::run(const Batch& batch, const std::function<void()>& step) const {
  at::Tensor adversaries = batch.images.clone();
  if (batch.size() == 0) return adversaries;
  // Nothing is nearer than an image that does it already.
  const at::Tensor rows = split(succeeded(batch, batch.logits(batch.images))).stay;
  const Batch standing = batch.select(rows);
  const auto options = standing.images.options();
  Nearest found{standing.images.clone(), at::full({rows.size(0)}, INFINITE, options)};
  at::Tensor c = at::full({rows.size(0)}, options_.initial_c, options), lower = at::zeros_like(c), upper = at::full_like(c, INFINITE);
  for (int64_t search = 0; search < options_.search_steps && rows.size(0) > 0; ++search) {
    if (search == options_.search_steps - 1 && options_.search_steps >= 10) c = upper.clamp_max(1e10);
    const at::Tensor success = descend(standing, c, found, step);
    upper = at::where(success, c, upper);
    lower = at::where(success, lower, c);
    c = at::where(upper.isinf(), c * 10, (lower + upper) / 2);
  }
  const at::Tensor within_ball = within(found.adversaries, standing.images, Norm::L2, options_.epsilon);
  return adversaries.index_copy_(0, rows, at::where(per_sample(within_ball, standing.images), found.adversaries, standing.images));
}

at::Tensor CarliniWagner::succeeded(const Batch& batch, const at::Tensor& logits) const {
  const at::Tensor label = batch.labels.unsqueeze(1);
  const at::Tensor handicap = at::full_like(label, options_.targeted ? -options_.confidence : options_.confidence, logits.options());
  const at::Tensor reached = logits.scatter_add(1, label, handicap).argmax(1).eq(batch.labels);
  return options_.targeted ? reached : reached.logical_not();
}

at::Tensor CarliniWagner::hinge(const Batch& batch, const at::Tensor& logits) const {
  const at::Tensor label = batch.labels.unsqueeze(1);
  const at::Tensor other = logits.detach().scatter(1, label, -INFINITE).argmax(1, true);
  const at::Tensor margin = (logits.gather(1, label) - logits.gather(1, other)).squeeze(1);
  return ((options_.targeted ? -margin : margin) + options_.confidence).clamp_min(0);
}

at::Tensor CarliniWagner::descend(const Batch& batch, const at::Tensor& given_c, Nearest& nearest, const std::function<void()>& step) const {
  at::Tensor success = at::zeros({batch.size()}, batch.labels.options().dtype(at::kBool));
  at::Tensor rows = at::arange(batch.size(), batch.labels.options()), c = given_c, previous = at::full_like(c, INFINITE);
  auto active = std::make_unique<const Batch>(batch);
  at::Tensor w = ((2 * batch.images - 1) * TANH_RANGE).atanh(), image = w.tanh() / 2 + 0.5;
  at::Tensor first = at::zeros_like(w), second = at::zeros_like(w);  // Adam's moments
  const int64_t check = (options_.steps + 9) / 10;
  for (int64_t i = 0; i < options_.steps; ++i) {
    const at::Tensor t = w.tanh(), x_adv = t / 2 + 0.5, change = x_adv - image;
    const Batch::Gradient at_w = active->gradient(x_adv, [&](const at::Tensor& logits) { return hinge(*active, logits) * c; });
    const at::Tensor grad = (at_w.grad + 2 * change) * (1 - t * t) / 2;
    first = 0.9 * first + 0.1 * grad;
    second = 0.999 * second + 0.001 * grad * grad;
    const double bias1 = 1 - std::pow(0.9, i + 1), bias2 = 1 - std::pow(0.999, i + 1);
    w = w - options_.learning_rate * (first / bias1) / ((second / bias2).sqrt() + 1e-8);
    step();

    at::Tensor kept;  // who goes on
    if (options_.abort_early && i % check == 0) {
      const at::Tensor loss = at_w.loss + change.square().flatten(1).sum(1);
      kept = loss.le(0.9999 * previous);
      previous = loss;
    }
    const at::Tensor away = distance(x_adv, active->images, Norm::L2);
    at::Tensor hit = succeeded(*active, at_w.logits);
    if (kept.defined()) hit = hit.logical_and(kept);
    success.index_copy_(0, rows, success.index_select(0, rows).logical_or(hit));
    const at::Tensor before = nearest.distance.index_select(0, rows), closer = hit.logical_and(away.lt(before));
    nearest.adversaries.index_copy_(0, rows, at::where(per_sample(closer, x_adv), x_adv, nearest.adversaries.index_select(0, rows)));
    nearest.distance.index_copy_(0, rows, at::where(closer, away, before));

    if (!kept.defined()) continue;
    const auto [left, gone] = split(kept.logical_not());
    if (gone.size(0) == 0) continue;
    if (left.size(0) == 0) break;
    for (at::Tensor* state : {&rows, &c, &previous, &w, &image, &first, &second}) *state = state->index_select(0, left);
    active = std::make_unique<const Batch>(active->select(left));
  }
  return success;
}

}  // namespace a_infonce::attack

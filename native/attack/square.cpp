#include "attack/square.h"
#include <ATen/ops/where.h>
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include "attack/distance.h"
#include "error.h"
#include "ops/square.h"

namespace a_infonce::attack {
namespace {

/// The label's logit less the highest of the others.
at::Tensor margin(const Batch& batch, const at::Tensor& logits) {
  const at::Tensor label = batch.labels.unsqueeze(1);
  return (logits.gather(1, label) - logits.scatter(1, label, -std::numeric_limits<double>::infinity()).amax(1, true)).squeeze(1);
}

}  // namespace

Square::Square(const SquareOptions& options) : options_(options) {
  require_range(std::isfinite(options.epsilon) && options.epsilon >= 0, "epsilon", "a finite number of at least 0", std::to_string(options.epsilon));
  require_range(options.queries >= 0, "queries", "an integer of at least 0", std::to_string(options.queries));
  require_range(options.restarts >= 1, "restarts", "an integer of at least 1", std::to_string(options.restarts));
  require_range(options.p_init > 0 && options.p_init <= 1, "p_init", "a number above 0, at most 1", std::to_string(options.p_init));
}

at::Tensor Square::run(const Batch& batch, const std::function<void()>& step) const {
  at::Tensor adversaries = batch.images.clone();
  if (batch.size() == 0) return adversaries;
  at::Tensor rows = split(batch.fooled(batch.logits(batch.images))).stay;
  for (int64_t restart = 0; restart < options_.restarts && rows.size(0) > 0; ++restart) {
    auto standing = std::make_unique<const Batch>(batch.select(rows));
    at::Tensor best = start(*standing, restart), logits = standing->logits(best), lowest = margin(*standing, logits), fooled = standing->fooled(logits);
    for (int64_t query = 0;; ++query) {
      if (const auto [left, won] = split(fooled); won.size(0) > 0) {
        adversaries.index_copy_(0, rows.index_select(0, won), best.index_select(0, won));
        rows = rows.index_select(0, left), best = best.index_select(0, left), lowest = lowest.index_select(0, left);
        standing = std::make_unique<const Batch>(standing->select(left));
      }
      if (query == options_.queries || rows.size(0) == 0) break;
      const at::Tensor proposal = propose(*standing, best, restart, query);
      logits = standing->logits(proposal), fooled = standing->fooled(logits);
      const at::Tensor reached = margin(*standing, logits), better = reached.lt(lowest).logical_or_(fooled);
      best = at::where(per_sample(better, best), proposal, best);
      lowest = at::where(better, reached, lowest);
      step();
    }
  }
  return adversaries;
}

at::Tensor Square::start(const Batch& batch, int64_t restart) const {
  const at::Tensor& x = batch.images;
  require_range(x.dim() == 4, "images", "shape [N, C, H, W]", typed_shape(x));
  const bool l2 = options_.norm == Norm::L2;
  const at::Tensor u = batch.uniform(options_.seed, restart, 0, l2 ? ops::square_start_l2_numbers(x) : x.size(1) * x.size(3));
  return (l2 ? ops::square_start_l2 : ops::square_start_linf)(x, u, options_.epsilon);
}

at::Tensor Square::propose(const Batch& batch, const at::Tensor& best, int64_t restart, int64_t query) const {
  const at::Tensor& x = batch.images;
  const bool l2 = options_.norm == Norm::L2;
  const at::Tensor u = batch.uniform(options_.seed, restart, query + 1, (l2 ? 5 : 2) + x.size(1));
  return (l2 ? ops::square_step_l2 : ops::square_step_linf)(best, x, u, options_.epsilon, side(x, query));
}

int64_t Square::side(const at::Tensor& images, int64_t query) const {
  const auto place = options_.rescale_schedule ? static_cast<int64_t>(static_cast<double>(query) / static_cast<double>(options_.queries) * 10000) : query;
  double p = options_.p_init;
  for (const int64_t after : {10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000})
    if (place > after) p /= 2;
  const int64_t most = std::min(images.size(2), images.size(3));
  const auto side = static_cast<int64_t>(std::nearbyint(std::sqrt(p * static_cast<double>(images.size(2) * images.size(3)))));
  if (options_.norm == Norm::Linf) return std::clamp<int64_t>(side, 1, most);
  return std::min(std::max<int64_t>(side, 3) | 1, most);  // odd, so that a tile has a centre
}

}  // namespace a_infonce::attack

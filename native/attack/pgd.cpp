#include "attack/pgd.h"
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/where.h>
#include <algorithm>
#include <cmath>
#include <vector>
#include "attack/climb.h"
#include "error.h"
#include "nn/network.h"
#include "objective/a_infonce.h"
#include "ops/backend.h"
#include "ops/deferred.h"
#include "ops/image_checks.h"
#include "ops/perturbation.h"
#include "transfer.h"

namespace a_infonce::attack {
namespace {

void check(const at::Tensor& images, const PgdOptions& options) {
  require_images(images);
  require_range(std::isfinite(options.epsilon) && options.epsilon >= 0, "epsilon", "a finite number of at least 0", std::to_string(options.epsilon));
  require_range(std::isfinite(options.step_size) && options.step_size >= 0, "step_size", "a finite number of at least 0",
                std::to_string(options.step_size));
  require_range(std::isfinite(options.momentum) && options.momentum >= 0, "momentum", "a finite number of at least 0", std::to_string(options.momentum));
  require_range(options.steps >= 0, "steps", "an integer of at least 0", std::to_string(options.steps));
  require_range(options.restarts >= 1, "restarts", "an integer of at least 1", std::to_string(options.restarts));
  require_range(options.batch_size >= 0, "batch_size", "an integer of at least 0", std::to_string(options.batch_size));
  if (options.samples.defined()) require_samples(options.samples, images);
  if (options.start.defined()) ops::require_like("start", options.start, images);
  if (!options.graph) return;
  const c10::Device device = options.device.value_or(images.device());
  require_range(ops::backend(device.type()) != nullptr, "options.graph", "false on " + device.str() + " (graphs are of CUDA devices)", "true");
  require_range(!options.early_stop, "options.graph", "false with earlyStop, which waits for every step", "true");
  require_range(!options.train_mode, "options.graph", "false with trainMode", "true");
  require_range(!nn::Bfloat16::active(), "options.graph", "false in bfloat16, of whose weights a step of training keeps copies", "true");
}

/// One batch: the loop over restarts and steps.
class Ascent {
 public:
  Ascent(const Objective& objective, const PgdOptions& options, Climb& climb, Part whole) : objective_(objective), options_(options), climb_(climb), whole_(std::move(whole)) {}

  at::Tensor run(const std::function<void(int64_t)>& stepped) {
    if (options_.restarts == 1) best_ = climb(whole_, 0, stepped);
    else climb_again(stepped);
    checks_.hand_over();
    return best_;
  }

 private:
  void climb_again(const std::function<void(int64_t)>& stepped) {
    const at::Tensor all = at::arange(whole_.size(), whole_.samples.options());
    for (int64_t restart = 0; restart < options_.restarts; ++restart) {
      const bool leave = fooled_.defined() && !options_.train_mode;
      at::Tensor standing = leave ? split(fooled_).stay : all;
      if (standing.numel() == 0) {
        stepped((options_.restarts - restart) * options_.steps);
        break;
      }
      if (climb_.by_graph()) standing = all;
      const Part part = standing.numel() == whole_.size() ? whole_ : whole_.select(standing);
      keep_worst(part, standing, climb(part, restart, stepped));
    }
  }

  at::Tensor start(const Part& part, int64_t restart) const {
    const auto seed = static_cast<int64_t>(options_.seed);
    if (part.start.defined()) return part.start.clone();
    if (!options_.random_start) return part.images.clone();
    return options_.norm == Norm::Linf ? ops::pgd_start_linf(part.images, part.samples, options_.epsilon, seed, restart, options_.clamp_start)
                                       : ops::pgd_start_l2(part.images, part.samples, options_.epsilon, seed, restart, options_.clamp_start);
  }

  at::Tensor climb(const Part& part, int64_t restart, const std::function<void(int64_t)>& stepped) {
    const bool waits = !ops::backend_of(part.images, "images");  // a device would be waited for at every step
    climb_.begin(part, start(part, restart));
    for (int64_t step = 0; step < options_.steps; ++step) {
      checks_.enter("step " + std::to_string(step + 1) + " of the attack");
      if (!climb_.step(checks_)) {
        stepped(options_.steps - step);
        break;
      }
      if (waits) check_finite(), checks_.settle();
      stepped(1);
    }
    check_finite();
    if (climb_.by_graph()) checks_.settle();  // the next batch writes to what is checked
    return climb_.by_graph() ? climb_.x_adv().clone() : climb_.x_adv();
  }

  void check_finite() {
    checks_.enter("");
    climb_.check_finite();
  }

  /// `standing`: the rows of the batch that the part holds.
  void keep_worst(const Part& part, const at::Tensor& standing, at::Tensor x_adv) {
    const at::NoGradGuard no_grad;
    checks_.enter("the end of the attack");
    const Outcome outcome = outcome_of(objective_, part, x_adv);
    const at::Tensor loss = outcome.loss.detach().expand({part.size()}).contiguous();
    checks_.enter("");
    ops::DeferredChecks::add(loss, [rows = part.rows](const at::Tensor& here) {
      if (const int64_t row = first_non_finite(here); row >= 0) throw Error(ErrorKind::NonFinite, "the loss of " + rows.name(row) + " is NaN or infinite");
    });
    if (!best_.defined()) {
      best_ = std::move(x_adv), loss_ = loss, fooled_ = outcome.fooled;
      return;
    }
    const at::Tensor best = best_.index_select(0, standing), before = loss_.index_select(0, standing);
    at::Tensor better = loss.gt(before);
    if (fooled_.defined()) {
      const at::Tensor fooled = fooled_.index_select(0, standing);
      better = fooled.logical_not().logical_and(better.logical_or(outcome.fooled));
      fooled_.index_copy_(0, standing, fooled.logical_or(outcome.fooled));
    }
    best_.index_copy_(0, standing, at::where(per_sample(better, best), x_adv, best));
    loss_ = loss_.index_copy(0, standing, at::where(better, loss, before));  // the one before is looked at later
  }

  const Objective& objective_;
  const PgdOptions& options_;
  Climb& climb_;
  const Part whole_;
  at::Tensor best_, loss_, fooled_;
  ops::DeferredChecks checks_;
};

/// `climb_of` a batch of these images.
at::Tensor ascend(const Goal& goal, const at::Tensor& images, const PgdOptions& options, const StepCallback& step, const std::function<Climb&(const at::Tensor& images)>& climb_of) {
  const at::NoGradGuard no_grad;
  const c10::Device device = options.device.value_or(images.device());
  const at::Tensor x = images.detach().contiguous();
  const int64_t n = x.size(0), batch = options.batch_size == 0 ? n : options.batch_size;
  const at::Tensor samples = options.samples.defined() ? brought(options.samples, device) : at::arange(n, at::dtype(at::kLong).device(device));
  const int64_t total = n == 0 ? 0 : (n + batch - 1) / batch * options.restarts * options.steps;
  int64_t done = 0;
  const auto stepped = [&](int64_t steps) {
    done += steps;
    if (step) step(done, total);
  };
  const bool whole = n > 0 && n <= batch;
  at::Tensor adversaries = whole ? at::Tensor() : at::empty_like(x);
  for_batches(n, batch, [&](int64_t begin, int64_t end) {
    const auto there = [&](const at::Tensor& all) { return brought(all.slice(0, begin, end), device); };
    const at::Tensor start = options.start.defined() ? there(options.start.detach()).contiguous() : at::Tensor();
    const Rows rows{at::arange(begin, end, at::dtype(at::kLong).device(device)), begin, goal.targets ? goal.targets(begin, end) : at::Tensor(), goal.highest};
    const Part part{there(x), samples.slice(0, begin, end), start, rows};
    const at::Tensor found = Ascent(goal.objective, options, climb_of(part.images), part).run(stepped);
    if (whole) adversaries = found.to(x.device());
    else adversaries.slice(0, begin, end).copy_(found);
  });
  return adversaries;
}

/// On a model that has the mode of the attack, where it is. `step`: of the recorded ones, without the batch.
at::Tensor ascend(nn::Model& model, const Goal& goal, const at::Tensor& images, const PgdOptions& options, const StepCallback& stepped, RecordedClimbs::Step step) {
  if (!options.graph) return pgd(goal, images, options, stepped);
  check(images, options);
  const auto of = [&](at::IntArrayRef sizes) {
    step.sizes = sizes.vec();
    return step;
  };
  std::vector<RecordedClimbs::Step> steps;
  for_batches(images.size(0), options.batch_size, [&](int64_t begin, int64_t end) {
    const auto found = of(images.slice(0, begin, end).sizes());
    if (std::ranges::find(steps, found) == steps.end()) steps.push_back(found);
  });
  try {
    auto& recorded = RecordedClimbs::of(model, *options.device, steps);
    at::Tensor adversaries;
    recorded.run([&] { adversaries = ascend(goal, images, options, stepped, [&](const at::Tensor& batch) -> Climb& { return recorded.climb(of(batch.sizes()), goal.objective); }); });
    recorded.drop_unrecorded();
    return adversaries.is_cpu() ? adversaries : adversaries.clone();  // memory of the caller's stream: the recorder's is written again as soon as it is free
  } catch (...) {
    model.recorded.reset();  // what an error leaves is not to be relied on
    throw;
  }
}

PgdOptions where_it_is(const nn::Model& model, PgdOptions options, const at::Tensor& images) {
  options.device = device_of(model, images);
  return options;
}

}  // namespace

at::Tensor pgd(const Goal& goal, const at::Tensor& images, const PgdOptions& options, const StepCallback& step) {
  check(images, options);
  Climb climb(goal.objective, options);
  return ascend(goal, images, options, step, [&](const at::Tensor&) -> Climb& { return climb; });
}

Goal cross_entropy(nn::Model& model, at::Tensor labels, int64_t highest, bool targeted) {
  const auto objective = [&model, targeted](const at::Tensor& x_adv, const Rows& rows) -> Outcome {
    const at::Tensor logits = logits_of(model, x_adv);
    require_classes(rows.highest, logits);
    const at::Tensor loss = at::cross_entropy_loss(logits, rows.targets, {}, /*reduction none=*/0);
    const at::Tensor predicted = logits.detach().argmax(1);
    return targeted ? Outcome(-loss, predicted.eq(rows.targets)) : Outcome(loss, predicted.ne(rows.targets));
  };
  return {objective, [labels = std::move(labels)](int64_t begin, int64_t end) { return labels.slice(0, begin, end); }, highest};
}

Goal contrastive(nn::Model& model, at::Tensor positives, c10::Device device, double temperature) {
  const auto embed = [&model](const at::Tensor& images) {
    const at::Tensor output = nn::embedding(model, images);
    require_range(output.dim() == 2 && output.size(0) == images.size(0) && output.is_floating_point(), "model",
                  "floating-point embeddings [" + std::to_string(images.size(0)) + ", length]", typed_shape(output));
    return output;
  };
  const auto known = [embed](const at::Tensor& images) {
    const at::NoGradGuard no_grad;
    return embed(images);
  };
  objective::Options options;
  options.form = objective::Form::RoCL;
  options.temperature = temperature;
  // In train mode the positives are embedded anew at each step.
  const auto objective = [&model, embed, known, options](const at::Tensor& x_adv, const Rows& rows) -> Outcome {
    const at::Tensor fixed = model.training() ? known(rows.targets) : rows.targets;
    return a_infonce(at::cat({embed(x_adv), fixed}), options);
  };
  return {objective, [&model, known, device, positives = std::move(positives)](int64_t begin, int64_t end) {
            const at::Tensor images = brought(positives.slice(0, begin, end).detach(), device);
            return model.training() ? images : known(images);
          }};
}

at::Tensor pgd(nn::Model& model, const at::Tensor& images, const at::Tensor& labels, bool targeted, const PgdOptions& options,
               const StepCallback& step) {
  const int64_t highest = require_labelled(images, labels);
  const nn::ModeGuard mode(model, options.train_mode);
  const PgdOptions there = where_it_is(model, options, images);
  return ascend(model, cross_entropy(model, brought(labels, *there.device), highest, targeted), images, there, step,
                {there, targeted ? "targeted cross-entropy" : "cross-entropy", 0, images.scalar_type(), {}});
}

at::Tensor pgd_contrastive(nn::Model& model, const at::Tensor& images, const at::Tensor& positives, double temperature, const PgdOptions& options,
                           const StepCallback& step) {
  if (positives.scalar_type() != images.scalar_type() || positives.sizes() != images.sizes())
    throw Error(ErrorKind::ArgumentRange, "positives", typed_shape(images), typed_shape(positives));
  require_unit_range(images);
  const nn::ModeGuard mode(model, options.train_mode);
  const PgdOptions there = where_it_is(model, options, images);
  return ascend(model, contrastive(model, positives, *there.device, temperature), images, there, step, {there, "contrastive", temperature, images.scalar_type(), {}});
}

}  // namespace a_infonce::attack

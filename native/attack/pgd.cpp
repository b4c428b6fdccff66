#include "attack/pgd.h"
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/where.h>
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>
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
}

/// Samples that are attacked together.
struct Part {
  at::Tensor images, samples, start;  // start: undefined for a random one
  Rows rows;
  Part select(const at::Tensor& which) const {
    return {images.index_select(0, which), samples.index_select(0, which), start.defined() ? start.index_select(0, which) : start, {rows.numbers.index_select(0, which), rows.first}};
  }
  int64_t size() const { return images.size(0); }
};

Outcome outcome_of(const Objective& objective, const Part& part, const at::Tensor& x_adv) {
  Outcome outcome = objective(x_adv, part.rows);
  const at::Tensor& loss = outcome.loss;
  require_range(loss.dim() == 0 || (loss.dim() == 1 && loss.size(0) == part.size()), "objective",
                "a loss of shape [" + std::to_string(part.size()) + "] or a scalar", typed_shape(loss));
  return outcome;
}

/// Steps from a start. With a graph its tensors are those of all batches of its size.
class Climb {
 public:
  Climb(const Objective& objective, const PgdOptions& options) : objective_(objective), options_(options) {}

  /// At a start, which is the climb's from now on.
  void begin(const Part& part, const at::Tensor& start) {
    if (!graph_ || part.size() != part_.size()) {
      graph_.reset(), recorded_.clear(), direction_.reset(), bad_.reset();
      part_ = part, x_adv_ = start;
      if (options_.graph) part_.images = part.images.clone();  // the batches to come are copied there
      return;
    }
    part_.images.copy_(part.images), part_.rows.numbers.copy_(part.rows.numbers), x_adv_.copy_(start);
    part_.rows.first = part.rows.first;
    for (const at::Tensor& each : {direction_, bad_})
      if (each.defined()) each.zero_();
  }
  /// False, and no step, where all are fooled and that is enough.
  bool step() {
    const auto [grad, fooled] = gradient();
    if (options_.early_stop && fooled.defined() && fooled.all().item<bool>()) return false;
    if (options_.momentum != 0) accumulate(grad);
    const at::Tensor& direction = options_.momentum == 0 ? grad : direction_;
    if (options_.norm == Norm::Linf) ops::pgd_step_linf_(x_adv_, direction, part_.images, options_.epsilon, options_.step_size, options_.clamp_then_project, bad_);
    else ops::pgd_step_l2_(x_adv_, direction, part_.images, options_.epsilon, options_.step_size, options_.clamp_then_project, bad_);
    return true;
  }
  /// `done` steps of this batch were taken. Recorded are steps after the first ones, in which libraries set up what they need and TorchScript compiles.
  void step_by_graph(int64_t done, ops::DeferredChecks& checks) {
    if (done < (graph_ ? 1 : first_steps)) {
      step();
      return;
    }
    if (!graph_) {
      const size_t before = checks.size();
      graph_ = ops::backend_of(x_adv_, "images")->record(tensors(), [this] { step(); });
      recorded_ = checks.take(before);
    }
    graph_->replay(tensors());
    checks.add_copies(recorded_);
  }
  void check_finite() const {
    if (!bad_.defined()) return;
    ops::DeferredChecks::add(bad_, [rows = part_.rows](const at::Tensor& bad) {
      if (const at::Tensor found = bad.nonzero(); found.numel() > 0) throw Error(ErrorKind::NonFinite, "the gradient of " + rows.name(found[0][0].item<int64_t>()) + " is NaN or infinite");
    });
  }
  const at::Tensor& x_adv() const { return x_adv_; }

 private:
  static constexpr int64_t first_steps = 3;  // as torch.cuda.make_graphed_callables takes

  /// Of a step.
  std::vector<at::Tensor> tensors() const { return {x_adv_, part_.images, part_.rows.numbers, direction_, bad_}; }
  /// Gradient of the summed loss, and who is fooled. The graph of autograd is gone when it returns.
  std::pair<at::Tensor, at::Tensor> gradient() const {
    const at::AutoGradMode grad_mode(true);
    const at::Tensor leaf = x_adv_.detach().requires_grad_(true);
    const Outcome outcome = outcome_of(objective_, part_, leaf);
    return {input_gradient(outcome.loss, leaf), outcome.fooled};
  }
  /// direction <- momentum * direction + grad / |grad|_1, of each sample; |grad|_1 = 0 adds nothing.
  void accumulate(const at::Tensor& grad) {
    const at::Tensor length = grad.flatten(1).abs().sum(1);
    const at::Tensor unit = grad / per_sample(at::where(length.eq(0), at::ones_like(length), length), grad);
    if (direction_.defined()) direction_.mul_(options_.momentum).add_(unit);
    else direction_ = unit;
  }

  const Objective& objective_;
  const PgdOptions& options_;
  Part part_;
  at::Tensor x_adv_, direction_, bad_;
  std::vector<ops::DeferredChecks::Found> recorded_;
  std::unique_ptr<ops::Graph> graph_;
};

/// One batch: the loop over restarts and steps.
class Ascent {
 public:
  Ascent(const Objective& objective, const PgdOptions& options, Climb& climb, Part whole) : objective_(objective), options_(options), climb_(climb), whole_(std::move(whole)) {}

  at::Tensor run(const std::function<void(int64_t)>& stepped) {
    if (options_.restarts == 1) return climb(whole_, 0, stepped);
    const at::Tensor all = at::arange(whole_.size(), whole_.samples.options());
    for (int64_t restart = 0; restart < options_.restarts; ++restart) {
      const bool leave = fooled_.defined() && !options_.train_mode;
      at::Tensor standing = leave ? rows_of(fooled_.logical_not()) : all;
      if (standing.numel() == 0) {
        stepped((options_.restarts - restart) * options_.steps);
        break;
      }
      if (options_.graph) standing = all;
      const Part part = standing.numel() == whole_.size() ? whole_ : whole_.select(standing);
      keep_worst(part, standing, climb(part, restart, stepped));
    }
    return best_;
  }

 private:
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
      if (options_.graph) climb_.step_by_graph(step, checks_);
      else if (!climb_.step()) {
        stepped(options_.steps - step);
        break;
      }
      if (waits) check_finite(), checks_.settle();
      stepped(1);
    }
    check_finite();
    if (options_.graph) checks_.settle();  // the next batch writes to what is checked
    else if (options_.restarts == 1) checks_.hand_over();
    return options_.graph ? climb_.x_adv().clone() : climb_.x_adv();
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
    checks_.settle();
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
    loss_.index_copy_(0, standing, at::where(better, loss, before));
  }

  const Objective& objective_;
  const PgdOptions& options_;
  Climb& climb_;
  const Part whole_;
  at::Tensor best_, loss_, fooled_;
  ops::DeferredChecks checks_;
};

}  // namespace

at::Tensor pgd(const Objective& objective, const at::Tensor& images, const PgdOptions& options, const StepCallback& step) {
  check(images, options);
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
  const auto run = [&] {
    Climb climb(objective, options);
    for_batches(n, batch, [&](int64_t begin, int64_t end) {
      const auto there = [&](const at::Tensor& all) { return brought(all.slice(0, begin, end), device); };
      const at::Tensor start = options.start.defined() ? there(options.start.detach()).contiguous() : at::Tensor();
      const Part part{there(x), samples.slice(0, begin, end), start, {at::arange(begin, end, at::dtype(at::kLong).device(device)), begin}};
      const at::Tensor found = Ascent(objective, options, climb, part).run(stepped);
      if (whole) adversaries = found.to(x.device());
      else adversaries.slice(0, begin, end).copy_(found);
    });
  };
  if (!options.graph) run();
  else ops::backend(device.type())->on_own_stream(at::empty({0}, at::device(device)), run);
  return adversaries;
}

Objective cross_entropy(nn::Model& model, at::Tensor labels, int64_t highest, bool targeted) {
  return [&model, labels = std::move(labels), highest, targeted](const at::Tensor& x_adv, const Rows& rows) -> Outcome {
    const at::Tensor logits = logits_of(model, x_adv);
    require_classes(highest, logits);
    const at::Tensor wanted = labels.index_select(0, rows.numbers);
    const at::Tensor loss = at::cross_entropy_loss(logits, wanted, {}, /*reduction none=*/0);
    const at::Tensor predicted = logits.detach().argmax(1);
    return targeted ? Outcome(-loss, predicted.eq(wanted)) : Outcome(loss, predicted.ne(wanted));
  };
}

Objective contrastive(nn::Model& model, at::Tensor positives, double temperature) {
  const auto embed = [&model](const at::Tensor& images) {
    const at::Tensor output = nn::embedding(model, images);
    require_range(output.dim() == 2 && output.size(0) == images.size(0) && output.is_floating_point(), "model",
                  "floating-point embeddings [" + std::to_string(images.size(0)) + ", length]", typed_shape(output));
    return output;
  };
  objective::Options options;
  options.form = objective::Form::RoCL;
  options.temperature = temperature;
  // Of the batch last seen: an attack goes through the batches one after the other.
  return [&model, embed, options, positives = std::move(positives), known = at::Tensor(), known_first = int64_t{0}](const at::Tensor& x_adv, int64_t first) mutable -> Outcome {
    if (model.training() || !known.defined() || known_first != first || known.size(0) != x_adv.size(0)) {
      const at::NoGradGuard no_grad;
      const at::Tensor embedded = embed(brought(positives.slice(0, first, first + x_adv.size(0)).detach(), x_adv.device()));
      if (known.defined() && known.sizes() == embedded.sizes()) known.copy_(embedded);  // where a graph of the steps reads it
      else known = embedded;
      known_first = first;
    }
    return a_infonce(at::cat({embed(x_adv), known}), options);
  };
}

namespace {
PgdOptions where_it_is(const nn::Model& model, PgdOptions options, const at::Tensor& images) {
  options.device = device_of(model, images);
  return options;
}
}  // namespace

at::Tensor pgd(nn::Model& model, const at::Tensor& images, const at::Tensor& labels, bool targeted, const PgdOptions& options,
               const StepCallback& step) {
  const int64_t highest = require_labelled(images, labels);
  const nn::ModeGuard mode(model, options.train_mode);
  const PgdOptions there = where_it_is(model, options, images);
  return pgd(cross_entropy(model, brought(labels, *there.device), highest, targeted), images, there, step);
}

at::Tensor pgd_contrastive(nn::Model& model, const at::Tensor& images, const at::Tensor& positives, double temperature, const PgdOptions& options,
                           const StepCallback& step) {
  if (positives.scalar_type() != images.scalar_type() || positives.sizes() != images.sizes())
    throw Error(ErrorKind::ArgumentRange, "positives", typed_shape(images), typed_shape(positives));
  require_unit_range(images);
  const nn::ModeGuard mode(model, options.train_mode);
  return pgd(contrastive(model, positives, temperature), images, where_it_is(model, options, images), step);
}

}  // namespace a_infonce::attack

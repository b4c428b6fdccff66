#include "attack/climb.h"
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/where.h>
#include <algorithm>
#include "device.h"
#include "error.h"
#include "ops/image_checks.h"
#include "ops/perturbation.h"

namespace a_infonce::attack {

Part Part::select(const at::Tensor& which) const {
  const auto of = [&](const at::Tensor& all) { return all.defined() ? all.index_select(0, which) : all; };
  return {of(images), of(samples), of(start), {of(rows.numbers), rows.first, of(rows.targets), rows.highest}};
}

Outcome outcome_of(const Objective& objective, const Part& part, const at::Tensor& x_adv) {
  Outcome outcome = objective(x_adv, part.rows);
  const at::Tensor& loss = outcome.loss;
  require_range(loss.dim() == 0 || (loss.dim() == 1 && loss.size(0) == part.size()), "objective",
                "a loss of shape [" + std::to_string(part.size()) + "] or a scalar", typed_shape(loss));
  return outcome;
}

void Climb::begin(const Part& part, const at::Tensor& start) {
  if (!owner_ || !x_adv_.defined()) {
    part_ = part, x_adv_ = start, direction_.reset(), bad_.reset();
    if (owner_) part_.images = part.images.clone(), part_.rows.targets = part.rows.targets.clone();  // the batches to come are copied there
    return;
  }
  part_.images.copy_(part.images), part_.rows.targets.copy_(part.rows.targets), x_adv_.copy_(start);
  part_.rows.numbers = part.rows.numbers, part_.rows.first = part.rows.first, part_.rows.highest = part.rows.highest;
  for (const at::Tensor& each : {direction_, bad_})
    if (each.defined()) each.zero_();
}

bool Climb::take() {
  const auto [grad, fooled] = gradient();
  if (options_.early_stop && fooled.defined() && fooled.all().item<bool>()) return false;
  if (options_.momentum != 0) accumulate(grad);
  const at::Tensor& direction = options_.momentum == 0 ? grad : direction_;
  if (options_.norm == Norm::Linf) ops::pgd_step_linf_(x_adv_, direction, part_.images, options_.epsilon, options_.step_size, options_.clamp_then_project, bad_);
  else ops::pgd_step_l2_(x_adv_, direction, part_.images, options_.epsilon, options_.step_size, options_.clamp_then_project, bad_);
  return true;
}

bool Climb::step(ops::DeferredChecks& checks) {
  if (!owner_) return take();
  // Whether a class higher than those before is one of the model's, a step without the graph finds out.
  if (taken_ < first_steps || part_.rows.highest > highest_) {
    ++taken_, highest_ = std::max(highest_, part_.rows.highest);
    return take();
  }
  if (!graph_) {
    const size_t before = checks.size();
    graph_ = owner_->record(tensors(), [this] { take(); });
    found_ = checks.take(before);
  }
  graph_->replay(tensors());
  checks.add_copies(found_);
  return true;
}

void Climb::check_finite() const {
  if (!bad_.defined()) return;
  ops::DeferredChecks::add(bad_, [rows = part_.rows](const at::Tensor& bad) {
    if (const at::Tensor found = bad.nonzero(); found.numel() > 0) throw Error(ErrorKind::NonFinite, "the gradient of " + rows.name(found[0][0].item<int64_t>()) + " is NaN or infinite");
  });
}

std::pair<at::Tensor, at::Tensor> Climb::gradient() const {
  const at::AutoGradMode grad_mode(true);
  const at::Tensor leaf = x_adv_.detach().requires_grad_(true);
  const Outcome outcome = outcome_of(objective_, part_, leaf);
  return {input_gradient(outcome.loss, leaf), outcome.fooled};
}

void Climb::accumulate(const at::Tensor& grad) {
  const at::Tensor length = grad.flatten(1).abs().sum(1);
  const at::Tensor unit = grad / per_sample(at::where(length.eq(0), at::ones_like(length), length), grad);
  if (direction_.defined()) direction_.mul_(options_.momentum).add_(unit);
  else direction_ = unit;
}

RecordedClimbs::Circumstances RecordedClimbs::Circumstances::of(const nn::Model& model, c10::Device device) {
  Circumstances found{device, allows_tf32(), {}};
  for (const auto& [name, tensor, parameter] : model.state()) found.tensors.push_back({tensor.const_data_ptr(), tensor.scalar_type(), tensor.sizes().vec(), tensor.strides().vec()});
  return found;
}

RecordedClimbs::RecordedClimbs(const nn::Model& model, Circumstances circumstances)
    : model_(model), circumstances_(std::move(circumstances)), recorder_(ops::backend(circumstances_.device.type())->recorder(circumstances_.device)) {}

RecordedClimbs& RecordedClimbs::of(nn::Model& model, c10::Device device, const std::vector<Step>& steps) {
  auto circumstances = Circumstances::of(model, device);
  auto* const before = dynamic_cast<RecordedClimbs*>(model.recorded.get());
  if (before && before->circumstances_ == circumstances) {
    const auto known = [&](const Step& step) { return std::ranges::any_of(before->climbs_, [&](const auto& climb) { return climb.first == step; }); };
    if (before->climbs_.size() + steps.size() - std::ranges::count_if(steps, known) <= most) return *before;
  }
  model.recorded.reset();  // its memory and its stream are free again
  auto* const made = new RecordedClimbs(model, std::move(circumstances));
  model.recorded.reset(made);
  return *made;
}

Climb& RecordedClimbs::climb(const Step& step, const Objective& objective) {
  for (const auto& [known, climb] : climbs_)
    if (known == step) return *climb;
  return *climbs_.emplace_back(step, std::make_unique<Climb>(objective, step.options, this)).second;
}

void RecordedClimbs::drop_unrecorded() {
  std::erase_if(climbs_, [](const auto& climb) { return !climb.second->recorded(); });
}

std::unique_ptr<ops::Graph> RecordedClimbs::record(std::vector<at::Tensor> tensors, const std::function<void()>& work) const {
  auto graph = recorder_->record(std::move(tensors), work);
  if (Circumstances::of(model_, circumstances_.device) == circumstances_) return graph;
  throw Error(ErrorKind::Operator, "a step cannot be recorded for a graph: the model replaces tensors of its own, or cuda.allowTF32 was changed meanwhile");
}

}  // namespace a_infonce::attack

#include "optimizer.h"
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <unordered_map>
#include "../describe.h"
#include "../error.h"
#include "../transfer.h"

namespace a_infonce::training {
namespace {

/// Of each tensor, float64 [tensors]: nothing waits for a device.
at::Tensor norms(const std::vector<at::Tensor>& tensors) { return at::stack(at::_foreach_norm(tensors)).to(at::kDouble); }

std::string shape(const at::Tensor& tensor) {
  return "shape " + shape_text(tensor.sizes());
}

}  // namespace

Optimizer::Optimizer(NamedTensors parameters, OptimizerOptions options) : parameters_(std::move(parameters)), options_(options) {
  momentum_.reserve(parameters_.size());
  // Zero is what torch.optim.SGD's first step (v = g) amounts to.
  for (const auto& [name, parameter] : parameters_) momentum_.emplace_back(name, at::zeros_like(parameter));
}

void Optimizer::step(double lr) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> weights, momenta, gradients;
  std::unordered_map<c10::Device, std::vector<at::Tensor>> moved;  // momenta of a model that was
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor& weight = parameters_[i].second;
    if (!weight.grad().defined()) continue;
    const at::Tensor& momentum = momentum_[i].second;
    if (momentum.device() != weight.device()) moved[weight.device()].push_back(momentum);
    weights.push_back(weight), momenta.push_back(momentum), gradients.push_back(weight.grad());
  }
  if (weights.empty()) return;
  for (const auto& [device, tensors] : moved) {
    const auto there = brought(tensors, device);
    for (size_t i = 0; i < tensors.size(); ++i) tensors[i].set_data(there[i]);
  }
  const bool inside = options_.lars && options_.lars->rate_in_momentum;
  std::vector<at::Tensor> rates;  // of LARS, with lr where that is in the momentum
  if (options_.lars) {
    const at::Tensor weight = norms(weights), gradient = norms(gradients);
    const at::Tensor rate = options_.lars->trust * weight / (gradient + options_.weight_decay * weight + options_.lars->epsilon);
    rates = (at::where(weight.gt(0).logical_and_(gradient.gt(0)), rate, at::ones_like(rate)) * (inside ? lr : 1)).unbind();
  }
  if (options_.weight_decay != 0) at::_foreach_add_(gradients, weights, options_.weight_decay);
  if (options_.lars) at::_foreach_mul_(gradients, rates);
  at::_foreach_mul_(momenta, options_.momentum);
  at::_foreach_add_(momenta, gradients);
  at::_foreach_add_(weights, momenta, inside ? -1 : -lr);
}

void Optimizer::zero_grad() {
  for (const auto& [name, parameter] : parameters_) parameter.mutable_grad().reset();
}

at::Tensor Optimizer::gradient_norm() const {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (const auto& [name, parameter] : parameters_)
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  return gradients.empty() ? at::zeros({}, parameters_.front().second.options().dtype(at::kDouble).requires_grad(false)) : norms(gradients).square_().sum().sqrt_();
}

void Optimizer::load_state(const NamedTensors& state) { copy_by_name(momentum_, state, "momentum"); }

void copy_by_name(const NamedTensors& target, const NamedTensors& source, const char* argument) {
  std::unordered_map<std::string, at::Tensor> given(source.begin(), source.end());
  for (const auto& [name, tensor] : target) {
    const auto found = given.find(name);
    const std::string where = std::string(argument) + "." + name;
    if (found == given.end()) throw Error(ErrorKind::ArgumentRange, where, shape(tensor), "nothing");
    require_range(found->second.sizes() == tensor.sizes(), where.c_str(), shape(tensor), shape(found->second));
  }
  if (given.size() != target.size()) {
    std::unordered_map<std::string, at::Tensor> known(target.begin(), target.end());
    for (const auto& [name, tensor] : source)
      require_range(known.contains(name), (std::string(argument) + "." + name).c_str(), "no such tensor", shape(tensor));
  }
  std::vector<at::Tensor> targets, sources;
  for (const auto& [name, tensor] : target) targets.push_back(tensor), sources.push_back(given.at(name));
  copy_all(targets, sources);
}

}  // namespace a_infonce::training

#include "optimizer.h"
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros_like.h>
#include <cmath>
#include <unordered_map>
#include "../describe.h"
#include "../error.h"

namespace a_infonce::training {
namespace {

double norm(const at::Tensor& tensor) { return at::linalg_vector_norm(tensor).item<double>(); }

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
  const bool inside = options_.lars && options_.lars->rate_in_momentum;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor& weight = parameters_[i].second;
    const at::Tensor& momentum = momentum_[i].second;
    at::Tensor gradient = weight.grad();
    if (!gradient.defined()) continue;
    double scale = 1;
    if (options_.lars) {
      const double weight_norm = norm(weight), gradient_norm = norm(gradient);
      if (weight_norm > 0 && gradient_norm > 0)
        scale = options_.lars->trust * weight_norm / (gradient_norm + options_.weight_decay * weight_norm + options_.lars->epsilon);
    }
    if (options_.weight_decay != 0) gradient.add_(weight, options_.weight_decay);
    momentum.mul_(options_.momentum).add_(gradient, inside ? lr * scale : scale);
    weight.add_(momentum, inside ? -1 : -lr);
  }
}

void Optimizer::zero_grad() {
  for (const auto& [name, parameter] : parameters_) parameter.mutable_grad().reset();
}

double Optimizer::gradient_norm() const {
  double squares = 0;
  for (const auto& [name, parameter] : parameters_)
    if (parameter.grad().defined()) {
      const double value = norm(parameter.grad());
      squares += value * value;
    }
  return std::sqrt(squares);
}

void Optimizer::load_state(const NamedTensors& state) { copy_by_name(momentum_, state, "momentum"); }

void copy_by_name(const NamedTensors& target, const NamedTensors& source, const char* argument) {
  const at::NoGradGuard no_grad;
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
  for (const auto& [name, tensor] : target) tensor.copy_(given.at(name));
}

}  // namespace a_infonce::training

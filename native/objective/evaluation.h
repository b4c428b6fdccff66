// A loss as one differentiable function of its tensors.
#pragma once
#include <ATen/core/Tensor.h>
#include <torch/custom_class.h>
#include <functional>
#include <optional>
#include <vector>

namespace a_infonce::objective {

/// A loss that is known, and what its gradient needs.
struct Evaluation : torch::CustomClassHolder {
  /// The loss, a scalar of this dtype where the inputs are. NonFinite where it is not finite.
  virtual at::Tensor value(at::ScalarType dtype) const = 0;
  /// Whether `gradients` reads an input: it must not have changed then.
  virtual bool reads(size_t) const { return true; }
  /// factor * d loss / d each input; undefined for those that want none. factor: a scalar as `value` gives it.
  virtual std::vector<at::Tensor> gradients(const at::Tensor& factor) = 0;
};

/// Throws NonFinite.
void require_finite_loss(bool finite);

/// One that the CPU makes.
struct HostEvaluation : Evaluation {
  double loss = 0;
  at::Tensor value(at::ScalarType dtype) const final;
  std::vector<at::Tensor> gradients(const at::Tensor& factor) final;
  virtual std::vector<at::Tensor> gradients(double factor) = 0;
};

/// Makes the evaluation of contiguous inputs; wanted: those that get a gradient.
using Evaluate = std::function<c10::intrusive_ptr<Evaluation>(const std::vector<at::Tensor>& inputs, const std::vector<bool>& wanted)>;

/// The loss of one to three inputs: a scalar of this dtype, differentiable once.
at::Tensor evaluated(const Evaluate& evaluate, at::ScalarType dtype, const at::Tensor& first, const std::optional<at::Tensor>& second = {}, const std::optional<at::Tensor>& third = {});

}  // namespace a_infonce::objective

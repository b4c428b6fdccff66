// SGD with momentum, and LARS around it.
#pragma once
#include <ATen/core/Tensor.h>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace a_infonce::training {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// Layer-wise adaptive rates (You et al., arXiv 1708.03888), over every parameter, biases and BatchNorm too.
struct Lars {
  double trust = 1e-3;
  double epsilon = 1e-8;
  bool rate_in_momentum = false;  // false: as torchlars; true: as ACL's optimizer/lars.py, whose momentum holds each gradient times the rate of its step
};

struct OptimizerOptions {
  double momentum = 0.9;
  double weight_decay = 0;
  std::optional<Lars> lars;
};

class Optimizer {
 public:
  Optimizer(NamedTensors parameters, OptimizerOptions options);

  /// One update from the parameters' `.grad`; a parameter without one is left alone, momentum included. With weight decay d, momentum m:
  ///   SGD   g <- g + d w;                 v <- m v + g;  w <- w - lr v       (torch.optim.SGD: dampening 0, no Nesterov)
  ///   LARS  g <- (g + d w) q  before it,  q = trust |w| / (|g| + d |w| + epsilon) where both norms are positive, else 1;
  ///         with rate_in_momentum  v <- m v + lr g;  w <- w - v  after it
  /// Overwrites the gradients.
  void step(double lr);
  void zero_grad();
  /// The Euclidean norm of all gradients together, a float64 scalar beside them; not finite as soon as one of them is not.
  at::Tensor gradient_norm() const;

  const NamedTensors& parameters() const { return parameters_; }
  /// Momentum buffers under their parameters' names: the tensors themselves, not copies.
  const NamedTensors& state() const { return momentum_; }
  /// Copies buffers in. Throws ArgumentRange on a missing name, an unknown one or another shape, before anything is written.
  void load_state(const NamedTensors& state);

 private:
  NamedTensors parameters_, momentum_;
  OptimizerOptions options_;
};

/// Copies each of `source` into the tensor of the same name; `argument` names the whole in errors. Checks all before it writes any.
void copy_by_name(const NamedTensors& target, const NamedTensors& source, const char* argument);

}  // namespace a_infonce::training

// What attacks, fine-tuning and evaluation see of a network: images in, an output out.
#pragma once
#include <ATen/core/Tensor.h>
#include <vector>

namespace a_infonce::nn {

class Model {
 public:
  virtual ~Model() = default;
  /// images [N, C, H, W] in [0, 1] -> output [N, ...] (logits [N, classes] for a classifier), recorded by autograd when grad mode is on.
  virtual at::Tensor forward(const at::Tensor& images) = 0;
  /// Train mode normalises with batch statistics and updates the running ones; eval mode uses the running ones.
  virtual void set_training(bool training) = 0;
  virtual bool training() const = 0;
  virtual std::vector<at::Tensor> parameters() const = 0;
};

/// Puts a model in eval (or train) mode for a block and restores the mode it had, also when the block throws.
class ModeGuard {
 public:
  ModeGuard(Model& model, bool training) : model_(model), before_(model.training()) { model_.set_training(training); }
  ~ModeGuard() { model_.set_training(before_); }
  ModeGuard(const ModeGuard&) = delete;
  ModeGuard& operator=(const ModeGuard&) = delete;

 private:
  Model& model_;
  bool before_;
};

}  // namespace a_infonce::nn

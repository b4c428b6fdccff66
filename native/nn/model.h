// What attacks, fine-tuning and evaluation see of a network: images in, an output out.
#pragma once
#include <ATen/core/Tensor.h>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>
#include "../cancellation.h"
#include "in_use.h"

namespace a_infonce::nn {

/// One entry of a model's state: a parameter (trained) or a buffer (running statistics), under PyTorch's name for it.
struct NamedTensor {
  std::string name;
  at::Tensor tensor;
  bool parameter;
};

/// Made for a model by those who work on it, and kept with it.
struct Kept {
  virtual ~Kept() = default;
};

class Model {
 public:
  virtual ~Model() = default;
  /// images [N, C, H, W] in [0, 1] -> output [N, ...] (logits [N, classes] for a classifier), recorded by autograd when grad mode is on.
  /// The gradient for the images may come in another memory format than theirs (channels last): call .contiguous() before reading it.
  virtual at::Tensor forward(const at::Tensor& images) = 0;
  /// Train mode normalises with batch statistics and updates the running ones; eval mode uses the running ones.
  virtual void set_training(bool training) = 0;
  virtual bool training() const = 0;
  /// Parameters and buffers in PyTorch's order. The tensors are the model's own: writing into them changes the model.
  virtual std::vector<NamedTensor> state() const = 0;
  /// Where its tensors are, and images are to be; none of a model without tensors.
  std::optional<c10::Device> device() const;
  /// Moves the tensors, which stay the ones that they are, without their gradients.
  void to(c10::Device device);
  /// Shared by models that share parts.
  virtual InUse& in_use() { return in_use_; }
  /// What somebody recorded of it, in its turn; a model that moves gives it up.
  std::unique_ptr<Kept> recorded;

 private:
  InUse in_use_;
};

/// Holds a model's turn. Waiting for it ends when the job that waits is aborted.
class Turn {
 public:
  explicit Turn(Model& model) : lock_(model.in_use().turn, std::defer_lock) {
    while (!lock_.try_lock_for(std::chrono::milliseconds(20))) check_cancelled();
  }

 private:
  std::unique_lock<std::recursive_timed_mutex> lock_;
};

/// Holds a model's turn for a block and restores its mode at the end, also when the block throws.
class ModeGuard {
 public:
  explicit ModeGuard(Model& model) : model_(model), turn_(model), before_(model.training()) {}
  /// In eval (or train) mode.
  ModeGuard(Model& model, bool training) : ModeGuard(model) { model_.set_training(training); }
  ~ModeGuard() { model_.set_training(before_); }
  ModeGuard(const ModeGuard&) = delete;
  ModeGuard& operator=(const ModeGuard&) = delete;

 private:
  Model& model_;
  const Turn turn_;
  const bool before_;
};

}  // namespace a_infonce::nn

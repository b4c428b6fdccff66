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
  /// Held by whoever depends on the mode (an attack, an evaluation, a training step): jobs on one model, or on models that share parts, take turns.
  virtual std::recursive_timed_mutex& in_use() { return in_use_; }
  /// What somebody recorded of it, under `in_use`; a model that moves gives it up.
  std::unique_ptr<Kept> recorded;

 private:
  std::recursive_timed_mutex in_use_;
};

/// Puts a model in eval (or train) mode for a block and restores the mode it had, also when the block throws. Meanwhile the model is
/// `in_use`; waiting for it ends when the job that waits is aborted.
class ModeGuard {
 public:
  ModeGuard(Model& model, bool training) : model_(model), lock_(acquire(model)), before_(model.training()) { model_.set_training(training); }
  ~ModeGuard() { model_.set_training(before_); }
  ModeGuard(const ModeGuard&) = delete;
  ModeGuard& operator=(const ModeGuard&) = delete;

 private:
  static std::unique_lock<std::recursive_timed_mutex> acquire(Model& model) {
    std::unique_lock lock(model.in_use(), std::defer_lock);
    while (!lock.try_lock_for(std::chrono::milliseconds(20))) check_cancelled();
    return lock;
  }

  Model& model_;
  std::unique_lock<std::recursive_timed_mutex> lock_;
  bool before_;
};

}  // namespace a_infonce::nn

// The layers that the encoders, projectors and heads are made of: tensors and the ATen call over them.
#pragma once
#include <ATen/core/Tensor.h>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>
#include "initialiser.h"

namespace a_infonce::nn {

/// Called for every tensor of a layer, in PyTorch's order: (name, tensor, whether it is a parameter).
using Visitor = std::function<void(const std::string& name, at::Tensor& tensor, bool parameter)>;

struct BatchNormBranch {
  at::Tensor weight, bias, running_mean, running_var, num_batches_tracked;
};

/// While one is there, encoders on this thread compute from the images to the last block in bfloat16, as autocast does: convolutions multiply bfloat16 and sum
/// float32, BatchNorm keeps its statistics and parameters in float32, features come out in float32. What is rounded is recorded by autograd, and kept: no parameter
/// may change meanwhile.
class Bfloat16 {
 public:
  /// Throws ArgumentRange, of `precision`, where the device is a processor without products in bfloat16.
  static void require(at::Device device);
  static Bfloat16* active() { return active_; }

  Bfloat16() : before_(active_) { active_ = this; }
  ~Bfloat16() { active_ = before_; }
  Bfloat16(const Bfloat16&) = delete;
  Bfloat16& operator=(const Bfloat16&) = delete;

  struct Affine {
    at::Tensor weight, bias;
  };
  /// A convolution's weight, and with `norm` weight and bias of both in one: norm(convolution(x)) by running statistics. In the memory format of the images.
  const at::Tensor& rounded(const at::Tensor& weight, at::MemoryFormat format);
  const Affine& folded(const at::Tensor& weight, const BatchNormBranch& norm, at::MemoryFormat format);
  /// Whatever moves running statistics says so: what holds them is made anew.
  static void statistics_moved() { if (active_) active_->folded_.clear(); }

 private:
  static thread_local Bfloat16* active_;
  Bfloat16* before_;
  std::unordered_map<const at::TensorImpl*, at::Tensor> rounded_;
  std::unordered_map<const at::TensorImpl*, Affine> folded_;  // by the running mean
};

/// Two-dimensional convolution without bias: [N, in, H, W] -> [N, out, H', W'], padding (kernel - 1) / 2; of bfloat16 where that is active.
struct Conv2d {
  Conv2d(int64_t in, int64_t out, int64_t kernel, int64_t stride, Initialiser& init);
  at::Tensor forward(const at::Tensor& x) const;
  void visit(const std::string& prefix, const Visitor& visitor) { visitor(prefix + "weight", weight, true); }

  at::Tensor weight;
  int64_t stride, padding;
};

/// x W^T + b: [N, in] -> [N, out].
struct Linear {
  Linear(int64_t in, int64_t out, Initialiser& init);
  at::Tensor forward(const at::Tensor& x) const;
  void visit(const std::string& prefix, const Visitor& visitor);

  at::Tensor weight, bias;
};

/// Batch normalisation over every axis but the second (2-d and 1-d alike), with one set of parameters and running statistics a branch.
/// Momentum .1, eps 1e-5; the running variance is the unbiased one, as in PyTorch.
struct BatchNorm {
  static constexpr double momentum = 0.1, eps = 1e-5;

  BatchNorm(int64_t channels, std::vector<std::string> names);
  /// `branch` indexes the names. Train mode needs more than one value a channel.
  at::Tensor forward(const at::Tensor& x, size_t branch, bool training);
  /// The same in train mode with residual (if defined) and relu, of an x that ops::norm takes.
  at::Tensor fused(const at::Tensor& x, size_t branch, bool relu, const at::Tensor& residual);
  /// Names are <prefix><branch>.weight, without the branch when there is one only.
  void visit(const std::string& prefix, const Visitor& visitor);

  std::vector<std::string> names;
  std::vector<BatchNormBranch> branches;
};

/// norm(convolution(x)), + residual if defined, and relu if asked for. In bfloat16 these are one pass in train mode (ops::norm); in eval mode weight and bias of the convolution
/// hold the normalisation.
at::Tensor normalized(const Conv2d& convolution, BatchNorm& norm, const at::Tensor& x, size_t branch, bool training, bool relu, const at::Tensor& residual = {});

/// Keeps back how the running statistics of every BatchNorm that runs in train mode on this thread would move while the tape records, so that a forward
/// whose inputs do not change is computed once and counts as often as wanted:
///   StatisticsTape tape; { const auto on = tape.record(); y = network.forward(x, ...); }   // moves nothing
///   tape.replay();                                                                         // as if that forward were computed here, to the bit
class StatisticsTape {
 public:
  class Recording {
   public:
    explicit Recording(StatisticsTape* tape);
    ~Recording();
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;

   private:
    StatisticsTape* before_;
  };
  [[nodiscard]] Recording record() { return Recording(this); }
  void replay() const;
  /// Moves the running statistics of a branch towards those of a batch: now, or by the tape that records on this thread.
  static void move(const BatchNormBranch& branch, const at::Tensor& mean, const at::Tensor& variance);

 private:
  friend struct BatchNorm;
  struct Entry {
    BatchNormBranch branch;  // handles of the tensors, not copies
    at::Tensor mean, variance;
  };
  /// Of entries whose branches are all different.
  static void apply(const Entry* first, const Entry* last);
  static thread_local StatisticsTape* active_;
  std::vector<Entry> entries_;
};

}  // namespace a_infonce::nn

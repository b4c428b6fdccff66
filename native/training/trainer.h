// What every method of training shares: a network, its optimizer, and the way from a loss to new weights, all or nothing.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>
#include "../nn/network.h"
#include "optimizer.h"

namespace a_infonce::training {

/// Called between the parts of a step; throws Error{Cancelled} to leave it.
using Check = std::function<void()>;
/// What a method reports of a step: numbers, or scalars that lie on a device and are read all at once when the step is over.
using Values = std::vector<std::pair<std::string, std::variant<double, at::Tensor>>>;
/// What a step reports, in order: "loss", the method's own numbers, "gradientNorm".
using Report = std::vector<std::pair<std::string, double>>;

/// mean |adversary - image| / epsilon, a scalar to report; 0 for epsilon 0.
std::variant<double, at::Tensor> perturbation(const at::Tensor& adversaries, const at::Tensor& images, double epsilon);
/// The share of images that logits put into the class of their label, a scalar to report.
at::Tensor accuracy(const at::Tensor& logits, const at::Tensor& labels);

class Trainer {
 public:
  /// Trains the parameters of `network` whose names start with `prefix` (all: ""; a linear head: "head."). Methods leave the running statistics of
  /// the rest alone. With `bf16` encoders compute in bfloat16 during a step, attack included (nn::Bfloat16), everything else in float32: throws
  /// ArgumentRange where the device cannot.
  Trainer(std::shared_ptr<nn::Network> network, OptimizerOptions options, const std::string& prefix = "", bool bf16 = false);

  /// A method: records the scalar loss of one batch on the network, in whichever modes it needs, and adds its own numbers to the values.
  using Method = std::function<at::Tensor(nn::Network& network, Values& values)>;

  /// Loss, backward, update with learning rate `lr`. A step that throws leaves parameters, momentum, running statistics and modes as they were:
  /// NonFinite when the loss or a gradient is NaN or infinite, whatever the method throws, Cancelled included. So are the tensors of `state` left,
  /// which are the method's to change.
  Report step(double lr, const Method& method, const std::vector<at::Tensor>& state = {});

  const std::shared_ptr<nn::Network>& network() { return network_; }
  Optimizer& optimizer() { return optimizer_; }

  /// One step at a time: holds the trainer for a block. Throws ArgumentRange when it is held already.
  class Use {
   public:
    explicit Use(Trainer& trainer);
    ~Use() { trainer_.busy_ = false; }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    Trainer& trainer_;
  };

 private:
  std::shared_ptr<nn::Network> network_;
  Optimizer optimizer_;
  const bool bf16_;
  std::vector<at::Tensor> buffers_;
  std::atomic<bool> busy_ = false;
};

}  // namespace a_infonce::training

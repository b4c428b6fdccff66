// What tensors hold at one time, to be put back where a step fails.
#pragma once
#include <ATen/core/Tensor.h>
#include <vector>

namespace a_infonce::training {

/// Copies of tensors side by side, one for all of a type: hundreds of running statistics are copied at once.
class Snapshot {
 public:
  explicit Snapshot(std::vector<at::Tensor> tensors);
  /// As well as can be: a card that failed may not take them.
  void restore() const noexcept;

 private:
  const std::vector<at::Tensor> tensors_;
  std::vector<at::Tensor> copies_;  // views, like the tensors
};

}  // namespace a_infonce::training

#include "model.h"
#include <ATen/core/grad_mode.h>

namespace a_infonce::nn {

std::optional<c10::Device> Model::device() const {
  const auto tensors = state();
  return tensors.empty() ? std::nullopt : std::optional(tensors.front().tensor.device());
}

void Model::to(c10::Device device) {
  const at::NoGradGuard no_grad;
  for (auto& [name, tensor, parameter] : state()) {
    if (tensor.device() == device) continue;
    tensor.mutable_grad().reset();
    tensor.set_data(tensor.detach().to(device));
  }
}

}  // namespace a_infonce::nn

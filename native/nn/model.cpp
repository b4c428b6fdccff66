#include "model.h"
#include <ATen/core/grad_mode.h>
#include <utility>
#include "../transfer.h"

namespace a_infonce::nn {

std::optional<c10::Device> Model::device() const {
  const auto tensors = state();
  return tensors.empty() ? std::nullopt : std::optional(tensors.front().tensor.device());
}

void Model::to(c10::Device device) {
  const at::NoGradGuard no_grad;
  recorded.reset();
  std::vector<at::Tensor> moving;
  for (auto& [name, tensor, parameter] : state())
    if (tensor.device() != device) moving.push_back(std::move(tensor));
  const std::vector<at::Tensor> there = brought(moving, device);
  for (size_t i = 0; i < moving.size(); ++i) moving[i].mutable_grad().reset(), moving[i].set_data(there[i].detach());
}

}  // namespace a_infonce::nn

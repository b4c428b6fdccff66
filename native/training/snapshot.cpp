#include "snapshot.h"
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <exception>
#include <map>
#include <utility>

namespace a_infonce::training {

Snapshot::Snapshot(std::vector<at::Tensor> tensors) : tensors_(std::move(tensors)), copies_(tensors_.size()) {
  const at::NoGradGuard no_grad;
  std::map<std::pair<std::string, at::ScalarType>, std::vector<size_t>> alike;
  for (size_t i = 0; i < tensors_.size(); ++i) alike[{tensors_[i].device().str(), tensors_[i].scalar_type()}].push_back(i);
  for (const auto& [of, members] : alike) {
    std::vector<at::Tensor> flat;
    for (const size_t i : members) flat.push_back(tensors_[i].reshape(-1));
    at::Tensor rest = at::cat(flat);
    for (const size_t i : members) {
      const int64_t count = tensors_[i].numel();
      copies_[i] = rest.narrow(0, 0, count).view(tensors_[i].sizes());
      rest = rest.narrow(0, count, rest.size(0) - count);
    }
  }
}

void Snapshot::restore() const noexcept {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < tensors_.size(); ++i) try {
      tensors_[i].copy_(copies_[i]);
    } catch (const std::exception&) {  // while the error that it is restored for is thrown
    }
}

}  // namespace a_infonce::training

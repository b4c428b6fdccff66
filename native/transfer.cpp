#include "transfer.h"
#include <ATen/core/grad_mode.h>
#include <ATen/ops/clone.h>
#include <ATen/ops/empty.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <algorithm>

namespace a_infonce {
namespace {

constexpr int64_t most_staged = int64_t{64} << 20, alignment = 64;

int64_t room_of(const at::Tensor& tensor) { return (static_cast<int64_t>(tensor.nbytes()) + alignment - 1) / alignment * alignment; }

void wait_for(c10::Device device) { c10::impl::VirtualGuardImpl(device.type()).getStream(device).synchronize(); }

}  // namespace

void read_all(const std::vector<at::Tensor>& tensors, const std::function<void(size_t i, const at::Tensor& here)>& take) {
  const at::NoGradGuard no_grad;
  int64_t count = 0, bytes = 0;
  const auto staged = [](const at::Tensor& tensor) { return !tensor.is_cpu() && room_of(tensor) <= most_staged; };
  for (const at::Tensor& each : tensors)
    if (staged(each)) ++count, bytes += room_of(each);
  // Pinned: copies into other memory are waited for one by one.
  const at::Tensor stage = count < 2 ? at::Tensor() : at::empty({std::min(bytes, most_staged)}, at::TensorOptions().dtype(at::kByte).pinned_memory(true));
  for (size_t first = 0, end = 0; first < tensors.size(); first = end) {
    std::vector<at::Tensor> here;
    std::vector<c10::Device> from;
    for (int64_t used = 0; end < tensors.size(); ++end) {
      const at::Tensor there = tensors[end].detach();
      if (!stage.defined() || !staged(there)) {
        here.push_back(there.cpu().resolve_conj().resolve_neg().contiguous());
        continue;
      }
      if (used + room_of(there) > stage.size(0)) break;
      here.push_back(stage.narrow(0, used, static_cast<int64_t>(there.nbytes())).view(there.scalar_type()).view(there.sizes()).copy_(there, /*non_blocking=*/true));
      used += room_of(there);
      if (std::find(from.begin(), from.end(), there.device()) == from.end()) from.push_back(there.device());
    }
    for (const c10::Device device : from) wait_for(device);
    for (size_t i = first; i < end; ++i) take(i, here[i - first]);
  }
}

std::vector<at::Tensor> brought(const std::vector<at::Tensor>& tensors, c10::Device device) {
  std::vector<at::Tensor> result(tensors.size());
  if (device.is_cpu()) read_all(tensors, [&](size_t i, const at::Tensor& here) { result[i] = tensors[i].is_cpu() ? tensors[i] : here.clone(); });
  else std::transform(tensors.begin(), tensors.end(), result.begin(), [&](const at::Tensor& each) { return brought(each, device); });
  return result;
}

void copy_all(const std::vector<at::Tensor>& targets, const std::vector<at::Tensor>& sources) {
  const at::NoGradGuard no_grad;
  std::vector<size_t> places;
  std::vector<at::Tensor> from_cards;
  for (size_t i = 0; i < targets.size(); ++i) {
    if (targets[i].is_cpu() && !sources[i].is_cpu()) places.push_back(i), from_cards.push_back(sources[i]);
    else targets[i].copy_(sources[i], /*non_blocking=*/!targets[i].is_cpu() && !sources[i].is_pinned());
  }
  read_all(from_cards, [&](size_t i, const at::Tensor& here) { targets[places[i]].copy_(here); });
}

}  // namespace a_infonce

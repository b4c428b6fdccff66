// Tensors from one device to another, and how seldom that waits.
#pragma once
#include <ATen/core/Tensor.h>
#include <functional>
#include <vector>

namespace a_infonce {

/// The tensor there: itself where it is there already. A card to which it goes is not waited for, and what it was may change then.
inline at::Tensor brought(const at::Tensor& tensor, c10::Device device) { return tensor.to(device, /*non_blocking=*/!device.is_cpu() && !tensor.is_pinned()); }

/// take(i, the i-th tensor on the CPU, contiguous, whose memory is used again afterwards), in order. Cards are waited for once in 64 MiB, and once for each tensor that is larger.
void read_all(const std::vector<at::Tensor>& tensors, const std::function<void(size_t i, const at::Tensor& here)>& take);

/// The same of many tensors. None is the caller's but where it was there already.
std::vector<at::Tensor> brought(const std::vector<at::Tensor>& tensors, c10::Device device);

/// targets[i] <- sources[i], of one shape, wherever they are.
void copy_all(const std::vector<at::Tensor>& targets, const std::vector<at::Tensor>& sources);

}  // namespace a_infonce

#include "layers.h"
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <unordered_set>
#include "../describe.h"
#include "../error.h"
#include "../kernels/cpu/instruction_set.h"
#include "../ops/norm.h"

namespace a_infonce::nn {

thread_local Bfloat16* Bfloat16::active_ = nullptr;

void Bfloat16::require(at::Device device) {
  if (!device.is_cpu()) return;
  const auto set = kernels::current();
  require_range(set >= kernels::InstructionSet::Avx512Bf16, "precision", "'full' on a processor without AVX512_BF16", std::string("'bf16' (instruction set: ") + kernels::name(set) + ")");
}

const at::Tensor& Bfloat16::rounded(const at::Tensor& weight, at::MemoryFormat format) {
  at::Tensor& value = rounded_[weight.unsafeGetTensorImpl()];
  if (!value.defined()) {
    const at::AutoGradMode grad(true);  // what a forward without gradients meets first, the loss uses too
    value = weight.to(at::kBFloat16, /*non_blocking=*/false, /*copy=*/false, format);
  }
  return value;
}

const Bfloat16::Affine& Bfloat16::folded(const at::Tensor& weight, const BatchNormBranch& norm, at::MemoryFormat format) {
  Affine& value = folded_[norm.running_mean.unsafeGetTensorImpl()];
  if (!value.weight.defined()) {
    const at::AutoGradMode grad(true);
    const at::Tensor scale = norm.weight * at::rsqrt(norm.running_var + BatchNorm::eps);
    value = {(weight * scale.view({-1, 1, 1, 1})).to(at::kBFloat16, /*non_blocking=*/false, /*copy=*/false, format),
             (norm.bias - norm.running_mean * scale).to(at::kBFloat16)};
  }
  return value;
}

Conv2d::Conv2d(int64_t in, int64_t out, int64_t kernel, int64_t stride, Initialiser& init)
    : weight(init.convolution(in, out, kernel)), stride(stride), padding((kernel - 1) / 2) {}

at::Tensor Conv2d::forward(const at::Tensor& x) const {
  auto* const bf16 = Bfloat16::active();
  return at::conv2d(x, bf16 ? bf16->rounded(weight, x.suggest_memory_format()) : weight, {}, {stride, stride}, {padding, padding});
}

Linear::Linear(int64_t in, int64_t out, Initialiser& init) : weight(init.uniform({out, in}, in)), bias(init.uniform({out}, in)) {}

at::Tensor Linear::forward(const at::Tensor& x) const {
  require_range(x.dim() == 2 && x.size(1) == weight.size(1), "features", "shape [N, " + std::to_string(weight.size(1)) + "]", shape_text(x.sizes()));
  return at::linear(x, weight, bias);
}

void Linear::visit(const std::string& prefix, const Visitor& visitor) {
  visitor(prefix + "weight", weight, true);
  visitor(prefix + "bias", bias, true);
}

BatchNorm::BatchNorm(int64_t channels, std::vector<std::string> branch_names) : names(std::move(branch_names)) {
  for (size_t i = 0; i < names.size(); ++i)
    branches.push_back({at::ones({channels}, at::kFloat).set_requires_grad(true), at::zeros({channels}, at::kFloat).set_requires_grad(true),
                        at::zeros({channels}, at::kFloat), at::ones({channels}, at::kFloat), at::zeros({}, at::kLong)});
}

namespace {

void check_batch(const at::Tensor& x) {
  require_range(x.numel() > x.size(1), "images", "more than one value a channel in train mode", shape_text(x.sizes()) + " before a BatchNorm");
}

}  // namespace

at::Tensor BatchNorm::forward(const at::Tensor& x, size_t index, bool training) {
  auto& branch = branches[index];
  if (!training) return at::batch_norm(x, branch.weight, branch.bias, branch.running_mean, branch.running_var, false, momentum, eps, true);
  check_batch(x);
  if (auto* tape = StatisticsTape::active_) {
    // With momentum 1 the buffers come out as the batch's own statistics.
    const auto mean = at::zeros_like(branch.running_mean), variance = at::zeros_like(branch.running_var);
    tape->entries_.push_back({branch, mean, variance});
    return at::batch_norm(x, branch.weight, branch.bias, mean, variance, true, 1.0, eps, true);
  }
  const auto y = at::batch_norm(x, branch.weight, branch.bias, branch.running_mean, branch.running_var, true, momentum, eps, true);
  branch.num_batches_tracked.add_(1);
  Bfloat16::statistics_moved();
  return y;
}

at::Tensor normalized(const Conv2d& convolution, BatchNorm& norm, const at::Tensor& x, size_t branch, bool training, bool relu, const at::Tensor& residual) {
  auto* const bf16 = Bfloat16::active();
  at::Tensor y;
  if (bf16 && !training) {
    const auto& [weight, bias] = bf16->folded(convolution.weight, norm.branches[branch], x.suggest_memory_format());
    y = at::conv2d(x, weight, bias, {convolution.stride, convolution.stride}, {convolution.padding, convolution.padding});
  } else {
    y = convolution.forward(x);
    if (ops::norm_takes(y)) return norm.fused(y, branch, relu, residual);
    y = norm.forward(y, branch, training);
  }
  if (residual.defined()) y = y.add_(residual);
  return relu ? y.relu_() : y;
}

at::Tensor BatchNorm::fused(const at::Tensor& x, size_t index, bool relu, const at::Tensor& residual) {
  check_batch(x);
  const auto& branch = branches[index];
  ops::BatchMoments moments;
  const at::Tensor y = ops::norm(x, branch.weight, branch.bias, residual, relu, eps, moments);
  StatisticsTape::move(branch, moments.mean, moments.variance);
  return y;
}

void BatchNorm::visit(const std::string& prefix, const Visitor& visitor) {
  for (size_t i = 0; i < branches.size(); ++i) {
    const auto name = branches.size() == 1 ? prefix : prefix + names[i] + ".";
    auto& branch = branches[i];
    visitor(name + "weight", branch.weight, true);
    visitor(name + "bias", branch.bias, true);
    visitor(name + "running_mean", branch.running_mean, false);
    visitor(name + "running_var", branch.running_var, false);
    visitor(name + "num_batches_tracked", branch.num_batches_tracked, false);
  }
}

thread_local StatisticsTape* StatisticsTape::active_ = nullptr;

StatisticsTape::Recording::Recording(StatisticsTape* tape) : before_(active_) { active_ = tape; }
StatisticsTape::Recording::~Recording() { active_ = before_; }

void StatisticsTape::apply(const Entry* first, const Entry* last) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> running_means, running_variances, counts, means, variances;
  for (; first != last; ++first) {
    running_means.push_back(first->branch.running_mean.variable_data()), running_variances.push_back(first->branch.running_var.variable_data());
    counts.push_back(first->branch.num_batches_tracked), means.push_back(first->mean), variances.push_back(first->variance);
  }
  // r <- (1 - momentum) r + momentum s, rounded as LibTorch's own update rounds: after the product for the mean, after the sum for the variance. Written past
  // the version counter, also as LibTorch does it: graphs that have saved the running statistics of an earlier train-mode forward do not use them.
  at::_foreach_mul_(running_means, 1 - BatchNorm::momentum);
  at::_foreach_add_(running_means, at::_foreach_mul(means, BatchNorm::momentum));
  at::_foreach_mul_(running_variances, 1 - BatchNorm::momentum);
  at::_foreach_add_(running_variances, variances, BatchNorm::momentum);
  at::_foreach_add_(counts, 1);
  Bfloat16::statistics_moved();
}

void StatisticsTape::replay() const {
  // Different branches move together: on a device that is one launch for all of them.
  for (const Entry *first = entries_.data(), *end = first + entries_.size(), *last; first != end; first = last) {
    std::unordered_set<const at::TensorImpl*> moved;
    for (last = first; last != end && moved.insert(last->branch.running_mean.unsafeGetTensorImpl()).second;) ++last;
    apply(first, last);
  }
}

void StatisticsTape::move(const BatchNormBranch& branch, const at::Tensor& mean, const at::Tensor& variance) {
  const Entry entry{branch, mean, variance};
  if (active_) active_->entries_.push_back(entry);
  else apply(&entry, &entry + 1);
}

}  // namespace a_infonce::nn

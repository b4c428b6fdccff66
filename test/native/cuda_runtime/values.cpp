// Values for the stand-in: loaded before LibTorch's user, it lets every operator of a CUDA tensor run as it is, without kernels, and then computes it again on the CPU into
// the same memory; while a stream is captured it computes nothing then, and from that memory, by addresses alone, whenever the graph runs. The package's own kernels come with it, in
// the emulator (../cuda/emulator.h), and take the place of those in liba_infonce_cuda.so.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/native_batch_norm.h>
#include <ATen/ops/native_batch_norm_backward.h>
#include <c10/core/DeviceGuard.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>
#include <torch/library.h>
#include <cstdio>
#include <regex>
#include <unordered_map>
#include "runtime.h"

namespace {

using at::Tensor;
using c10::IValue;
using torch::jit::Stack;

std::unordered_map<c10::OperatorName, c10::SafeKernelFunction>& kernels() {
  static auto* const all = new std::unordered_map<c10::OperatorName, c10::SafeKernelFunction>;
  return *all;
}
thread_local int depth = 0;  // operators within operators: the outermost is computed again

/// The same memory as a tensor of the CPU.
Tensor here(const Tensor& x) {
  if (!x.defined() || !x.is_cuda()) return x;
  const auto options = x.options().device(at::kCPU).requires_grad(false);
  return x.numel() == 0 ? at::empty_strided(x.sizes(), x.strides(), options) : at::from_blob(x.data_ptr(), x.sizes(), x.strides(), options);
}
IValue here(const IValue& value) {
  if (value.isTensor()) return here(value.toTensor());
  if (value.isDevice()) return c10::Device(at::kCPU);
  if (value.isGenerator()) return IValue();
  if (!value.isList()) return value;
  const auto from = value.toList();
  c10::impl::GenericList to(from.elementType());
  for (size_t i = 0; i < from.size(); ++i) to.push_back(here(from.get(i)));
  return to;
}

/// What the operator gave on the device, with the CPU's values; in its place another tensor where they have another shape, which comes from values.
IValue filled(const IValue& there, const IValue& values) {
  if (values.isTensor() && there.isTensor()) {
    Tensor target = there.toTensor();
    const Tensor source = values.toTensor();
    if (!source.defined() || !target.defined() || !target.is_cuda()) return source.defined() && source.is_cpu() && target.defined() && target.is_cuda() ? source : there;
    if (target.sizes() != source.sizes()) target = at::empty_strided(source.sizes(), source.strides(), target.options().dtype(source.scalar_type()));
    here(target).copy_(source);
    return target;
  }
  if (values.isTensorList() && there.isTensorList()) {
    const auto target = there.toTensorVector(), source = values.toTensorVector();
    std::vector<Tensor> result;
    for (size_t i = 0; i < source.size(); ++i) result.push_back(i < target.size() ? filled(target[i], source[i]).toTensor() : source[i]);
    return result;
  }
  return values;
}

/// The same into the tensors that there are. BatchNorm in eval mode saves statistics on the device alone, and nobody reads them.
void fill(const IValue& there, const IValue& values) {
  if (there.isTensorList()) {
    const auto targets = there.toTensorVector(), sources = values.toTensorVector();
    for (size_t i = 0; i < targets.size(); ++i) fill(targets[i], sources[i]);
  } else if (there.isTensor() && there.toTensor().defined() && values.toTensor().defined() && values.toTensor().numel() > 0) {
    TORCH_CHECK(there.toTensor().sizes() == values.toTensor().sizes(), "a result has another shape on the CPU, which a graph has no memory for");
    there.toTensor().copy_(values.toTensor());
  }
}

/// The stream that an operator of these is queued on.
CUstream_st* stream_of(const Stack& values) {
  for (const IValue& value : values) {
    if (value.isTensor() && value.toTensor().defined() && value.toTensor().is_cuda()) return c10::cuda::getCurrentCUDAStream(value.toTensor().device().index());
    if (value.isTensorList())
      for (const Tensor& each : value.toTensorVector())
        if (each.is_cuda()) return c10::cuda::getCurrentCUDAStream(each.device().index());
  }
  return c10::cuda::getCurrentCUDAStream();
}

void on_cpu(const c10::OperatorHandle& op, Stack& stack) {
  const auto& name = op.schema().name();
  const auto argument = [&](size_t i) { return stack[i]; };
  const auto optional = [&](size_t i) { return stack[i].isNone() ? std::optional<Tensor>() : std::optional<Tensor>(stack[i].toTensor()); };
  if (name == "aten::cudnn_batch_norm") {
    auto [out, mean, deviation] = at::native_batch_norm(argument(0).toTensor(), optional(1), optional(2), optional(3), optional(4), argument(5).toBool(), argument(6).toDouble(), argument(7).toDouble());
    stack = {out, mean, deviation, Tensor()};
  } else if (name == "aten::cudnn_batch_norm_backward") {
    auto [by_input, by_weight, by_bias] = at::native_batch_norm_backward(argument(1).toTensor(), argument(0).toTensor(), argument(2).toTensor(), optional(3), optional(4), optional(5), optional(6), true,
                                                                         argument(7).toDouble(), {true, true, true});
    stack = {by_input, by_weight, by_bias};
  } else {
    op.callBoxed(&stack);
  }
}

/// The operator of arguments on the CPU, and what `take` does with its results.
template <typename Take>
void compute(const c10::OperatorHandle& op, Stack stack, const Take& take) {
  const at::AutoDispatchBelowADInplaceOrView below;
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  try {
    on_cpu(op, stack);
    take(stack);
  } catch (const c10::Error& error) {
    fprintf(stderr, "values of %s: %s\n", op.operator_name().name.c_str(), error.what_without_backtrace());
  }
}

/// Its size is read from the device, where nothing has computed it.
void nonzero(const c10::OperatorHandle&, c10::DispatchKeySet, Stack* stack) {
  const Tensor x = torch::jit::pop(*stack).toTensor();
  const c10::DeviceGuard guard(x.device());
  stand_in::count(stand_in::CopiesFrom);
  C10_CUDA_CHECK(cudaStreamSynchronize(c10::cuda::getCurrentCUDAStream()));
  const at::AutoDispatchBelowADInplaceOrView below;
  const Tensor found = here(x).nonzero();
  stack->push_back(filled(at::empty_strided({0, 0}, {1, 1}, x.options().dtype(at::kLong)), found));
}
void twice(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack) {
  const auto& schema = op.schema();
  const size_t count = schema.arguments().size();
  const Stack given(stack->end() - static_cast<int64_t>(count), stack->end());
  ++depth;
  try {
    kernels().at(op.operator_name()).callBoxed(op, keys, stack);
  } catch (...) {
    --depth;
    throw;
  }
  --depth;
  if (depth > 0) return;
  const size_t first = stack->size() - schema.returns().size();
  const auto fresh = [&](size_t i) { return !schema.returns()[i].alias_info(); };
  const at::AutoDispatchBelowADInplaceOrView below;
  Stack cpu;
  for (const IValue& value : given) cpu.push_back(here(value));
  Stack results(stack->begin() + static_cast<int64_t>(first), stack->end());
  auto* const stream = stream_of(results.empty() ? given : results);
  if (stand_in::captured(stream)) {
    std::vector<std::pair<size_t, IValue>> targets;
    for (size_t i = 0; i < results.size(); ++i)
      if (fresh(i)) targets.emplace_back(i, here(results[i]));
    stand_in::queue(stream, op.operator_name().name.c_str(), [op, cpu = std::move(cpu), targets = std::move(targets)] {
      compute(op, cpu, [&](const Stack& values) {
        for (const auto& [i, target] : targets) fill(target, values[i]);
      });
    });
    return;
  }
  compute(op, std::move(cpu), [&](const Stack& values) {
    for (size_t i = 0; i < results.size(); ++i)
      if (fresh(i)) (*stack)[first + i] = filled(results[i], values[i]);
  });
}

struct Silent final : c10::WarningHandler {
  void process(const c10::Warning&) override {}
};

const bool registered = [] {
  Silent silent;  // of kernels that are overridden
  const c10::WarningUtils::WarningHandlerGuard quiet(&silent);
  stand_in::open_memory();
  static auto* const library = new torch::Library(torch::Library::IMPL, "aten", c10::DispatchKey::CUDA, __FILE__, __LINE__);
  const std::regex without("aten::(_?empty.*|new_empty.*|resize_.*|set_|record_stream|_pin_memory|is_pinned|_local_scalar_dense|_has_compatible.*|_use_cudnn.*|_cudnn.*)");
  const std::regex composite("aten::(convolution|convolution_backward|copy_)");
  auto& dispatcher = c10::Dispatcher::singleton();
  for (const auto& name : dispatcher.getAllOpNames()) {
    if (name.name.rfind("aten::", 0) != 0) continue;
    const auto op = dispatcher.findSchema(name);
    if (!op || std::regex_match(name.name, without)) continue;
    const bool own = op->hasKernelForDispatchKey(c10::DispatchKey::CUDA);
    if (!own && !std::regex_match(name.name, composite)) continue;
    bool view = false;
    for (const auto& value : op->schema().returns()) view = view || (value.alias_info() && !value.alias_info()->isWrite());
    const bool known = op->hasComputedKernelForDispatchKey(c10::DispatchKey::CPU) || name.name.rfind("aten::cudnn_batch_norm", 0) == 0;
    if (view || !known) continue;
    if (name.name == "aten::nonzero" && name.overload_name.empty()) {
      library->impl("nonzero", torch::CppFunction::makeFromBoxedFunction<&nonzero>());
      continue;
    }
    kernels().emplace(name, op->getComputedKernelForDispatchKey(c10::DispatchKey::CUDA));
    library->impl((name.name.substr(6) + (name.overload_name.empty() ? "" : "." + name.overload_name)).c_str(), torch::CppFunction::makeFromBoxedFunction<&twice>());
  }
  return true;
}();

}  // namespace

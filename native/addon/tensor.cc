// Tensor data in and out, state, autograd's engine, the books.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <cstring>
#include "../describe.h"
#include "../device.h"
#include "../dtype.h"
#include "../error.h"
#include "../transfer.h"
#include "addon.h"
#include "convert.h"
#include "tensor_box.h"

namespace a_infonce::addon {

namespace {

// from_data(view, dtype, shape, device): the elements are copied.
Napi::Value from_data(const Napi::CallbackInfo& info) {
  auto env = info.Env();
  auto dtype = find_dtype(string_arg(info[1], "dtype"));
  if (!dtype) throw Error(ErrorKind::ArgumentRange, "dtype", "a known dtype", describe_value(info[1]));
  auto shape = integers_arg(info[2], "shape");
  auto device = device_named(string_arg(info[3], "device"));
  const uint8_t* bytes = nullptr;
  size_t length = 0;
  if (info[0].IsTypedArray()) {
    auto view = info[0].As<Napi::TypedArray>();
    bytes = static_cast<const uint8_t*>(view.ArrayBuffer().Data()) + view.ByteOffset();
    length = view.ByteLength();
  } else {
    throw Error(ErrorKind::ArgumentType, "data", "a typed array", describe_value(info[0]));
  }
  auto tensor = at::empty(shape, at::TensorOptions().dtype(*dtype));
  if (tensor.nbytes() != length)
    throw Error(ErrorKind::ArgumentRange, "data", std::to_string(tensor.numel()) + " elements for this shape",
                std::to_string(length / tensor.element_size()));
  if (length) std::memcpy(tensor.mutable_data_ptr(), bytes, length);
  return wrap_tensor(env, brought(tensor, device));
}

// to_data(tensors): their elements, for which a card is waited for once.
Napi::Value to_data(const Napi::CallbackInfo& info) {
  const auto tensors = tensors_arg(info[0], "tensors");
  auto result = Napi::Array::New(info.Env(), tensors.size());
  read_all(tensors, [&](size_t i, const at::Tensor& here) {
    auto buffer = Napi::ArrayBuffer::New(info.Env(), here.nbytes());
    if (here.nbytes()) std::memcpy(buffer.Data(), here.const_data_ptr(), here.nbytes());
    result.Set(static_cast<uint32_t>(i), buffer);
  });
  return result;
}

// copy_all(targets, sources): targets[i] <- sources[i], of one shape; nothing is recorded.
Napi::Value copy_all(const Napi::CallbackInfo& info) {
  const auto targets = tensors_arg(info[0], "targets"), sources = tensors_arg(info[1], "sources");
  require_range(targets.size() == sources.size(), "sources", std::to_string(targets.size()) + " tensors", std::to_string(sources.size()));
  for (size_t i = 0; i < targets.size(); ++i)
    if (targets[i].sizes() != sources[i].sizes())
      throw Error(ErrorKind::ArgumentRange, "sources[" + std::to_string(i) + "]", "shape " + shape_text(targets[i].sizes()), "shape " + shape_text(sources[i].sizes()));
  a_infonce::copy_all(targets, sources);
  return info.Env().Undefined();
}

// item(tensor): its one element as a number.
Napi::Value item(const Napi::CallbackInfo& info) {
  constexpr int64_t safe = 9007199254740991;  // 2^53 - 1
  auto tensor = tensor_arg(info[0], "tensor");
  require_range(tensor.numel() == 1, "tensor", "one element", "shape " + shape_text(tensor.sizes()));
  auto value = tensor.item();
  if (value.isComplex()) throw Error(ErrorKind::ArgumentType, "tensor", "a real number", dtype_name(tensor.scalar_type()));
  if (value.isIntegral(false) && (value.toLong() < -safe || value.toLong() > safe))
    throw Error(ErrorKind::ArgumentRange, "tensor", "a safe integer", std::to_string(value.toLong()) + "n");
  return Napi::Number::New(info.Env(), value.toDouble());
}

Napi::Value state(const Napi::CallbackInfo& info) {
  auto env = info.Env();
  auto tensor = tensor_arg(info[0], "tensor");
  auto result = Napi::Object::New(env);
  auto shape = Napi::Array::New(env, tensor.dim());
  for (int64_t i = 0; i < tensor.dim(); ++i) shape.Set(static_cast<uint32_t>(i), Napi::Number::New(env, tensor.size(i)));
  result.Set("dtype", dtype_name(tensor.scalar_type()));
  result.Set("shape", shape);
  result.Set("device", tensor.device().str());
  result.Set("requiresGrad", tensor.requires_grad());
  return result;
}

Napi::Value set_requires_grad(const Napi::CallbackInfo& info) {
  tensor_arg(info[0], "tensor").requires_grad_(boolean_arg(info[1], "requiresGrad"));
  return info.Env().Undefined();
}

Napi::Value grad(const Napi::CallbackInfo& info) { return wrap_tensor(info.Env(), tensor_arg(info[0], "tensor").grad()); }

Napi::Value set_grad(const Napi::CallbackInfo& info) {
  tensor_arg(info[0], "tensor").mutable_grad() = optional_tensor_arg(info[1], "grad").value_or(at::Tensor());
  return info.Env().Undefined();
}

Napi::Value backward(const Napi::CallbackInfo& info) {
  auto tensor = tensor_arg(info[0], "tensor");
  auto gradient = optional_tensor_arg(info[1], "gradient");
  tensor.backward(gradient.value_or(at::Tensor()), boolean_arg(info[2], "retainGraph"));
  return info.Env().Undefined();
}

// to(tensor, dtype | null, device | null), recorded by autograd.
Napi::Value to(const Napi::CallbackInfo& info) {
  auto tensor = tensor_arg(info[0], "tensor");
  auto options = tensor.options();
  if (info[1].IsString()) {
    auto dtype = find_dtype(string_arg(info[1], "dtype"));
    if (!dtype) throw Error(ErrorKind::ArgumentRange, "dtype", "a known dtype", describe_value(info[1]));
    options = options.dtype(*dtype);
  }
  if (info[2].IsString()) options = options.device(device_named(string_arg(info[2], "device")));
  return wrap_tensor(info.Env(), tensor.to(options, /*non_blocking=*/!options.device().is_cpu() && !tensor.is_pinned()));
}

Napi::Value dispose(const Napi::CallbackInfo& info) {
  tensor_box_arg(info[0], "tensor").dispose(info.Env());
  return info.Env().Undefined();
}

Napi::Value memory(const Napi::CallbackInfo& info) {
  auto result = Napi::Object::New(info.Env());
  const auto& books = *EnvState::of(info.Env()).accounting;
  result.Set("tensors", Napi::Number::New(info.Env(), books.tensors));
  result.Set("bytes", Napi::Number::New(info.Env(), books.bytes));
  return result;
}

}  // namespace

void export_tensor(Napi::Env env, Napi::Object exports) {
  export_function(env, exports, "from_data", from_data);
  export_function(env, exports, "to_data", to_data);
  export_function(env, exports, "copy_all", copy_all);
  export_function(env, exports, "item", item);
  export_function(env, exports, "state", state);
  export_function(env, exports, "set_requires_grad", set_requires_grad);
  export_function(env, exports, "grad", grad);
  export_function(env, exports, "set_grad", set_grad);
  export_function(env, exports, "backward", backward);
  export_function(env, exports, "to", to);
  export_function(env, exports, "dispose", dispose);
  export_function(env, exports, "memory", memory);
}

}  // namespace a_infonce::addon

// What a tensor handle holds.
#pragma once
#include <ATen/core/Tensor.h>
#include "env_state.h"

namespace a_infonce::addon {

inline constexpr napi_type_tag kTensorTag{0x3f0c1d2e7a5b4968ULL, 0x84d1b0c7e6f5a392ULL};

/// A tensor and its place in the books. Made, disposed and destroyed on the JS thread.
struct TensorBox {
  TensorBox(Napi::BasicEnv env, std::shared_ptr<Accounting> accounting, at::Tensor tensor);
  /// Drops the reference to the tensor now; idempotent.
  void dispose(Napi::BasicEnv env);
  bool disposed() const { return accounting == nullptr; }

  std::shared_ptr<Accounting> accounting;
  at::Tensor tensor;
  const c10::StorageImpl* storage = nullptr;
};

TensorBox& tensor_box_arg(const Napi::Value& value, const char* name);

}  // namespace a_infonce::addon

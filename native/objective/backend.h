// What another device than the CPU does of the objective by kernels of its own, registered as ops::Backend is.
#pragma once
#include "objective/features.h"
#include "ops/backend.h"

namespace a_infonce::objective {

/// Takes checked options and features that are checked but for what their numbers are, on a device of its kind.
struct Backend {
  virtual ~Backend() = default;
  /// As objective::fused has it. sums: those that `clean_sums` gives for the rows that stay, where some do.
  virtual c10::intrusive_ptr<Evaluation> log_moment_form(const Features& features, const Options& options, bool differentiable, const std::optional<at::Tensor>& sums) const = 0;
  /// In float64 for float64 features.
  virtual c10::intrusive_ptr<Evaluation> released_hard_negatives(const Features& features, const Options& options, bool differentiable) const = 0;
  virtual at::Tensor clean_sums(const at::Tensor& clean, const Options& options) const = 0;
  /// With labels, on the CPU or where the features are.
  virtual c10::intrusive_ptr<Evaluation> supervised(const at::Tensor& features, const Options& options, bool differentiable) const = 0;
  /// Of queries, keys and queue.
  virtual c10::intrusive_ptr<Evaluation> queue(const std::vector<at::Tensor>& inputs, const Options& options, const std::vector<bool>& wanted) const = 0;
};

/// Null for a device without one; the CPU has none but in tests. Loads the library of CUDA kernels as ops::backend does.
const Backend* backend(c10::DeviceType device);
void register_backend(c10::DeviceType device, const Backend* backend);

/// Throws where x is on a device other than the CPU that has no backend.
void require_device(const at::Tensor& x, const char* argument);
/// Throws where x is not on the device of `other`, which `name` says in words.
void require_same_device(const at::Tensor& x, const char* argument, const at::Tensor& other, const char* name);

}  // namespace a_infonce::objective

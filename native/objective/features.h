// What the forms without labels are given, and the evaluation of it.
#pragma once
#include <functional>
#include "objective/evaluation.h"
#include "objective/options.h"

namespace a_infonce::objective {

/// The features; or the view that moves (the adversarial one, or the first) and the others, which stay.
struct Features {
  at::Tensor moving;                // [views * batch, d], or [batch, d]
  std::optional<at::Tensor> fixed;  // [(views - 1) * batch, d]
};

inline int64_t adversarial_view(const Options& options) {  // -1: none
  if (options.form == Form::Paper) return options.adversarial_view.value_or(-1);
  return options.form == Form::AdvCL ? 0 : options.views == 3 ? 2 : -1;
}

/// The loss, of this dtype, by the evaluation that is made of the features.
inline at::Tensor evaluated(const Features& given, at::ScalarType dtype, const std::function<c10::intrusive_ptr<Evaluation>(const Features&, bool differentiable)>& make) {
  const auto fixed = given.fixed ? std::optional(given.fixed->detach().contiguous()) : std::nullopt;
  return evaluated([&](const std::vector<at::Tensor>& inputs, const std::vector<bool>& wanted) { return make({inputs[0], fixed}, wanted[0]); }, dtype, given.moving);
}

}  // namespace a_infonce::objective

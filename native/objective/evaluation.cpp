#include "objective/evaluation.h"
#include <ATen/core/grad_mode.h>
#include <ATen/ops/scalar_tensor.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/graph_task.h>
#include <algorithm>
#include <cmath>
#include "error.h"
#include "ops/similarity.h"

namespace a_infonce::objective {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

struct EvaluationFunction : torch::autograd::Function<EvaluationFunction> {
  static Tensor forward(AutogradContext* context, const Tensor& first, const std::optional<Tensor>& second, const std::optional<Tensor>& third, const Evaluate& evaluate,
                        at::ScalarType dtype, const std::vector<bool>& wanted) {
    std::vector<Tensor> inputs{first.contiguous()};
    for (const auto& input : {second, third})
      if (input) inputs.push_back(input->contiguous());
    const auto evaluation = evaluate(inputs, wanted);
    const Tensor value = evaluation->value(dtype);
    if (std::find(wanted.begin(), wanted.end(), true) != wanted.end()) {
      context->saved_data["evaluation"] = at::IValue::make_capsule(evaluation);
      variable_list read;  // the evaluation points into them
      for (size_t k = 0; k < inputs.size(); ++k)
        if (evaluation->reads(k)) read.push_back(inputs[k]);
      context->save_for_backward(std::move(read));
    }
    return value;
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    ops::require_first_order();
    context->get_saved_variables();  // throws if they were changed in place, or a backward has been here
    const auto evaluation = c10::static_intrusive_pointer_cast<Evaluation>(context->saved_data["evaluation"].toCapsule());
    if (!torch::autograd::get_current_graph_task_keep_graph()) context->saved_data.clear();  // as LibTorch does with the saved variables: who keeps the loss does not keep its rows
    auto result = evaluation->gradients(gradients[0]);
    result.resize(6);
    return result;
  }
};

}  // namespace

void require_finite_loss(bool finite) {
  if (!finite) throw Error(ErrorKind::NonFinite, "the loss is not finite: the temperature is too small for rows of this length");
}

Tensor HostEvaluation::value(at::ScalarType dtype) const {
  require_finite_loss(std::isfinite(loss));
  return at::scalar_tensor(loss, dtype);
}
std::vector<Tensor> HostEvaluation::gradients(const Tensor& factor) { return gradients(factor.item<double>()); }

Tensor evaluated(const Evaluate& evaluate, at::ScalarType dtype, const Tensor& first, const std::optional<Tensor>& second, const std::optional<Tensor>& third) {
  std::vector<bool> wanted;
  for (const Tensor* input : {&first, second ? &*second : nullptr, third ? &*third : nullptr})
    if (input) wanted.push_back(at::GradMode::is_enabled() && input->requires_grad());
  return EvaluationFunction::apply(first, second, third, evaluate, dtype, wanted);
}

}  // namespace a_infonce::objective

// The losses of objective::Backend that are not those of images.
#pragma once
#include <vector>
#include "objective/evaluation.h"
#include "objective/options.h"

namespace a_infonce::objective {

c10::intrusive_ptr<Evaluation> supervised_on_device(const at::Tensor& features, const Options& options, bool differentiable);
c10::intrusive_ptr<Evaluation> queue_on_device(const std::vector<at::Tensor>& inputs, const Options& options, const std::vector<bool>& wanted);

}  // namespace a_infonce::objective

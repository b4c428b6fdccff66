// What the three forms of the objective take. The facade's documentation (src/objective/aInfoNCE.ts) holds the equations.
#pragma once
#include <ATen/core/Tensor.h>
#include <cstdint>
#include <optional>
#include "kernels/similarity/similarity.h"
#include "kernels/terms/terms.h"

namespace a_infonce::objective {

using kernels::Form;

struct HardNegative {
  double beta = 1;      // >= 0: concentration on close negatives
  double tau_plus = 0;  // in [0, 1): share of positives among the negatives
};

/// Of operators' arguments: none without a beta. Throws ArgumentRange where there is a tau_plus then, which nothing would take.
std::optional<HardNegative> hard_negative_of(std::optional<double> beta, double tau_plus);

struct Options {
  int64_t views = 2;                        // rows are [views * batch, dim], view-major
  std::optional<int64_t> adversarial_view;  // fixed by the released forms: 0 in AdvCL, 2 in RoCL with three views
  double temperature = 0.5;
  std::optional<double> alpha;              // inferior positives, in [0, 1]
  double weight = 1;                        // of the clean-adversarial terms; the released code's adv_weight
  double positive_weight = 1;               // of clean-adversarial positives inside the logarithm; Paper only
  std::optional<HardNegative> hard_negative;
  std::optional<at::Tensor> labels;         // [batch] int32 or int64: supervised positives; Paper only
  std::optional<bool> normalize;            // default: Paper true, AdvCL false (rows come normalised), RoCL always
  Form form = Form::Paper;
  kernels::Precision precision = kernels::Precision::Full;  // of products, where the processor has them; float32 features without labels
};

}  // namespace a_infonce::objective

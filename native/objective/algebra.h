// What the forms share: float64 algebra over [batch, views, ...] tensors, one term per pair of an anchor and one of its positives.
#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/TensorOperators.h>
#include "objective/options.h"

namespace a_infonce::objective {

/// The rows twice: in float64 for the O(n) terms (positives nearly cancel one another when they are tight), in the features' dtype for the kernels.
struct Rows {
  at::Tensor exact, z;
};

// The forms, on rows as their `normalize` left them; float64 scalars.
at::Tensor paper(const Rows& rows, const Options& options);
at::Tensor advcl(const Rows& rows, const Options& options);
at::Tensor rocl(const Rows& rows, const Options& options);

/// ArgumentRange on a temperature or hard negatives that cannot be.
void check_weights(const Options& options);

/// Every row divided by its length; one of zeros stays.
at::Tensor normalized(const at::Tensor& rows);

/// Codes of the rows for the kernels: 2 * group + (1 in the adversarial view). groups is int32 [batch]; the image's number by default.
at::Tensor row_codes(int64_t batch, int64_t views, int64_t adversarial_view, const std::optional<at::Tensor>& groups = {});

/// [..., V, V] -> [..., V, V - 1]: without the diagonal, in order.
at::Tensor off_diagonal(const at::Tensor& x);

/// A value per row, view-major [views * batch], as [batch, views].
at::Tensor by_image(const at::Tensor& rows, int64_t views);
/// [batch, views] -> view-major [views * batch].
at::Tensor by_row(const at::Tensor& images);

/// -log(e^x_k / (c sum_l e^x_l + e^rest)) for each positive k of every anchor: x [batch, views, P], rest [batch, views]. It keeps its relative precision,
/// gradient included, when positive k outweighs everything else: log c + softplus(log of the others - x_k - log c), never log of a sum minus x.
at::Tensor cross_entropy(const at::Tensor& x, const at::Tensor& rest, double log_c = 0);

/// log Neg of each anchor with hard negatives: log max((e^weighed - tau |N| e^log_positive) / (1 - tau), |N| e^{-1/t}), the floor being the least that |N|
/// negatives can weigh. weighed = log sum_k w_k e^{s_k}, log_count = log |N|, log_positive = log mean_{j in P} e^{s_j}.
at::Tensor debiased(const at::Tensor& weighed, const at::Tensor& log_count, const at::Tensor& log_positive, const Options& options);

/// sum over images and ordered pairs of views of terms [batch, views, views - 1] times weight(anchor's view, positive's view).
template <typename Weight>
at::Tensor weighted_sum(const at::Tensor& terms, Weight weight);

}  // namespace a_infonce::objective

#include <ATen/ops/empty.h>

template <typename Weight>
at::Tensor a_infonce::objective::weighted_sum(const at::Tensor& terms, Weight weight) {
  const int64_t views = terms.size(1);
  at::Tensor weights = at::empty({views, views - 1}, terms.options().requires_grad(false));
  auto* w = weights.mutable_data_ptr<double>();
  for (int64_t anchor = 0; anchor < views; ++anchor)
    for (int64_t positive = 0; positive < views; ++positive)
      if (positive != anchor) *w++ = weight(anchor, positive);
  return (terms * weights).sum();
}

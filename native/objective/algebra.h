// What labels and queues need beside the operators: float64 algebra over tensors. Forms without labels have theirs in terms.h.
#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/TensorOperators.h>
#include "objective/options.h"

namespace a_infonce::objective {

/// The rows twice: in float64 for the O(n) terms (positives nearly cancel one another when they are tight), in the features' dtype for the kernels.
struct Rows {
  at::Tensor exact, z;
};

/// Rows as the form's `normalize` leaves them.
Rows rows_of(const at::Tensor& features, const Options& options);

/// Form `paper` with labels: a float64 scalar.
at::Tensor supervised(const Rows& rows, const Options& options);

/// ArgumentRange on a temperature or hard negatives that cannot be.
void check_weights(const Options& options);

/// ArgumentRange on a temperature at which similarities of rows, the largest square given, have no precision left in the dtype: the error of an exponent is 1.
void check_precision(double largest_square, at::ScalarType dtype, const Options& options);
void check_precision(const Rows& rows, const Options& options);

/// Every row divided by its length; one of zeros stays.
at::Tensor normalized(const at::Tensor& rows);

/// Codes of the rows for the kernels: 2 * group + (1 in the adversarial view). groups is int32 [batch]; the image's number by default.
at::Tensor row_codes(int64_t batch, int64_t views, int64_t adversarial_view, const std::optional<at::Tensor>& groups = {});

/// [..., V, V] -> [..., V, V - 1]: without the diagonal, in order.
at::Tensor off_diagonal(const at::Tensor& x);

/// -log(e^x_k / (c sum_l e^x_l + e^rest)) for each positive k of every anchor: x [batch, views, P], rest [batch, views]. It keeps its relative precision,
/// gradient included, when positive k outweighs everything else: log c + softplus(log of the others - x_k - log c), never log of a sum minus x.
at::Tensor cross_entropy(const at::Tensor& x, const at::Tensor& rest, double log_c = 0);

/// log Neg of each anchor with hard negatives: log max((e^weighed - tau |N| e^log_positive) / (1 - tau), |N| e^{-1/t}), the floor being the least that |N|
/// negatives can weigh. weighed = log sum_k w_k e^{s_k}, log_count = log |N|, log_positive = log mean_{j in P} e^{s_j}.
at::Tensor debiased(const at::Tensor& weighed, const at::Tensor& log_count, const at::Tensor& log_positive, const Options& options);

}  // namespace a_infonce::objective

#include "objective/algebra.h"
#include <ATen/ops/arange.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/logsumexp.h>

namespace a_infonce::objective {

using at::Tensor;

Tensor row_codes(int64_t batch, int64_t views, int64_t adversarial_view, const std::optional<Tensor>& groups) {
  const Tensor codes = 2 * (groups ? *groups : at::arange(batch, at::kInt)).repeat({views});
  if (adversarial_view >= 0) codes.narrow(0, adversarial_view * batch, batch).add_(1);
  return codes;
}

Tensor off_diagonal(const Tensor& x) {
  const int64_t views = x.size(-1);
  // Without its first element, row v of the flattened matrix (stride V + 1) holds the V elements between two diagonal ones, then a diagonal one.
  std::vector<int64_t> shape = x.sizes().vec();
  shape[shape.size() - 1] = views - 1;
  return x.flatten(-2).slice(-1, 1).unflatten(-1, {views - 1, views + 1}).slice(-1, 0, views).reshape(shape);
}

Tensor by_image(const Tensor& rows, int64_t views) { return rows.view({views, -1}).t(); }
Tensor by_row(const Tensor& images) { return images.t().reshape({-1}); }

Tensor cross_entropy(const Tensor& x, const Tensor& rest, double log_c) {
  const int64_t positives = x.size(-1);
  Tensor others = rest.unsqueeze(-1);
  if (positives > 1) {
    const Tensor each = off_diagonal(x.unsqueeze(-2).expand({x.size(0), x.size(1), positives, positives}));
    others = at::logaddexp(others, each.logsumexp(-1) + log_c);
  }
  return log_c - at::log_sigmoid(x + log_c - others);
}

}  // namespace a_infonce::objective

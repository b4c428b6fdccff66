#include "objective/queue.h"
#include <ATen/ops/full_like.h>
#include <torch/library.h>
#include <cmath>
#include "describe.h"
#include "dtype.h"
#include "error.h"
#include "objective/algebra.h"
#include "ops/similarity.h"

namespace a_infonce {

using at::Tensor;

namespace {

/// [rows, dim], finite, in the queries' dtype; normalised.
Tensor rows_of(const Tensor& x, const char* name, const Tensor& queries, int64_t rows) {
  if (x.scalar_type() != queries.scalar_type() || !(x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble))
    throw Error(ErrorKind::ArgumentType, name, "a float32 or float64 tensor, all of one dtype", dtype_name(x.scalar_type()));
  require_range(x.dim() == 2 && x.size(0) > 0 && x.size(1) > 0, name, "shape [rows, dim], neither of them 0", "shape " + shape_text(x.sizes()));
  require_range(x.size(1) == queries.size(1) && (rows < 0 || x.size(0) == rows), name,
                "shape [" + (rows < 0 ? "rows" : std::to_string(rows)) + ", " + std::to_string(queries.size(1)) + "], as the queries have", "shape " + shape_text(x.sizes()));
  ops::require_finite_rows(x.detach(), name);
  return objective::normalized(x);
}

}  // namespace

Tensor queue_loss(const Tensor& queries, const Tensor& keys, const Tensor& queue, const objective::Options& options) {
  const Tensor q = rows_of(queries, "queries", queries, -1), k = rows_of(keys, "keys", queries, q.size(0)), columns = rows_of(queue, "queue", queries, -1);
  objective::check_weights(options);
  objective::check_precision(1, queries.scalar_type(), options);
  const double scale = 1 / options.temperature;
  const Tensor positive = (q.to(at::kDouble) * k.to(at::kDouble)).sum(1) * scale;
  const Tensor s = (q.mm(columns.t()) * scale).to(at::kDouble);
  Tensor negatives = s.logsumexp(1);
  if (options.hard_negative) {
    const double beta = options.hard_negative->beta;
    const Tensor log_count = at::full_like(positive.detach(), std::log(static_cast<double>(columns.size(0))));
    if (beta != 0) negatives = (s * (1 + beta)).logsumexp(1) - (s * beta).logsumexp(1) + log_count;
    negatives = objective::debiased(negatives, log_count, positive, options);
  }
  // [B, 1] anchors with one positive each.
  return objective::cross_entropy(positive.view({-1, 1, 1}), negatives.view({-1, 1})).mean().to(queries.scalar_type());
}

TORCH_LIBRARY_FRAGMENT(a_infonce, m) {
  m.def("queue_loss(Tensor queries, Tensor keys, Tensor queue, *, float temperature=0.5, float? beta=None, float tau_plus=0) -> Tensor",
        [](const Tensor& queries, const Tensor& keys, const Tensor& queue, double temperature, std::optional<double> beta, double tau_plus) {
          objective::Options options;
          options.temperature = temperature;
          if (beta) options.hard_negative = {*beta, tau_plus};
          return queue_loss(queries, keys, queue, options);
        });
}

}  // namespace a_infonce

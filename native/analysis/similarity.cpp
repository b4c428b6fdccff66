#include "similarity.h"
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/zeros.h>
#include <algorithm>
#include <cmath>
#include <limits>
#include "cancellation.h"
#include "describe.h"
#include "error.h"
#include "nn/network.h"
#include "ops/similarity.h"

namespace a_infonce::analysis {
namespace {

constexpr int64_t kBlock = 256;

void require_matrix(const at::Tensor& x, const char* name) {
  require_range(x.dim() == 2 && x.is_floating_point() && x.size(0) >= 2, name, "floating point [n, d] with n of at least 2", shape_text(x.sizes()));
}

/// Rows of length 1 in float64, on the CPU; a row of zeros stays one.
at::Tensor unit_rows(const at::Tensor& x) {
  const at::Tensor rows = x.to(at::kCPU, at::kDouble);
  return rows.div(rows.norm(2, {1}, true).clamp_min_(std::numeric_limits<double>::min())).contiguous();
}

}  // namespace

at::Tensor embed(nn::Model& model, const at::Tensor& images, int64_t batch_size) {
  require_range(images.dim() == 4 && images.size(0) > 0, "images", "[N, C, H, W]", shape_text(images.sizes()));
  require_range(batch_size >= 1, "batchSize", "at least 1", std::to_string(batch_size));
  const at::NoGradGuard no_grad;
  const nn::ModeGuard eval(model, false);
  const c10::Device device = model.device().value_or(images.device());
  std::vector<at::Tensor> embeddings;
  for (int64_t start = 0; start < images.size(0); start += batch_size) {
    check_cancelled();
    const at::Tensor batch = images.slice(0, start, start + batch_size).to(device);
    embeddings.push_back(nn::embedding(model, batch));
    const auto sizes = embeddings.back().sizes();
    require_range(sizes.size() == 2 && sizes[0] == batch.size(0), "model's output", "[N, D] for N = " + std::to_string(batch.size(0)), shape_text(sizes));
  }
  const at::Tensor result = at::cat(embeddings);
  ops::require_finite_rows(result, "embeddings");
  return result;
}

Pairs pairs(const at::Tensor& rows, const at::Tensor& gallery, int64_t k, int64_t bins, bool exclude_own) {
  require_matrix(rows, "rows");
  require_range(gallery.sizes() == rows.sizes() && gallery.is_floating_point(), "gallery", shape_text(rows.sizes()), shape_text(gallery.sizes()));
  const int64_t n = rows.size(0), most = n - (exclude_own ? 1 : 0);
  require_range(k >= 1 && k <= most, "k", "from 1 to " + std::to_string(most), std::to_string(k));
  require_range(bins >= 1, "bins", "at least 1", std::to_string(bins));
  const at::NoGradGuard no_grad;
  const at::Tensor u = unit_rows(rows), v = unit_rows(gallery).t();
  Pairs result{.own = at::empty({n}, at::kDouble), .nearest = at::empty({n, k}, at::kLong), .nearest_similarity = at::empty({n, k}, at::kDouble),
               .counts = at::zeros({bins}, at::kLong)};
  auto* own = result.own.mutable_data_ptr<double>();
  auto* counts = result.counts.mutable_data_ptr<int64_t>();
  double sum = 0, potential = 0;
  for (int64_t start = 0; start < n; start += kBlock) {
    check_cancelled();
    at::Tensor block = at::matmul(u.slice(0, start, start + kBlock), v).clamp_(-1, 1).contiguous();
    auto* similarity = block.mutable_data_ptr<double>();
    for (int64_t i = start; i < start + block.size(0); ++i, similarity += n) {
      double row_sum = 0, row_potential = 0;
      for (int64_t j = 0; j < n; ++j) {
        if (j == i) continue;
        const double s = similarity[j];
        ++counts[std::min(bins - 1, static_cast<int64_t>((s + 1) / 2 * bins))];
        row_sum += s;
        row_potential += std::exp(4 * (s - 1));  // |u - v|^2 = 2 - 2 s
      }
      sum += row_sum;
      potential += row_potential;
      own[i] = similarity[i];
      if (exclude_own) similarity[i] = -std::numeric_limits<double>::infinity();
    }
    const auto [values, indices] = block.topk(k, 1);
    result.nearest.slice(0, start, start + kBlock).copy_(indices);
    result.nearest_similarity.slice(0, start, start + kBlock).copy_(values);
  }
  const double negatives = static_cast<double>(n) * static_cast<double>(n - 1);
  result.mean = sum / negatives;
  result.uniformity = std::log(potential / negatives);
  return result;
}

Principal principal(const at::Tensor& fitted, const at::Tensor& points, int64_t k) {
  require_matrix(fitted, "fitted");
  require_range(points.dim() == 2 && points.size(1) == fitted.size(1), "points", "[m, " + std::to_string(fitted.size(1)) + "]", shape_text(points.sizes()));
  require_range(k >= 1 && k <= fitted.size(1), "k", "from 1 to " + std::to_string(fitted.size(1)), std::to_string(k));
  const at::NoGradGuard no_grad;
  const at::Tensor x = fitted.to(at::kCPU, at::kDouble), mean = x.mean(0, true), centred = x.sub(mean);
  const auto [variances, axes] = at::linalg_eigh(at::matmul(centred.t(), centred));  // ascending
  at::Tensor chosen = axes.narrow(1, axes.size(1) - k, k).flip({1});
  const at::Tensor largest = chosen.gather(0, chosen.abs().argmax(0, true));
  chosen = chosen.mul(largest.sign());
  const at::Tensor share = variances.narrow(0, variances.size(0) - k, k).flip({0}).clamp_min(0).div(variances.sum().clamp_min(std::numeric_limits<double>::min()));
  return {at::matmul(points.to(at::kCPU, at::kDouble).sub(mean), chosen), share};
}

}  // namespace a_infonce::analysis

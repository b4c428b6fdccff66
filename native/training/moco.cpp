#include "moco.h"
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include "../describe.h"
#include "../error.h"
#include "../objective/algebra.h"
#include "../objective/queue.h"
#include "../transfer.h"
#include "sampling.h"
#include "simclr.h"

namespace a_infonce::training {
namespace {

/// Projections of the images, a group at a time.
at::Tensor project(nn::Network& network, const at::Tensor& images, int64_t groups, const Check& check) {
  std::vector<at::Tensor> rows;
  for (const auto& group : images.tensor_split(groups)) {
    rows.push_back(network.forward(group, "", nn::Network::Output::Projection));
    check();
  }
  return at::cat(rows);
}

void follow(nn::Network& keys, const nn::Network& network, double momentum) {
  const auto parameters = [](const nn::Network& of) {
    std::vector<at::Tensor> result;
    for (const auto& entry : of.state())
      if (entry.parameter) result.push_back(entry.tensor);
    return result;
  };
  const auto to = parameters(keys);
  at::_foreach_mul_(to, momentum);
  at::_foreach_add_(to, parameters(network), 1 - momentum);
}

}  // namespace

at::Tensor moco_loss(nn::Network& network, nn::Network& keys, const at::Tensor& queue, const at::Tensor& view1, const at::Tensor& view2,
                     const MocoOptions& options, Values& values, const Check& check) {
  require_range(options.groups >= 1, "groups", "at least 1", std::to_string(options.groups));
  require_views(view1, view2, 2 * options.groups);
  const int64_t batch = view1.size(0), size = queue.size(0);
  require_range(batch <= size, "queue", "at least " + std::to_string(batch) + " rows, one an image of the batch", std::to_string(size));

  network.set_training(true);
  const at::Tensor queries = project(network, view1, options.groups, check);
  at::Tensor key;
  {
    const at::NoGradGuard no_grad;
    follow(keys, network, options.momentum);
    const auto order = permutation(batch, options.seed, 0);
    at::Tensor rows = at::empty({batch}, at::kLong);
    std::copy(order.begin(), order.end(), rows.mutable_data_ptr<int64_t>());
    rows = brought(rows, view2.device());
    const nn::ModeGuard train(keys, true);
    const at::Tensor shuffled = project(keys, view2.index_select(0, rows), options.groups, check);
    key = objective::normalized(at::empty_like(shuffled).index_copy_(0, rows, shuffled));
  }
  const at::Tensor contrastive = queue_loss(queries, key, queue, options.objective);
  queue.index_copy_(0, at::arange(options.pointer, options.pointer + batch, queue.options().dtype(at::kLong)).remainder_(size), key);
  values.emplace_back("contrastive", contrastive.detach());
  return contrastive;
}

at::Tensor random_directions(int64_t rows, int64_t dim, uint64_t seed) {
  at::Tensor result = at::empty({rows, dim}, at::kFloat);
  for (int64_t row = 0; row < rows; ++row) random::fill_normal(result.mutable_data_ptr<float>() + row * dim, dim, seed, static_cast<uint64_t>(row));
  return objective::normalized(result);
}

}  // namespace a_infonce::training

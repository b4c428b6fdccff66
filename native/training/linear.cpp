#include "linear.h"
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cross_entropy_loss.h>
#include "../describe.h"
#include "../dtype.h"
#include "../error.h"
#include "../ops/image_checks.h"
#include "../transfer.h"

namespace a_infonce::training {

at::Tensor labels_there(const nn::Network& network, const at::Tensor& images, const at::Tensor& labels) {
  require_range(network.head != nullptr, "trainer", "a network with a head", "one without");
  require_range(images.dim() == 4 && images.size(0) > 0, "images", "[B, C, H, W]", "shape " + shape_text(images.sizes()));
  require_range(labels.scalar_type() == at::kLong && labels.sizes() == images.sizes().slice(0, 1), "labels", "int64 " + shape_text(images.sizes().slice(0, 1)),
                dtype_name(labels.scalar_type()) + " " + shape_text(labels.sizes()));
  const at::Tensor bounds = ops::bounds(labels).cpu();
  const int64_t lowest = bounds[0].item<int64_t>(), highest = bounds[1].item<int64_t>(), classes = network.head->weight.size(0);
  require_range(lowest >= 0 && highest < classes, "labels", "classes from 0 to " + std::to_string(classes - 1), std::to_string(lowest) + " to " + std::to_string(highest));
  return brought(labels, images.device());
}

at::Tensor linear_loss(nn::Network& network, const at::Tensor& images, const at::Tensor& given_labels, const std::optional<attack::PgdOptions>& attack, Values& values,
                       const Check& check) {
  const at::Tensor labels = labels_there(network, images, given_labels);
  network.set_training(false);
  at::Tensor learnt = images;
  if (attack) {
    // In eval mode samples do not know of each other: pieces need less memory at once.
    attack::PgdOptions pieces = *attack;
    pieces.batch_size = 256;
    attack::require_unit_range(images);
    learnt = attack::pgd(attack::cross_entropy(network, labels, network.head->weight.size(0) - 1), images, pieces, [&](int64_t, int64_t) { check(); });
  }
  at::Tensor features;
  {
    const at::NoGradGuard no_grad;
    features = network.features(learnt, network.branch);
  }
  check();
  const at::Tensor logits = network.logits(features);
  values.emplace_back("accuracy", accuracy(logits.detach(), labels));
  if (attack) values.emplace_back("perturbation", perturbation(learnt, images, attack->epsilon));
  return at::cross_entropy_loss(logits, labels);
}

}  // namespace a_infonce::training

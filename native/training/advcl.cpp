#include "advcl.h"
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/aminmax.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/pairwise_distance.h>
#include <ATen/ops/stack.h>
#include "../describe.h"
#include "../dtype.h"
#include "../error.h"
#include "../ops/deferred.h"
#include "../ops/augment.h"
#include "../transfer.h"

namespace a_infonce::training {
namespace {

constexpr const char *clean = "normal", *contrastive_branch = "pgd", *label_branch = "pgd_ce";

void check_batch(const nn::Network& network, const AdvclBatch& batch, bool labelled) {
  const auto& [aug1, aug2, org, labels] = batch;
  const auto text = [](const at::Tensor& tensor) { return "shape " + shape_text(tensor.sizes()); };
  require_range(org.dim() == 4 && org.size(0) > 1, "org", "[B, C, H, W], B at least 2", text(org));
  require_range(aug1.sizes() == org.sizes(), "aug1", text(org) + ", as org", text(aug1));
  require_range(aug2.sizes() == org.sizes(), "aug2", text(org) + ", as org", text(aug2));
  if (!labelled) return;
  const auto heads = static_cast<int64_t>(network.heads.size());
  require_range(heads > 0, "network", "heads for the pseudo-labels", "none");
  require_range(labels.defined() && labels.scalar_type() == at::kLong && labels.dim() == 2 && labels.size(0) == heads && labels.size(1) == org.size(0), "labels",
                "int64 " + shape_text({heads, org.size(0)}),
                labels.defined() ? dtype_name(labels.scalar_type()) + " " + shape_text(labels.sizes()) : "none");
  const auto [low, high] = at::aminmax(labels, /*dim=*/1);
  const at::Tensor range = at::stack({low, high}).cpu();
  for (int64_t head = 0; head < heads; ++head) {
    const int64_t lowest = range[0][head].item<int64_t>(), highest = range[1][head].item<int64_t>(), classes = network.heads[head]->weight.size(0);
    require_range(lowest >= 0 && highest < classes, "labels", "classes from 0 to " + std::to_string(classes - 1) + " for head " + std::to_string(head),
                  std::to_string(lowest) + " to " + std::to_string(highest));
  }
}

/// Mean over the heads of the cross-entropy of each with its labels: summed over the images (reduction 2), or their mean (1).
at::Tensor cross_entropy(const nn::Network& network, const at::Tensor& features, const at::Tensor& labels, int64_t reduction) {
  at::Tensor sum;
  for (size_t head = 0; head < network.heads.size(); ++head) {
    const at::Tensor loss = at::cross_entropy_loss(network.heads[head]->forward(features), labels[static_cast<int64_t>(head)], {}, reduction);
    sum = sum.defined() ? sum + loss : loss;
  }
  return sum / static_cast<double>(network.heads.size());
}

double alpha_of(double least, const AdaptiveAlpha& adaptive, double distance) {
  const auto& [d_min, d_max] = adaptive;
  if (!d_max || distance >= *d_max) return least;
  return distance < d_min ? 0.5 : least + (*d_max - distance) / (*d_max - d_min) * (0.5 - least);
}

}  // namespace

at::Tensor advcl_loss(nn::Network& network, const AdvclBatch& batch, const AdvclOptions& options, Values& values, const Check& check) {
  const auto& [aug1, aug2, org, given_labels] = batch;
  const bool labelled = options.label_weight != 0;
  check_batch(network, batch, labelled);
  const at::Tensor labels = labelled ? brought(given_labels, org.device()) : at::Tensor();
  const int64_t n = org.size(0);
  network.set_training(true);
  const auto project = [&](const at::Tensor& images, const char* branch) { return network.forward(images, branch, nn::Network::Output::Projection); };

  // Weights and batch statistics are those of every attack step and of the loss: one forward serves them all.
  nn::StatisticsTape tape;
  std::vector<at::Tensor> cleans;
  {
    const auto recording = tape.record();
    for (const at::Tensor& view : {aug1, aug2, ops::high_frequency(org, options.high_frequency_radius)}) {
      cleans.push_back(project(view, clean));
      check();
    }
  }
  const at::Tensor clean_rows = at::cat(cleans);

  struct Adversaries {
    at::Tensor contrastive;  // [adversary, clean views]
    at::Tensor label_features;
  };
  // Both adversaries through their branches, the clean views by the tape: the order in which the running statistics move.
  const auto forward = [&](const at::Tensor& x_adv, const at::Tensor& known) {
    Adversaries result;
    const auto parts = x_adv.split(n);  // slices would each pass the gradient on amid zeros
    result.contrastive = at::cat({project(parts[0], contrastive_branch), known});
    if (labelled) {
      result.label_features = network.features(parts[1], label_branch);
      const at::NoGradGuard no_grad;
      network.project(result.label_features);  // which nothing reads: the released code's BatchNorm saw it
    }
    tape.replay();
    return result;
  };

  objective::Options plain = options.objective;
  plain.alpha.reset();
  plain.hard_negative.reset();
  attack::PgdOptions ascent = options.attack;
  // The second adversary of an image has a random stream of its own: the complement of its number.
  if (labelled) ascent.samples = at::cat({ascent.samples, ascent.samples.bitwise_not()});
  const at::Tensor known = clean_rows.detach();
  const at::Tensor x_adv = attack::pgd(
      [&](const at::Tensor& x, int64_t) {
        const Adversaries adversaries = forward(x, known);
        const at::Tensor loss = a_infonce(adversaries.contrastive, plain);
        return attack::Outcome(labelled ? loss.add(cross_entropy(network, adversaries.label_features, labels, 2), options.label_weight) : loss);
      },
      labelled ? at::cat({org, org}) : org, ascent, [&](int64_t, int64_t) { check(); });

  const Adversaries adversaries = forward(x_adv, clean_rows);
  check();
  objective::Options objective = options.objective;
  double distance = 0;
  if (options.adaptive) {
    const at::NoGradGuard no_grad;
    const at::Tensor from = network.features(org, clean);
    distance = ops::DeferredChecks::read(at::pairwise_distance(from, network.features(x_adv.slice(0, 0, n), clean)).mean());
    objective.alpha = alpha_of(*objective.alpha, *options.adaptive, distance);
  }
  const at::Tensor contrastive = a_infonce(adversaries.contrastive, objective);
  check();

  values.emplace_back("contrastive", contrastive.detach());
  at::Tensor loss = contrastive;
  if (labelled) {
    const at::Tensor labels_loss = cross_entropy(network, adversaries.label_features, labels, 1);
    values.emplace_back("crossEntropy", labels_loss.detach());
    loss = contrastive.add(labels_loss, options.label_weight);
  }
  values.emplace_back("perturbation", perturbation(x_adv.slice(0, 0, n), org, options.attack.epsilon));
  if (objective.alpha) values.emplace_back("alpha", *objective.alpha);
  if (options.adaptive) values.emplace_back("distance", distance);
  return loss;
}

}  // namespace a_infonce::training

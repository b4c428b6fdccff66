#include "rocl.h"
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>
#include "../describe.h"
#include "../error.h"

namespace a_infonce::training {
namespace {

std::string text(const at::Tensor& tensor) {
  return "shape " + shape_text(tensor.sizes());
}

/// Two-view NT-Xent in form `rocl`, each group of rows by itself, averaged over the groups.
at::Tensor nt_xent(const at::Tensor& adversary, const at::Tensor& clean, const RoclOptions& options) {
  objective::Options pair;
  pair.views = 2;
  pair.form = objective::Form::RoCL;
  pair.temperature = options.objective.temperature;
  if (options.groups == 1) return a_infonce(at::cat({adversary, clean}), pair);
  // As many groups as asked for, of sizes that differ by at most one. tensor_split would pass each gradient on amid zeros.
  std::vector<int64_t> sizes(options.groups, clean.size(0) / options.groups);
  for (int64_t group = 0; group < clean.size(0) % options.groups; ++group) ++sizes[group];
  const auto adversaries = adversary.split_with_sizes(sizes), cleans = clean.split_with_sizes(sizes);
  std::vector<at::Tensor> losses;
  for (size_t group = 0; group < sizes.size(); ++group) losses.push_back(a_infonce(at::cat({adversaries[group], cleans[group]}), pair));
  return at::stack(losses).mean();
}

}  // namespace

at::Tensor rocl_loss(nn::Network& network, const at::Tensor& view1, const at::Tensor& view2, const RoclOptions& options, Values& values,
                     const Check& check) {
  require_range(view1.dim() == 4 && view1.size(0) > 0, "view1", "[B, C, H, W]", text(view1));
  require_range(view2.sizes() == view1.sizes(), "view2", text(view1) + ", as view1", text(view2));
  require_range(options.groups >= 1 && 2 * options.groups <= view1.size(0), "groups", "1 to " + std::to_string(view1.size(0) / 2) + ", two images a group",
                std::to_string(options.groups));
  const auto projection = [&](const at::Tensor& images) { return network.forward(images, "", nn::Network::Output::Projection); };

  network.set_training(false);
  at::Tensor target;
  {
    const at::NoGradGuard no_grad;
    target = projection(view2);
  }
  const at::Tensor adversary = attack::pgd(
      [&](const at::Tensor& x_adv, int64_t) { return attack::Outcome(nt_xent(projection(x_adv), target, options)); }, view1, options.attack,
      [&](int64_t, int64_t) { check(); });

  network.set_training(true);
  at::Tensor regularizer;
  if (!options.shared_forward && options.regularizer_weight != 0) {
    const auto pair = projection(at::cat({adversary, view2})).chunk(2);
    regularizer = nt_xent(pair[0], pair[1], options);
    check();
  }
  const at::Tensor features = projection(at::cat({view1, view2, adversary}));
  const at::Tensor contrastive = a_infonce(features, options.objective);
  if (options.shared_forward && options.regularizer_weight != 0) {
    const auto rows = features.chunk(3);
    regularizer = nt_xent(rows[2], rows[1], options);
  }
  check();

  values.emplace_back("contrastive", contrastive.detach());
  if (regularizer.defined()) values.emplace_back("regularizer", regularizer.detach());
  else values.emplace_back("regularizer", 0.0);
  values.emplace_back("perturbation", perturbation(adversary, view1, options.attack.epsilon));
  return regularizer.defined() ? contrastive.add(regularizer, options.regularizer_weight) : contrastive;
}

}  // namespace a_infonce::training

#include "trades.h"
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/kl_div.h>
#include <ATen/ops/log_softmax.h>
#include "../describe.h"
#include "../error.h"
#include "../ops/perturbation.h"
#include "linear.h"

namespace a_infonce::training {
namespace {

constexpr int64_t reduction_sum = 2;

/// KL(clean || adversary), summed, of log-probabilities: where a probability has underflowed to 0 its term is 0 and so are its gradients.
at::Tensor divergence(const at::Tensor& clean, const at::Tensor& adversary) {
  return at::kl_div(adversary, clean, reduction_sum, /*log_target=*/true);
}

}  // namespace

at::Tensor noisy(const at::Tensor& images, const at::Tensor& samples, double scale, uint64_t seed) {
  require_range(samples.scalar_type() == at::kLong && samples.sizes() == images.sizes().slice(0, 1), "samples", "int64 " + shape_text(images.sizes().slice(0, 1)),
                "shape " + shape_text(samples.sizes()));
  const int64_t length = images.size(0) == 0 ? 0 : images.numel() / images.size(0);
  return images.detach().add(ops::normal(samples, length, seed).view(images.sizes()).mul_(scale).to(images.options()));
}

at::Tensor trades_loss(nn::Network& network, const at::Tensor& images, const at::Tensor& given_labels, const TradesOptions& options, Values& values, const Check& check) {
  const at::Tensor labels = labels_there(network, images, given_labels);
  const auto predict = [&](const at::Tensor& x) { return at::log_softmax(network.forward(x), 1); };

  network.set_training(false);
  at::Tensor target;
  {
    const at::NoGradGuard no_grad;
    target = predict(images);
  }
  attack::PgdOptions attack = options.attack;
  attack.start = noisy(images, attack.samples, options.start_noise, attack.seed);
  const at::Tensor adversary = attack::pgd([&](const at::Tensor& x_adv, int64_t) { return attack::Outcome(divergence(target, predict(x_adv))); }, images, attack,
                                           [&](int64_t, int64_t) { check(); });

  network.set_training(true);
  const at::Tensor logits = network.forward(images);
  check();
  const at::Tensor robust = divergence(at::log_softmax(logits, 1), predict(adversary)).div(images.size(0));
  check();
  const at::Tensor natural = at::cross_entropy_loss(logits, labels);

  values.emplace_back("natural", natural.detach());
  values.emplace_back("robust", robust.detach());
  values.emplace_back("accuracy", accuracy(logits.detach(), labels));
  values.emplace_back("perturbation", perturbation(adversary, images, attack.epsilon));
  return natural.add(robust, options.beta);
}

}  // namespace a_infonce::training

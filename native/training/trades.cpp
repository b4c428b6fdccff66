#include "trades.h"
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/kl_div.h>
#include <ATen/ops/log_softmax.h>
#include "../describe.h"
#include "../error.h"
#include "../kernels/random.h"
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
  at::Tensor noise = at::empty(images.sizes(), at::kDouble);
  const at::Tensor numbers = samples.cpu().contiguous();
  const int64_t length = images.size(0) == 0 ? 0 : images.numel() / images.size(0);
  double* const out = noise.mutable_data_ptr<double>();
  const int64_t* const number = numbers.const_data_ptr<int64_t>();
  at::parallel_for(0, images.size(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) random::fill_normal(out + row * length, length, seed, static_cast<uint64_t>(number[row]));
  });
  return images.detach().add(noise.mul_(scale).to(images.options()));
}

at::Tensor trades_loss(nn::Network& network, const at::Tensor& images, const at::Tensor& labels, const TradesOptions& options, Values& values, const Check& check) {
  require_labelled(network, images, labels);
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

  values.emplace_back("natural", natural.item<double>());
  values.emplace_back("robust", robust.item<double>());
  values.emplace_back("accuracy", logits.argmax(1).eq(labels).sum().item<double>() / static_cast<double>(labels.size(0)));
  values.emplace_back("perturbation", attack.epsilon > 0 ? adversary.sub(images).abs().mean().item<double>() / attack.epsilon : 0);
  return natural.add(robust, options.beta);
}

}  // namespace a_infonce::training

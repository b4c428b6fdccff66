#include "acl.h"
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include "../describe.h"
#include "../error.h"
#include "../objective/algebra.h"
#include "simclr.h"

namespace a_infonce::training {
namespace {

at::Tensor log_probabilities(const at::Tensor& x, const at::Tensor& y, double temperature) { return ((x * y).sum(1) / temperature).log_softmax(0); }

/// sum_i q_i (log q_i - p_i)
at::Tensor divergence(const at::Tensor& log_p, const at::Tensor& log_q) { return (log_q.exp() * (log_q - log_p.exp())).sum(); }

}  // namespace

at::Tensor acl_loss(nn::Network& network, const at::Tensor& view1, const at::Tensor& view2, const at::Tensor& original, const AclOptions& options,
                    Values& values, const Check& check) {
  require_views(view1, view2);
  const auto projection = [&](const at::Tensor& images, const char* branch) { return network.forward(images, branch, nn::Network::Output::Projection); };
  const at::Tensor views = at::cat({view1, view2});
  attack::PgdOptions attack = options.attack;
  if (attack.samples.defined()) attack.samples = at::cat({attack.samples * 2, attack.samples * 2 + 1});  // the two views of an image start apart

  network.set_training(false);
  const at::Tensor adversaries = attack::pgd(
      [&](const at::Tensor& x_adv, int64_t) { return attack::Outcome(a_infonce(projection(x_adv, "pgd"), options.objective)); }, views, attack,
      [&](int64_t, int64_t) { check(); });

  network.set_training(true);
  const at::Tensor a = projection(adversaries, "pgd");
  check();
  const at::Tensor z = projection(views, "normal");
  const at::Tensor adversarial = a_infonce(a, options.objective), clean = a_infonce(z, options.objective);
  check();
  values.emplace_back("clean", clean.detach());
  values.emplace_back("adversarial", adversarial.detach());
  at::Tensor loss = clean * (2 - options.adversarial_weight) + adversarial * options.adversarial_weight;
  if (options.invariance) {
    require_range(original.defined() && original.sizes() == view1.sizes(), "original", "shape " + shape_text(view1.sizes()) + ", as view1",
                  original.defined() ? "shape " + shape_text(original.sizes()) : "nothing");
    const double t = options.objective.temperature;
    const at::Tensor o = objective::normalized(projection(original, "normal"));
    const auto zs = objective::normalized(z).chunk(2), as = objective::normalized(a).chunk(2);
    const auto standard = [&](size_t i) { return log_probabilities(zs[i], o, t); };
    const auto robust = [&](size_t i) { return log_probabilities(as[i], o, t) + log_probabilities(as[i], zs[i], t); };
    const at::Tensor r1 = divergence(standard(0), standard(1)), r2 = divergence(robust(0), robust(1));
    loss = loss + r1 * options.invariance->standard + r2 * options.invariance->adversarial;
    values.emplace_back("standardInvariance", r1.detach());
    values.emplace_back("adversarialInvariance", r2.detach());
  }
  values.emplace_back("perturbation", perturbation(adversaries, views, options.attack.epsilon));
  return options.invariance ? loss : loss / 2;
}

}  // namespace a_infonce::training

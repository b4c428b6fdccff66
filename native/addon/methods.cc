#include "methods.h"
#include <map>
#include "../error.h"
#include "../training/acl.h"
#include "../training/advcl.h"
#include "../training/linear.h"
#include "../training/moco.h"
#include "../training/rocl.h"
#include "../training/simclr.h"
#include "../training/trades.h"
#include "attack_options.h"
#include "model_handle.h"

namespace a_infonce::addon {
namespace {

/// `released` is the form unless the options ask for the paper's, `adversarial` the view of the adversaries, if there is one.
objective::Options objective_options(const Options& step, objective::Form released, int64_t views, std::optional<int64_t> adversarial = {}) {
  const Options given(step.value("objective"), "objective");
  objective::Options options;
  options.views = views;
  options.adversarial_view = adversarial;
  options.form = given.has("form") && given.string("form") == "paper" ? objective::Form::Paper : released;
  options.temperature = given.number("temperature");
  if (given.has("inferiorPositive")) {
    const Options positive(given.value("inferiorPositive"), "inferiorPositive");
    options.alpha = positive.number("alpha");
    options.weight = positive.number("weight");
  }
  if (given.has("hardNegative")) {
    const Options negative(given.value("hardNegative"), "hardNegative");
    options.hard_negative = objective::HardNegative{.beta = negative.number("beta"), .tau_plus = negative.number("tauPlus")};
  }
  return options;
}

attack::PgdOptions attack_options(Inputs& inputs, const Options& step) {
  attack::PgdOptions options = pgd_options(Options(step.value("attack"), "attack"));
  options.seed = static_cast<uint64_t>(step.integer("seed"));
  options.samples = inputs["samples"];
  return options;
}

Step rocl(Inputs& inputs, const Options& given) {
  const training::RoclOptions options{
      .objective = objective_options(given, objective::Form::RoCL, 3, 2), .attack = attack_options(inputs, given),
      .regularizer_weight = given.number("regularizerWeight"), .shared_forward = given.boolean("sharedForward", false), .groups = given.integer("groups")};
  return {.loss = [view1 = inputs["view1"], view2 = inputs["view2"], options](nn::Network& network, training::Values& values, const training::Check& check) {
    return training::rocl_loss(network, view1, view2, options, values, check);
  }, .state = {}};
}

Step advcl(Inputs& inputs, const Options& given) {
  training::AdvclOptions options{
      .objective = objective_options(given, objective::Form::AdvCL, 4, 0), .adaptive = {}, .attack = attack_options(inputs, given),
      .label_weight = given.number("labelWeight"), .high_frequency_radius = given.number("highFrequencyRadius")};
  options.objective.normalize = true;
  if (given.has("adaptive")) {
    const Options adaptive(given.value("adaptive"), "adaptive");
    options.adaptive = training::AdaptiveAlpha{.d_min = adaptive.number("dMin"), .d_max = {}};
    if (adaptive.has("dMax")) options.adaptive->d_max = adaptive.number("dMax");
  }
  const training::AdvclBatch batch{inputs["aug1"], inputs["aug2"], inputs["org"], inputs.has("labels") ? inputs.where_it_is("labels") : at::Tensor()};
  return {.loss = [batch, options](nn::Network& network, training::Values& values, const training::Check& check) {
    return training::advcl_loss(network, batch, options, values, check);
  }, .state = {}};
}

Step linear(Inputs& inputs, const Options& given) {
  std::optional<attack::PgdOptions> attack;
  if (given.has("attack")) attack = attack_options(inputs, given);
  return {.loss = [images = inputs["images"], labels = inputs.where_it_is("labels"), attack](nn::Network& network, training::Values& values, const training::Check& check) {
    return training::linear_loss(network, images, labels, attack, values, check);
  }, .state = {}};
}

Step trades(Inputs& inputs, const Options& given) {
  const training::TradesOptions options{.beta = given.number("beta"), .start_noise = given.number("startNoise"), .attack = attack_options(inputs, given)};
  return {.loss = [images = inputs["images"], labels = inputs.where_it_is("labels"), options](nn::Network& network, training::Values& values, const training::Check& check) {
    return training::trades_loss(network, images, labels, options, values, check);
  }, .state = {}};
}

Step acl(Inputs& inputs, const Options& given) {
  training::AclOptions options{
      .objective = objective_options(given, objective::Form::Paper, 2), .attack = attack_options(inputs, given),
      .adversarial_weight = given.number("adversarialWeight"), .invariance = {}};
  if (given.has("invariance")) {
    const Options invariance(given.value("invariance"), "invariance");
    options.invariance = {.standard = invariance.number("standard"), .adversarial = invariance.number("adversarial")};
  }
  const at::Tensor original = inputs.find("original").value_or(at::Tensor());
  return {.loss = [view1 = inputs["view1"], view2 = inputs["view2"], original, options](nn::Network& network, training::Values& values, const training::Check& check) {
    return training::acl_loss(network, view1, view2, original, options, values, check);
  }, .state = {}};
}

/// SimCLR; with the input `labels` (int64 [B]) supervised contrastive learning.
Step simclr(Inputs& inputs, const Options& given) {
  objective::Options options = objective_options(given, objective::Form::Paper, 2);
  options.labels = inputs.find("labels");
  const double scale = given.number("scale");
  return {.loss = [view1 = inputs["view1"], view2 = inputs["view2"], options, scale](nn::Network& network, training::Values& values, const training::Check& check) {
    return training::simclr_loss(network, view1, view2, options, scale, values, check);
  }, .state = {}};
}

Step moco(Inputs& inputs, const Options& given) {
  const training::MocoOptions options{
      .objective = objective_options(given, objective::Form::Paper, 2), .momentum = given.number("momentum"), .groups = given.integer("groups"),
      .seed = static_cast<uint64_t>(given.integer("seed")), .pointer = given.integer("pointer")};
  const auto keys = network_arg(given.value("keys"), "keys");
  const at::Tensor queue = tensor_arg(given.value("queue"), "queue");
  std::vector<at::Tensor> state = {queue};
  for (auto& entry : keys->state()) state.push_back(entry.tensor);
  return {.loss = [keys, queue, view1 = inputs["view1"], view2 = inputs["view2"], options](nn::Network& network, training::Values& values, const training::Check& check) {
    return training::moco_loss(network, *keys, queue, view1, view2, options, values, check);
  }, .state = std::move(state)};
}

const std::map<std::string, Step (*)(Inputs& inputs, const Options& options)> methods = {
    {"acl", acl}, {"advcl", advcl}, {"linear", linear}, {"moco", moco}, {"rocl", rocl}, {"simclr", simclr}, {"trades", trades}};

}  // namespace

Step read_step(const std::string& method, Inputs& inputs, const Options& options) {
  const auto found = methods.find(method);
  require_range(found != methods.end(), "method", "a method of training", "'" + method + "'");
  return found->second(inputs, options);
}

}  // namespace a_infonce::addon

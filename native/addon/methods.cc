#include "methods.h"
#include <map>
#include "../error.h"
#include "../training/linear.h"
#include "../training/rocl.h"
#include "../training/trades.h"
#include "attack_options.h"

namespace a_infonce::addon {
namespace {

at::Tensor input(const Options& inputs, const char* name) { return tensor_arg(inputs.value(name), name); }

objective::Options objective_options(const Options& step, objective::Form form, int64_t views) {
  const Options given(step.value("objective"), "objective");
  objective::Options options;
  options.views = views;
  options.form = form;
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

attack::PgdOptions attack_options(const Options& inputs, const Options& step) {
  attack::PgdOptions options = pgd_options(Options(step.value("attack"), "attack"));
  options.seed = static_cast<uint64_t>(step.integer("seed"));
  options.samples = input(inputs, "samples");
  return options;
}

Step rocl(const Options& inputs, const Options& given) {
  training::RoclOptions options;
  options.objective = objective_options(given, objective::Form::RoCL, 3);
  options.attack = attack_options(inputs, given);
  options.regularizer_weight = given.number("regularizerWeight");
  options.shared_forward = given.boolean("sharedForward", false);
  options.groups = given.integer("groups");
  return {.loss = [view1 = input(inputs, "view1"), view2 = input(inputs, "view2"), options](nn::Network& network, training::Values& values, const training::Check& check) {
    return training::rocl_loss(network, view1, view2, options, values, check);
  }, .state = {}};
}

Step linear(const Options& inputs, const Options& given) {
  std::optional<attack::PgdOptions> attack;
  if (given.has("attack")) attack = attack_options(inputs, given);
  return {.loss = [images = input(inputs, "images"), labels = input(inputs, "labels"), attack](nn::Network& network, training::Values& values, const training::Check& check) {
    return training::linear_loss(network, images, labels, attack, values, check);
  }, .state = {}};
}

Step trades(const Options& inputs, const Options& given) {
  const training::TradesOptions options{.beta = given.number("beta"), .start_noise = given.number("startNoise"), .attack = attack_options(inputs, given)};
  return {.loss = [images = input(inputs, "images"), labels = input(inputs, "labels"), options](nn::Network& network, training::Values& values, const training::Check& check) {
    return training::trades_loss(network, images, labels, options, values, check);
  }, .state = {}};
}

const std::map<std::string, Step (*)(const Options& inputs, const Options& options)> methods = {{"linear", linear}, {"rocl", rocl}, {"trades", trades}};

}  // namespace

Step read_step(const std::string& method, const Options& inputs, const Options& options) {
  const auto found = methods.find(method);
  require_range(found != methods.end(), "method", "a method of training", "'" + method + "'");
  return found->second(inputs, options);
}

}  // namespace a_infonce::addon

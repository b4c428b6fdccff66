// Training: optimizers, trainers and their steps, the order of samples.
#include <ATen/ops/empty.h>
#include <algorithm>
#include "../error.h"
#include "../transfer.h"
#include "../training/kmeans.h"
#include "../training/moco.h"
#include "../training/probe.h"
#include "../training/sampling.h"
#include "addon.h"
#include "jobs.h"
#include "methods.h"
#include "model_handle.h"

namespace a_infonce::addon {

template <>
struct HandleTag<training::Trainer> {
  static constexpr napi_type_tag tag{0x7c1f5e0a93b24d68ULL, 0x8e2d4b6f1a7c9035ULL};
  static constexpr const char* name = "Trainer";
};
template <>
struct HandleTag<training::Optimizer> {
  static constexpr napi_type_tag tag{0x2b9d6e4f8a1c4073ULL, 0xb5f0a3d7c2e91846ULL};
  static constexpr const char* name = "Optimizer";
};

namespace {

using training::NamedTensors;
using training::Trainer;

training::OptimizerOptions optimizer_options(const Napi::Value& value) {
  const Options given(value, "optimizer");
  training::OptimizerOptions options{.momentum = given.number("momentum"), .weight_decay = given.number("weightDecay"), .lars = {}};
  if (given.has("lars")) {
    const Options lars(given.value("lars"), "lars");
    options.lars = training::Lars{.trust = lars.number("trust"), .epsilon = lars.number("epsilon"), .rate_in_momentum = lars.boolean("rateInMomentum", false)};
  }
  return options;
}

NamedTensors named_tensors_arg(const Napi::Value& value, const char* name) {
  const Options given(value, name);
  NamedTensors result;
  const auto names = value.As<Napi::Object>().GetPropertyNames();
  for (uint32_t i = 0; i < names.Length(); ++i) {
    const auto key = names.Get(i).As<Napi::String>().Utf8Value();
    result.emplace_back(key, tensor_arg(given.value(key.c_str()), key.c_str()));
  }
  return result;
}

std::shared_ptr<Trainer> trainer_arg(const Napi::Value& value) {
  auto trainer = handle_arg<Trainer>(value, "trainer");
  if (!trainer) throw Error(ErrorKind::ArgumentType, "trainer", "a live Trainer", "a disposed one");
  return trainer;
}

/// A job that has the trainer to itself from now until the work is done.
Napi::Value start_exclusive(Napi::Env env, std::shared_ptr<Trainer> trainer, std::function<training::Report(Trainer&, const training::Check&)> work) {
  auto use = std::make_shared<Trainer::Use>(*trainer);
  auto network = for_job(trainer->network());
  return start_job(env, env.Undefined(), [trainer = std::move(trainer), network = std::move(network), use = std::move(use), work = std::move(work)](JobContext& job) mutable {
    const auto held = std::exchange(use, nullptr);  // given back before the promise settles
    const auto values = work(*trainer, [&] { job.check(); });
    return complete_with(Fields(values.begin(), values.end()));
  });
}

Napi::Value create_trainer(const Napi::CallbackInfo& info) {
  const std::string precision = info[3].IsUndefined() ? "full" : string_arg(info[3], "precision");
  require_range(precision == "full" || precision == "bf16", "precision", "'full' or 'bf16'", "'" + precision + "'");
  return wrap_handle(info.Env(), std::make_shared<Trainer>(network_arg(info[0], "model"), optimizer_options(info[1]), string_arg(info[2], "prefix"), precision == "bf16"));
}

/// Gives momentum and gradients back now, not when the handle is collected; a job under way keeps its trainer to the end. Harmless when repeated.
Napi::Value dispose_trainer(const Napi::CallbackInfo& info) {
  handle_arg<Trainer>(info[0], "trainer");
  info[0].As<Napi::External<std::shared_ptr<Trainer>>>().Data()->reset();
  return info.Env().Undefined();
}

Napi::Value trainer_state(const Napi::CallbackInfo& info) {
  const auto trainer = trainer_arg(info[0]);
  const Trainer::Use use(*trainer);
  const auto state = trainer->optimizer().state();
  return wrap_fields(info.Env(), Fields(state.begin(), state.end()));
}

Napi::Value load_trainer_state(const Napi::CallbackInfo& info) {
  const auto trainer = trainer_arg(info[0]);
  const Trainer::Use use(*trainer);
  trainer->optimizer().load_state(named_tensors_arg(info[1], "momentum"));
  return info.Env().Undefined();
}

Napi::Value training_step(const Napi::CallbackInfo& info) {
  const Options options(info[3], "options");
  const double lr = options.number("learningRate");
  const auto trainer = trainer_arg(info[0]);
  Inputs inputs(info[2]);
  const Step step = read_step(string_arg(info[1], "method"), inputs, options);
  return start_exclusive(info.Env(), trainer, [lr, step, inputs = inputs.taken()](Trainer& trainer, const training::Check& check) {
    const auto device = *trainer.network()->device();
    for (const at::Tensor& input : inputs)
      if (input.device() != device) input.set_data(brought(input, device));
    return trainer.step(lr, [&](nn::Network& network, training::Values& values) { return step.loss(network, values, check); }, step.state);
  });
}

Napi::Value encode(const Napi::CallbackInfo& info) {
  const at::Tensor pixels = tensor_arg(info[1], "pixels");
  const std::string branch = string_arg(info[2], "branch");
  const int64_t batch_size = integer_arg(info[3], "batchSize");
  return start_job(info.Env(), info[4], [=, model = for_job(model_arg(info[0], "encoder"))](JobContext& job) -> Completion {
    int64_t batches = 0;
    at::Tensor features = training::encode(*model, pixels, branch, batch_size, [&] {
      job.check();
      job.progress({{"done", batches++ * batch_size}, {"total", pixels.size(0)}});
    });
    return complete_with(features);
  });
}

Napi::Value kmeans(const Napi::CallbackInfo& info) {
  const at::Tensor features = tensor_arg(info[0], "features");
  const Options given(info[1], "options");
  const training::KMeansOptions options{
      .k = given.integer("k"), .mini_batch = given.boolean("miniBatch", true), .batch_size = given.integer("batchSize"), .restarts = given.integer("restarts"),
      .max_iterations = given.integer("maxIterations"), .tolerance = given.number("tolerance"), .seed = static_cast<uint64_t>(given.integer("seed"))};
  return start_job(info.Env(), info[2], [=](JobContext& job) -> Completion {
    const auto found = training::kmeans(features.cpu(), options, [&](int64_t restart, int64_t pass, double inertia) {
      job.check();
      job.progress({{"restart", restart}, {"iteration", pass}, {"inertia", inertia}});
    });
    return complete_with({{"labels", found.labels}, {"centers", found.centers}, {"inertia", found.inertia}, {"history", found.history}});
  });
}

Napi::Value estimate_statistics(const Napi::CallbackInfo& info) {
  const at::Tensor pixels = tensor_arg(info[1], "pixels");
  const std::string branch = string_arg(info[2], "branch");
  const int64_t batch_size = integer_arg(info[3], "batchSize");
  return start_job(info.Env(), info.Env().Undefined(), [=, network = for_job(network_arg(info[0], "encoder"))](JobContext& job) -> Completion {
    training::estimate_statistics(*network, pixels, branch, batch_size, [&] { job.check(); });
    return [](Napi::Env env) { return env.Undefined(); };
  });
}

Napi::Value probe_epoch(const Napi::CallbackInfo& info) {
  const at::Tensor features = tensor_arg(info[1], "features"), labels = tensor_arg(info[2], "labels"), order = tensor_arg(info[3], "order");
  const int64_t batch_size = integer_arg(info[4], "batchSize");
  const double lr = number_arg(info[5], "learningRate");
  return start_exclusive(info.Env(), trainer_arg(info[0]), [=](Trainer& trainer, const training::Check& check) {
    return training::probe_epoch(trainer, features, labels, order, batch_size, lr, check);
  });
}

Napi::Value permutation(const Napi::CallbackInfo& info) {
  const int64_t n = integer_arg(info[0], "n");
  require_range(n >= 0, "n", "at least 0", std::to_string(n));
  const auto order = training::permutation(n, static_cast<uint64_t>(integer_arg(info[1], "seed")), static_cast<uint64_t>(integer_arg(info[2], "stream")));
  at::Tensor result = at::empty({n}, at::kLong);
  std::copy(order.begin(), order.end(), result.mutable_data_ptr<int64_t>());
  return wrap_tensor(info.Env(), result);
}

Napi::Value random_directions(const Napi::CallbackInfo& info) {
  return wrap_tensor(info.Env(), training::random_directions(integer_arg(info[0], "rows"), integer_arg(info[1], "dim"), static_cast<uint64_t>(integer_arg(info[2], "seed"))));
}

Napi::Value create_optimizer(const Napi::CallbackInfo& info) {
  NamedTensors parameters = named_tensors_arg(info[0], "parameters");
  for (const auto& [name, parameter] : parameters)
    if (!parameter.is_leaf() || !parameter.requires_grad())
      throw Error(ErrorKind::ArgumentRange, "parameters." + name, "a leaf that requires grad", parameter.is_leaf() ? "one that does not" : "a result of an operator");
  return wrap_handle(info.Env(), std::make_shared<training::Optimizer>(std::move(parameters), optimizer_options(info[1])));
}

Napi::Value optimizer_step(const Napi::CallbackInfo& info) {
  handle_arg<training::Optimizer>(info[0], "optimizer")->step(number_arg(info[1], "learningRate"));
  return info.Env().Undefined();
}

Napi::Value optimizer_zero_grad(const Napi::CallbackInfo& info) {
  handle_arg<training::Optimizer>(info[0], "optimizer")->zero_grad();
  return info.Env().Undefined();
}

Napi::Value optimizer_state(const Napi::CallbackInfo& info) {
  const auto state = handle_arg<training::Optimizer>(info[0], "optimizer")->state();
  return wrap_fields(info.Env(), Fields(state.begin(), state.end()));
}

Napi::Value load_optimizer_state(const Napi::CallbackInfo& info) {
  handle_arg<training::Optimizer>(info[0], "optimizer")->load_state(named_tensors_arg(info[1], "state"));
  return info.Env().Undefined();
}

}  // namespace

void export_training(Napi::Env env, Napi::Object exports) {
  export_function(env, exports, "create_trainer", create_trainer);
  export_function(env, exports, "dispose_trainer", dispose_trainer);
  export_function(env, exports, "trainer_state", trainer_state);
  export_function(env, exports, "load_trainer_state", load_trainer_state);
  export_function(env, exports, "training_step", training_step);
  export_function(env, exports, "encode", encode);
  export_function(env, exports, "kmeans", kmeans);
  export_function(env, exports, "estimate_statistics", estimate_statistics);
  export_function(env, exports, "probe_epoch", probe_epoch);
  export_function(env, exports, "permutation", permutation);
  export_function(env, exports, "random_directions", random_directions);
  export_function(env, exports, "create_optimizer", create_optimizer);
  export_function(env, exports, "optimizer_step", optimizer_step);
  export_function(env, exports, "optimizer_zero_grad", optimizer_zero_grad);
  export_function(env, exports, "optimizer_state", optimizer_state);
  export_function(env, exports, "load_optimizer_state", load_optimizer_state);
}

}  // namespace a_infonce::addon

// Attacks and predictions as jobs, on native models and on models written in JavaScript.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/clone.h>
#include "../attack/apgd.h"
#include "../attack/carlini_wagner.h"
#include "../attack/fab.h"
#include "../attack/pgd.h"
#include "../attack/square.h"
#include "addon.h"
#include "attack_options.h"
#include "jobs.h"
#include "model_handle.h"

namespace a_infonce::addon {
namespace {

/// A model written in JavaScript: the forward pass runs on the JS thread, in the grad mode of the job; the graph it records serves the job.
class JavaScriptModel final : public nn::Model {
 public:
  explicit JavaScriptModel(JobContext& context) : context_(context) {}

  at::Tensor forward(const at::Tensor& images) override {
    const auto output = std::make_shared<at::Tensor>();  // outlives a cancelled job whose call is still on its way
    const bool grad_mode = at::GradMode::is_enabled();
    // A copy: the attack steps in place, and the function may keep what it was given.
    context_.call_javascript(
        [&context = context_, input = images.clone(), output, grad_mode](Napi::Env env) -> Napi::Value {
          const at::AutoGradMode mode(grad_mode);
          const auto give = Napi::Function::New(env, [output](const Napi::CallbackInfo& info) { *output = tensor_arg(info[0], "model's output"); });
          return context.callback().Call({wrap_tensor(env, input), give});
        },
        [](Napi::Value) {});
    if (!output->defined()) throw Error(ErrorKind::ArgumentType, "model", "a function that returns a Tensor", "nothing");
    return *output;
  }
  void set_training(bool) override {}
  bool training() const override { return false; }
  std::vector<nn::NamedTensor> state() const override { return {}; }

 private:
  JobContext& context_;
};

/// start_job with the model that `value` is: a handle or a function.
Napi::Value start_model_job(const Napi::Value& value, const Napi::Value& progress, std::function<Completion(JobContext&, nn::Model&)> work) {
  if (value.IsFunction())
    return start_job(value.Env(), progress, [work = std::move(work)](JobContext& context) {
      JavaScriptModel model(context);
      return work(context, model);
    }, value);
  return start_job(value.Env(), progress, [work = std::move(work), model = for_job(model_arg(value, "model"))](JobContext& context) {
    return work(context, *model);
  });
}

attack::StepCallback reporter(JobContext& context) {
  return [&context](int64_t done, int64_t total) {
    context.check();
    context.progress({{"done", static_cast<double>(done)}, {"total", static_cast<double>(total)}});
  };
}

attack::Norm norm_option(const Options& given) { return given.string("norm") == "l2" ? attack::Norm::L2 : attack::Norm::Linf; }

Napi::Value pgd(const Napi::CallbackInfo& info, const at::Tensor& images, const Options& given) {
  attack::PgdOptions options = pgd_options(given);
  options.norm = norm_option(given);
  options.restarts = given.integer("restarts");
  options.momentum = given.number("momentum");
  options.early_stop = given.boolean("earlyStop", false);
  options.graph = given.boolean("graph", false);
  options.train_mode = given.boolean("trainMode", false);
  options.seed = static_cast<uint64_t>(given.integer("seed"));
  options.batch_size = given.integer("batchSize");
  if (const auto samples = given.tensor("samples")) options.samples = *samples;
  if (const auto positives = given.tensor("positives"))
    return start_model_job(info[0], info[3], [=, temperature = given.number("temperature")](JobContext& context, nn::Model& model) {
      return complete_with(attack::pgd_contrastive(model, images, *positives, temperature, options, reporter(context)));
    });
  const bool targeted = given.boolean("targeted", false);
  return start_model_job(info[0], info[3], [=, labels = given.tensor("labels").value()](JobContext& context, nn::Model& model) {
    return complete_with(attack::pgd(model, images, labels, targeted, options, reporter(context)));
  });
}

/// What the attacks that search a ball have in common.
template <typename AttackOptions>
AttackOptions within_ball(const Options& given) {
  AttackOptions options;
  options.norm = norm_option(given);
  options.epsilon = given.number("epsilon");
  options.restarts = given.integer("restarts");
  options.seed = static_cast<uint64_t>(given.integer("seed"));
  return options;
}

attack::ApgdOptions apgd_options(const Options& given) {
  auto options = within_ball<attack::ApgdOptions>(given);
  const std::string loss = given.string("loss");
  options.loss = loss == "dlr-targeted" ? attack::ApgdLoss::TargetedDLR : loss == "dlr" ? attack::ApgdLoss::DLR : attack::ApgdLoss::CrossEntropy;
  options.steps = given.integer("steps");
  options.targets = given.integer("targets");
  options.rho = given.number("rho");
  return options;
}

attack::FabOptions fab_options(const Options& given) {
  auto options = within_ball<attack::FabOptions>(given);
  options.steps = given.integer("steps");
  options.targets = given.integer("targets");
  options.alpha_max = given.number("alphaMax");
  options.eta = given.number("eta");
  options.beta = given.number("beta");
  return options;
}

attack::SquareOptions square_options(const Options& given) {
  auto options = within_ball<attack::SquareOptions>(given);
  options.queries = given.integer("queries");
  options.p_init = given.number("pInit");
  options.rescale_schedule = given.boolean("rescaleSchedule", true);
  return options;
}

attack::CarliniWagnerOptions carlini_wagner_options(const Options& given) {
  attack::CarliniWagnerOptions options;
  if (given.has("epsilon")) options.epsilon = given.number("epsilon");
  options.steps = given.integer("steps");
  options.search_steps = given.integer("searchSteps");
  options.initial_c = given.number("initialC");
  options.learning_rate = given.number("learningRate");
  options.confidence = given.number("confidence");
  options.abort_early = given.boolean("abortEarly", true);
  options.targeted = given.boolean("targeted", false);
  return options;
}

/// The attack of that name with its options.
std::shared_ptr<const attack::Attack> make_attack(const std::string& name, const Options& given) {
  if (name == "apgd") return std::make_shared<attack::Apgd>(apgd_options(given));
  if (name == "fab") return std::make_shared<attack::Fab>(fab_options(given));
  if (name == "square") return std::make_shared<attack::Square>(square_options(given));
  if (name == "carlini-wagner") return std::make_shared<attack::CarliniWagner>(carlini_wagner_options(given));
  throw Error(ErrorKind::ArgumentRange, "options.attack", "the name of an attack", "'" + name + "'");
}

// attack(model, images, options, progress): options.attack names it, options.labels, options.samples and options.batchSize are every attack's.
Napi::Value attack_images(const Napi::CallbackInfo& info) {
  const auto images = tensor_arg(info[1], "images");
  const Options given(info[2], "options");
  const std::string name = given.string("attack");
  if (name == "pgd") return pgd(info, images, given);
  return start_model_job(info[0], info[3], [=, attack = make_attack(name, given), labels = given.tensor("labels").value(), samples = given.tensor("samples"),
                                            batch_size = given.integer("batchSize")](JobContext& context, nn::Model& model) {
    return complete_with(attack::run(*attack, model, images, labels, samples.value_or(at::Tensor()), batch_size, reporter(context)));
  });
}

Napi::Value predict(const Napi::CallbackInfo& info) {
  const auto images = tensor_arg(info[1], "images");
  const int64_t batch_size = integer_arg(info[2], "batchSize");
  return start_model_job(info[0], info[3], [=](JobContext& context, nn::Model& model) {
    const auto found = attack::predict(model, images, batch_size, reporter(context));
    return complete_with({{"predicted", found.predicted}, {"logits", found.logits}});
  });
}

Napi::Value require_unit_range(const Napi::CallbackInfo& info) {
  attack::require_unit_range(tensor_arg(info[0], "images"));
  return info.Env().Undefined();
}

}  // namespace

void export_attack(Napi::Env env, Napi::Object exports) {
  export_function(env, exports, "attack", attack_images);
  export_function(env, exports, "predict", predict);
  export_function(env, exports, "require_unit_range", require_unit_range);
}

}  // namespace a_infonce::addon

// Encoders, classifiers and TorchScript modules, behind one kind of handle.
#include "addon.h"
#include "jobs.h"
#include "model_handle.h"
#include "../device.h"
#include "../error.h"
#include "../nn/torchscript.h"

namespace a_infonce::addon {
namespace {

template <typename T, size_t N>
T choice(const std::string& value, const char* name, const std::pair<const char*, T> (&choices)[N]) {
  std::string known;
  for (const auto& [text, result] : choices) {
    if (value == text) return result;
    known += (known.empty() ? "'" : ", '") + std::string(text) + "'";
  }
  throw Error(ErrorKind::ArgumentRange, name, "one of " + known, "'" + value + "'");
}

using Config = nn::EncoderConfig;
constexpr std::pair<const char*, Config::Architecture> architectures[] = {
    {"resnet18", Config::Architecture::ResNet18}, {"resnet34", Config::Architecture::ResNet34}, {"resnet50", Config::Architecture::ResNet50}};
constexpr std::pair<const char*, Config::Stem> stems[] = {{"cifar", Config::Stem::Cifar}, {"imagenet", Config::Stem::ImageNet}};
constexpr std::pair<const char*, nn::Scheme> schemes[] = {{"framework", nn::Scheme::Framework}, {"kaiming", nn::Scheme::Kaiming}};
constexpr std::pair<const char*, nn::Network::Output> outputs[] = {
    {"features", nn::Network::Output::Features}, {"projection", nn::Network::Output::Projection}, {"logits", nn::Network::Output::Logits}};

/// For a synchronous call. Waiting could deadlock with a job that waits for this thread, so a model in use is an error.
void require_idle(nn::Model& model) { require_range(model.in_use().jobs == 0, "model", "a model that no running job uses", "one in use"); }

Napi::Value model_create(const Napi::CallbackInfo& info) {
  const Options options(info[0], "options");
  Config config;
  config.architecture = choice(options.string("architecture"), "architecture", architectures);
  config.stem = choice(options.string("stem"), "stem", stems);
  config.width = options.integer("width");
  config.channels = options.integer("channels");
  config.branches = strings_arg(options.value("branches"), "branches");
  std::optional<nn::ProjectorConfig> projector;
  if (options.has("projector")) {
    const Options given(options.value("projector"), "projector");
    projector = nn::ProjectorConfig{integers_arg(given.value("hidden"), "projector.hidden"), given.integer("output"), given.boolean("batchNorm", false)};
  }
  const auto scheme = choice(options.string("initialisation"), "initialisation", schemes);
  return wrap_handle<nn::Model>(info.Env(), nn::Network::create(config, projector, integers_arg(options.value("heads"), "heads"), scheme, static_cast<uint64_t>(options.integer("seed"))));
}

Napi::Value model_classifier(const Napi::CallbackInfo& info) {
  const auto network = network_arg(info[0], "model");
  const auto classifier = network->classifier(integer_arg(info[1], "classes"), string_arg(info[2], "branch"), static_cast<uint64_t>(integer_arg(info[3], "seed")));
  classifier->to(*network->device());
  return wrap_handle<nn::Model>(info.Env(), classifier);
}

Napi::Value model_forward(const Napi::CallbackInfo& info) {
  const auto model = model_arg(info[0], "model");
  const auto images = tensor_arg(info[1], "images");
  require_idle(*model);
  if (info[2].IsUndefined() && info[3].IsUndefined()) return wrap_tensor(info.Env(), model->forward(images));
  const auto network = network_arg(info[0], "model");
  const auto branch = info[2].IsUndefined() ? network->branch : string_arg(info[2], "branch");
  const auto output = info[3].IsUndefined() ? network->output : choice(string_arg(info[3], "output"), "output", outputs);
  return wrap_tensor(info.Env(), network->forward(images, branch, output));
}

Napi::Value model_state(const Napi::CallbackInfo& info) {
  const bool parameters_only = boolean_arg(info[1], "parametersOnly");
  auto result = Napi::Array::New(info.Env());
  for (const auto& [name, tensor, parameter] : model_arg(info[0], "model")->state()) {
    if (parameters_only && !parameter) continue;
    auto entry = Napi::Object::New(info.Env());
    entry.Set("name", name);
    entry.Set("tensor", wrap_tensor(info.Env(), tensor));
    result.Set(result.Length(), entry);
  }
  return result;
}

Napi::Array names_value(Napi::Env env, const std::vector<std::string>& names) {
  auto result = Napi::Array::New(env, names.size());
  for (uint32_t i = 0; i < names.size(); ++i) result.Set(i, names[i]);
  return result;
}

Napi::Value model_load_state(const Napi::CallbackInfo& info) {
  const auto names = strings_arg(info[1], "names");
  if (!info[2].IsArray()) throw Error(ErrorKind::ArgumentType, "tensors", "an array of tensors", "another value");
  const auto tensors = info[2].As<Napi::Array>();
  std::map<std::string, at::Tensor> values;
  for (uint32_t i = 0; i < names.size(); ++i) values.emplace(names[i], tensor_arg(tensors.Get(i), names[i].c_str()));
  const auto network = network_arg(info[0], "model");
  require_idle(*network);
  const auto loaded = network->load_state(values, boolean_arg(info[3], "strict"));
  auto result = Napi::Object::New(info.Env());
  result.Set("missing", names_value(info.Env(), loaded.missing));
  result.Set("unexpected", names_value(info.Env(), loaded.unexpected));
  return result;
}

Napi::Value model_set_training(const Napi::CallbackInfo& info) {
  const auto model = model_arg(info[0], "model");
  require_idle(*model);
  model->set_training(boolean_arg(info[1], "training"));
  return info.Env().Undefined();
}

/// The same as a job, in its turn.
Napi::Value model_set_training_in_turn(const Napi::CallbackInfo& info) {
  return start_job(info.Env(), info.Env().Undefined(), [model = for_job(model_arg(info[0], "model")), training = boolean_arg(info[1], "training")](JobContext&) -> Completion {
    const nn::Turn turn(*model);
    model->set_training(training);
    return [](Napi::Env env) { return env.Undefined(); };
  });
}

Napi::Value model_training(const Napi::CallbackInfo& info) { return Napi::Boolean::New(info.Env(), model_arg(info[0], "model")->training()); }

Napi::Value model_clone(const Napi::CallbackInfo& info) { return wrap_handle<nn::Model>(info.Env(), network_arg(info[0], "model")->clone()); }

Napi::Value model_device(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), model_arg(info[0], "model")->device().value_or(c10::kCPU).str());
}

Napi::Value model_to(const Napi::CallbackInfo& info) {
  const auto model = model_arg(info[0], "model");
  const auto device = device_named(string_arg(info[1], "device"));
  require_idle(*model);
  model->to(device);
  return info.Env().Undefined();
}

Napi::Value model_dispose(const Napi::CallbackInfo& info) {
  model_box(info[0], "model").reset();
  return info.Env().Undefined();
}

Napi::Value torchscript_load(const Napi::CallbackInfo& info) {
  if (!info[0].IsTypedArray()) throw Error(ErrorKind::ArgumentType, "bytes", "a Uint8Array", "another value");
  const auto data = info[0].As<Napi::Uint8Array>();
  std::string bytes(reinterpret_cast<const char*>(data.Data()), data.ByteLength());
  return start_job(info.Env(), info.Env().Undefined(), [bytes = std::move(bytes), name = string_arg(info[1], "name")](JobContext&) -> Completion {
    auto model = nn::load_torchscript(bytes, name);
    return [model](Napi::Env env) { return wrap_handle<nn::Model>(env, model); };
  });
}

}  // namespace

void export_model(Napi::Env env, Napi::Object exports) {
  export_function(env, exports, "model_create", model_create);
  export_function(env, exports, "model_classifier", model_classifier);
  export_function(env, exports, "model_forward", model_forward);
  export_function(env, exports, "model_state", model_state);
  export_function(env, exports, "model_load_state", model_load_state);
  export_function(env, exports, "model_set_training", model_set_training);
  export_function(env, exports, "model_set_training_in_turn", model_set_training_in_turn);
  export_function(env, exports, "model_training", model_training);
  export_function(env, exports, "model_clone", model_clone);
  export_function(env, exports, "model_device", model_device);
  export_function(env, exports, "model_to", model_to);
  export_function(env, exports, "model_dispose", model_dispose);
  export_function(env, exports, "torchscript_load", torchscript_load);
}

}  // namespace a_infonce::addon

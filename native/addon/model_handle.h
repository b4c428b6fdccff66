// How the addon's areas hand models to one another.
#pragma once
#include "convert.h"
#include "../error.h"
#include "../nn/network.h"

namespace a_infonce::addon {

template <>
struct HandleTag<nn::Model> {
  static constexpr napi_type_tag tag{0x6131f2b7c0de4d0dULL, 0x9a1e0f5b7d3c2e41ULL};
  static constexpr const char* name = "Model";
};

/// The shared pointer that the handle owns; empty once the model was disposed. A running job that took a copy keeps its model.
inline std::shared_ptr<nn::Model>& model_box(const Napi::Value& value, const char* name) {
  handle_arg<nn::Model>(value, name);
  return *value.As<Napi::External<std::shared_ptr<nn::Model>>>().Data();
}

/// The model behind a handle; throws on handles of another kind and on disposed ones.
inline std::shared_ptr<nn::Model> model_arg(const Napi::Value& value, const char* name) {
  auto model = handle_arg<nn::Model>(value, name);
  if (!model) throw Error(ErrorKind::ArgumentType, name, "a live model", "a disposed one");
  return model;
}

/// The same where only a network of ours will do.
inline std::shared_ptr<nn::Network> network_arg(const Napi::Value& value, const char* name) {
  auto network = std::dynamic_pointer_cast<nn::Network>(model_arg(value, name));
  if (!network) throw Error(ErrorKind::ArgumentType, name, "an Encoder or a Classifier", "a TorchScriptModel");
  return network;
}

/// The model for the work of a job that is about to start. Until its promise settles, what would change it or run in its mode is refused.
template <typename AnyModel>
std::shared_ptr<AnyModel> for_job(std::shared_ptr<AnyModel> model) {
  ++model->in_use().jobs;
  AnyModel* const raw = model.get();
  return {raw, [model = std::move(model)](AnyModel*) { --model->in_use().jobs; }};
}

}  // namespace a_infonce::addon

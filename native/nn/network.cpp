#include "network.h"
#include <utility>
#include "../describe.h"
#include "../dtype.h"
#include "../error.h"
#include "../transfer.h"

namespace a_infonce::nn {
namespace {

std::string list(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size() && i < 8; ++i) text += (i ? ", " : "") + names[i];
  if (names.size() > 8) text += " and " + std::to_string(names.size() - 8) + " more";
  return text.empty() ? "none" : text;
}

/// A copy whose tensors are its own.
template <typename Part>
std::shared_ptr<Part> deep_copy(const std::shared_ptr<Part>& part) {
  if (!part) return nullptr;
  auto copy = std::make_shared<Part>(*part);
  copy->visit("", [](const std::string&, at::Tensor& tensor, bool) { tensor = tensor.detach().clone().set_requires_grad(tensor.requires_grad()); });
  return copy;
}

}  // namespace

Network::Network(std::shared_ptr<Encoder> encoder, std::shared_ptr<Projector> projector, std::shared_ptr<Linear> head)
    : encoder(std::move(encoder)), projector(std::move(projector)), head(std::move(head)) {}

std::shared_ptr<Network> Network::create(const EncoderConfig& config, const std::optional<ProjectorConfig>& projector, const std::vector<int64_t>& heads, Scheme scheme,
                                         uint64_t seed) {
  Initialiser init(seed, scheme);
  auto network = std::make_shared<Network>(std::make_shared<Encoder>(config, init));
  if (projector) network->projector = std::make_shared<Projector>(config.feature_dim(), *projector, init);
  for (const int64_t classes : heads) {
    require_range(classes >= 1 && classes <= 1 << 20, "heads", "integers from 1 to 1048576", std::to_string(classes));
    network->heads.push_back(std::make_shared<Linear>(config.feature_dim(), classes, init));
  }
  return network;
}

std::shared_ptr<Network> Network::classifier(int64_t classes, const std::string& branch, uint64_t seed) const {
  require_range(classes >= 1 && classes <= 1 << 20, "classes", "an integer from 1 to 1048576", std::to_string(classes));
  encoder->branch_index(branch);
  Initialiser init(seed, Scheme::Framework);
  auto result = std::make_shared<Network>(encoder, nullptr, std::make_shared<Linear>(encoder->feature_dim(), classes, init));
  result->output = Output::Logits;
  result->branch = branch;
  return result;
}

at::Tensor Network::forward(const at::Tensor& images, const std::string& branch_name, Output what) {
  const auto x = encoder->forward(images, branch_name);
  return what == Output::Features ? x : what == Output::Projection ? project(x) : logits(x);
}

at::Tensor Network::project(const at::Tensor& features) const {
  require_range(projector != nullptr, "output", "'features'", "'projection' of a network without a projector");
  return projector->forward(features);
}

at::Tensor Network::logits(const at::Tensor& features) const {
  require_range(head != nullptr, "output", "'features'", "'logits' of a network without a head");
  return head->forward(features);
}

void Network::set_training(bool training) {
  encoder->set_training(training);
  if (projector) projector->set_training(training);
}

void Network::visit(const Visitor& visitor) const {
  encoder->visit("encoder.", visitor);
  if (projector) projector->visit("projector.", visitor);
  if (head) head->visit("head.", visitor);
  for (size_t i = 0; i < heads.size(); ++i) heads[i]->visit("heads." + std::to_string(i) + ".", visitor);
}

std::vector<NamedTensor> Network::state() const {
  std::vector<NamedTensor> result;
  visit([&](const std::string& name, at::Tensor& tensor, bool parameter) { result.push_back({name, tensor, parameter}); });
  return result;
}

Network::Loaded Network::load_state(const std::map<std::string, at::Tensor>& values, bool strict) {
  std::vector<at::Tensor> targets, sources;
  Loaded loaded;
  auto rest = values;
  for (const auto& [name, tensor, parameter] : state()) {
    const auto found = rest.find(name);
    if (found == rest.end()) {
      if (name.ends_with("num_batches_tracked")) continue;  // dictionaries older than PyTorch 0.4.1 have none, and nothing depends on it
      loaded.missing.push_back(name);
      continue;
    }
    require_range(found->second.sizes() == tensor.sizes(), name.c_str(), "shape " + shape_text(tensor.sizes()), shape_text(found->second.sizes()));
    require_range(found->second.is_floating_point() == tensor.is_floating_point(), name.c_str(), "dtype " + dtype_name(tensor.scalar_type()),
                  dtype_name(found->second.scalar_type()));
    targets.push_back(tensor), sources.push_back(found->second);
    rest.erase(found);
  }
  for (const auto& entry : rest) loaded.unexpected.push_back(entry.first);
  if (targets.empty() || (strict && !(loaded.missing.empty() && loaded.unexpected.empty())))
    throw Error(ErrorKind::ArgumentRange, "state", targets.empty() ? "names of this model" : "exactly the names of this model",
                "missing: " + list(loaded.missing) + "; unexpected: " + list(loaded.unexpected));
  copy_all(targets, sources);
  return loaded;
}

std::shared_ptr<Network> Network::clone() const {
  auto copy = std::make_shared<Network>(deep_copy(encoder), deep_copy(projector), deep_copy(head));
  for (const auto& each : heads) copy->heads.push_back(deep_copy(each));
  copy->output = output;
  copy->branch = branch;
  return copy;
}

at::Tensor embedding(Model& model, const at::Tensor& images) {
  auto* network = dynamic_cast<Network*>(&model);
  const bool project = network && network->projector && network->output == Network::Output::Features;
  return project ? network->forward(images, network->branch, Network::Output::Projection) : model.forward(images);
}

}  // namespace a_infonce::nn

// The methods of training under their names in JavaScript: what each takes of a batch and of the options, and the loss that it makes of it.
#pragma once
#include "../training/trainer.h"
#include "convert.h"

namespace a_infonce::addon {

/// A step that was read: it holds no JavaScript and runs on a job thread.
struct Step {
  std::function<at::Tensor(nn::Network& network, training::Values& values, const training::Check& check)> loss;
  std::vector<at::Tensor> state;  // tensors of the method's own that the loss changes in place (a queue, say); a step that fails puts them back
};

/// The tensors that a step takes, by name.
class Inputs {
 public:
  explicit Inputs(const Napi::Value& value) : given_(value, "inputs") {}
  at::Tensor operator[](const char* name) { return taken_.emplace_back(tensor_arg(given_.value(name), name).detach()); }
  bool has(const char* name) const { return given_.has(name); }
  std::optional<at::Tensor> find(const char* name) { return has(name) ? std::optional((*this)[name]) : std::nullopt; }
  /// One that stays where it is: the method looks at its values, for which a device would be waited for.
  at::Tensor where_it_is(const char* name) { return tensor_arg(given_.value(name), name).detach(); }
  /// The others that were read: tensors of the step's own, for the job to bring to where its network is.
  const std::vector<at::Tensor>& taken() const { return taken_; }

 private:
  Options given_;
  std::vector<at::Tensor> taken_;
};

/// Reads the step of a method (on the JS thread). Throws ArgumentRange on one that there is not.
Step read_step(const std::string& method, Inputs& inputs, const Options& options);

}  // namespace a_infonce::addon

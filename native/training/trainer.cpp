#include "trainer.h"
#include <ATen/core/grad_mode.h>
#include <ATen/ops/clone.h>
#include <cmath>
#include <optional>
#include "../error.h"

namespace a_infonce::training {
namespace {

NamedTensors select(const nn::Network& network, const std::string& prefix) {
  NamedTensors result;
  for (auto& entry : network.state())
    if (entry.parameter && entry.name.starts_with(prefix)) result.emplace_back(entry.name, entry.tensor);
  require_range(!result.empty(), "prefix", "the start of a parameter's name", "'" + prefix + "'");
  return result;
}

/// Puts running statistics, modes and gradients back unless the step got through.
class Rollback {
 public:
  Rollback(nn::Network& network, Optimizer& optimizer, std::vector<at::Tensor> buffers)
      : mode_(network, network.training()), optimizer_(optimizer), buffers_(std::move(buffers)) {
    for (const auto& buffer : buffers_) before_.push_back(buffer.clone());
  }
  ~Rollback() {
    optimizer_.zero_grad();
    if (done) return;
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < buffers_.size(); ++i) buffers_[i].copy_(before_[i]);
  }
  bool done = false;

 private:
  nn::ModeGuard mode_;
  Optimizer& optimizer_;
  const std::vector<at::Tensor> buffers_;
  std::vector<at::Tensor> before_;
};

void require_finite(double value, const char* what) {
  if (!std::isfinite(value)) throw Error(ErrorKind::NonFinite, std::string("the ") + what + " is " + (std::isnan(value) ? "NaN" : "infinite"));
}

}  // namespace

Trainer::Trainer(std::shared_ptr<nn::Network> network, OptimizerOptions options, const std::string& prefix, bool bf16)
    : network_(std::move(network)), optimizer_(select(*network_, prefix), options), bf16_(bf16) {
  if (bf16) nn::Bfloat16::require();
  for (auto& entry : network_->state())
    if (!entry.parameter && entry.name.starts_with(prefix)) buffers_.push_back(entry.tensor);
}

Values Trainer::step(double lr, const Method& method, const std::vector<at::Tensor>& state) {
  const at::AutoGradMode grad(true);
  std::vector<at::Tensor> buffers = buffers_;
  buffers.insert(buffers.end(), state.begin(), state.end());
  Rollback rollback(*network_, optimizer_, std::move(buffers));
  Values values = {{"loss", 0}};
  std::optional<nn::Bfloat16> bf16;
  if (bf16_) bf16.emplace();
  const at::Tensor loss = method(*network_, values);
  values[0].second = loss.item<double>();
  require_finite(values[0].second, "loss");
  loss.backward();
  values.emplace_back("gradientNorm", optimizer_.gradient_norm());
  require_finite(values.back().second, "gradient");
  optimizer_.step(lr);
  rollback.done = true;
  return values;
}

Trainer::Use::Use(Trainer& trainer) : trainer_(trainer) {
  require_range(!trainer.busy_.exchange(true), "trainer", "a trainer at rest", "one in the middle of a step");
}

}  // namespace a_infonce::training

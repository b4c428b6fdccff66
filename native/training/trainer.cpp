#include "trainer.h"
#include <ATen/core/grad_mode.h>
#include <ATen/ops/stack.h>
#include <cmath>
#include <optional>
#include "../error.h"
#include "../ops/deferred.h"
#include "snapshot.h"

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
  Rollback(nn::Network& network, Optimizer& optimizer, std::vector<at::Tensor> buffers) : mode_(network), optimizer_(optimizer), before_(std::move(buffers)) {}
  ~Rollback() {
    optimizer_.zero_grad();
    if (!done) before_.restore();
  }
  bool done = false;

 private:
  nn::ModeGuard mode_;
  Optimizer& optimizer_;
  const Snapshot before_;
};

void require_finite(double value, const char* what) {
  if (!std::isfinite(value)) throw Error(ErrorKind::NonFinite, std::string("the ") + what + " is " + (std::isnan(value) ? "NaN" : "infinite"));
}

/// The numbers, once what there is to check was found right: a device is waited for once.
Report read(const Values& values, ops::DeferredChecks& checks) {
  std::vector<at::Tensor> scalars;
  for (const auto& [name, value] : values)
    if (const auto* scalar = std::get_if<at::Tensor>(&value)) scalars.push_back(scalar->detach().to(at::kDouble));
  Report report;
  ops::DeferredChecks::add(at::stack(scalars), [&](const at::Tensor& numbers) {
    for (int64_t next = 0; const auto& [name, value] : values) {
      const auto* known = std::get_if<double>(&value);
      report.emplace_back(name, known ? *known : numbers[next++].item<double>());
    }
  });
  checks.settle();
  return report;
}

}  // namespace

std::variant<double, at::Tensor> perturbation(const at::Tensor& adversaries, const at::Tensor& images, double epsilon) {
  if (epsilon == 0) return 0.0;
  return adversaries.sub(images).abs_().mean().to(at::kDouble).div_(epsilon);
}

at::Tensor accuracy(const at::Tensor& logits, const at::Tensor& labels) {
  return logits.argmax(1).eq(labels).sum().to(at::kDouble).div_(static_cast<double>(labels.size(0)));
}

Trainer::Trainer(std::shared_ptr<nn::Network> network, OptimizerOptions options, const std::string& prefix, bool bf16)
    : network_(std::move(network)), optimizer_(select(*network_, prefix), options), bf16_(bf16) {
  if (bf16) nn::Bfloat16::require(optimizer_.parameters().front().second.device());
  for (auto& entry : network_->state())
    if (!entry.parameter && entry.name.starts_with(prefix)) buffers_.push_back(entry.tensor);
}

Report Trainer::step(double lr, const Method& method, const std::vector<at::Tensor>& state) {
  const at::AutoGradMode grad(true);
  std::vector<at::Tensor> buffers = buffers_;
  buffers.insert(buffers.end(), state.begin(), state.end());
  Rollback rollback(*network_, optimizer_, std::move(buffers));
  Values values(1);
  std::optional<nn::Bfloat16> bf16;
  if (bf16_) bf16.emplace();
  ops::DeferredChecks checks;
  const at::Tensor loss = method(*network_, values);
  if (loss.is_cpu()) checks.settle(), require_finite(loss.item<double>(), "loss");  // a device would be waited for
  loss.backward();
  values[0] = {"loss", loss.detach()};
  values.emplace_back("gradientNorm", optimizer_.gradient_norm());
  Report report = read(values, checks);
  require_finite(report.front().second, "loss"), require_finite(report.back().second, "gradient");
  optimizer_.step(lr);
  rollback.done = true;
  return report;
}

Trainer::Use::Use(Trainer& trainer) : trainer_(trainer) {
  require_range(!trainer.busy_.exchange(true), "trainer", "a trainer at rest", "one in the middle of a step");
}

}  // namespace a_infonce::training

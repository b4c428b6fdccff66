#include "probe.h"
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/zeros.h>
#include <exception>
#include "../describe.h"
#include "../dtype.h"
#include "../error.h"
#include "../ops/deferred.h"
#include "../ops/image_checks.h"
#include "../transfer.h"
#include "snapshot.h"

namespace a_infonce::training {
namespace {

std::string text(at::IntArrayRef shape) {
  return "shape " + shape_text(shape);
}

void require_indices(const at::Tensor& tensor, const char* name, int64_t limit) {
  require_range(tensor.scalar_type() == at::kLong && tensor.dim() == 1, name, "int64 of one dimension", dtype_name(tensor.scalar_type()) + (" of " + text(tensor.sizes())));
  if (tensor.numel() == 0) return;
  ops::DeferredChecks::add(ops::bounds(tensor), [=](const at::Tensor& bounds) {
    const int64_t lowest = bounds[0].item<int64_t>(), highest = bounds[1].item<int64_t>();
    require_range(lowest >= 0 && highest < limit, name, "values from 0 to " + std::to_string(limit - 1), std::to_string(lowest) + " to " + std::to_string(highest));
  });
}

/// `take(features)` for every batch of the pixels, which are brought to the model, in the mode that it is in.
void for_batches(nn::Model& model, const at::Tensor& pixels, const std::string& branch, int64_t batch_size, const Check& check,
                 const std::function<void(at::Tensor)>& take) {
  auto* network = dynamic_cast<nn::Network*>(&model);
  require_range(network || branch.empty(), "branch", "none: the model is a TorchScriptModel", "'" + branch + "'");
  require_range(pixels.scalar_type() == at::kByte && pixels.dim() == 4 && pixels.size(0) > 0, "pixels", "uint8 [N, C, H, W]",
                dtype_name(pixels.scalar_type()) + (" of " + text(pixels.sizes())));
  require_range(batch_size >= 1, "batchSize", "at least 1", std::to_string(batch_size));
  const at::NoGradGuard no_grad;
  const c10::Device device = model.device().value_or(pixels.device());
  for (int64_t start = 0; start < pixels.size(0); start += batch_size) {
    check();
    const at::Tensor images = pixels.slice(0, start, start + batch_size).to(device).to(at::kFloat).div_(255);
    take(network ? network->features(images, branch) : model.forward(images));
  }
}

/// Puts parameters and momentum back when the block is left by a throw.
class Rollback {
 public:
  explicit Rollback(const Optimizer& optimizer) : before_(tensors(optimizer)) {}
  ~Rollback() {
    if (std::uncaught_exceptions() > 0) before_.restore();
  }

 private:
  static std::vector<at::Tensor> tensors(const Optimizer& optimizer) {
    std::vector<at::Tensor> result;
    for (const auto* each : {&optimizer.parameters(), &optimizer.state()})
      for (const auto& [name, tensor] : *each) result.push_back(tensor);
    return result;
  }

  const Snapshot before_;
};

}  // namespace

at::Tensor encode(nn::Model& model, const at::Tensor& pixels, const std::string& branch, int64_t batch_size, const Check& check) {
  const nn::ModeGuard eval(model, false);
  std::vector<at::Tensor> features;
  for_batches(model, pixels, branch, batch_size, check, [&](at::Tensor batch) { features.push_back(std::move(batch)); });
  return at::cat(features);
}

void estimate_statistics(nn::Network& network, const at::Tensor& pixels, const std::string& branch, int64_t batch_size, const Check& check) {
  const nn::ModeGuard train(network, true);
  // The running statistics forget a tenth an update: after 64 the first values weigh a thousandth.
  for (int64_t updates = 0; updates < 64;) for_batches(network, pixels, branch, batch_size, check, [&](at::Tensor) { ++updates; });
}

Report probe_epoch(Trainer& trainer, const at::Tensor& features, const at::Tensor& given_labels, const at::Tensor& given_order, int64_t batch_size, double lr,
                   const Check& check) {
  const auto& head = trainer.network()->head;
  require_range(head != nullptr, "trainer", "a network with a head", "one without");
  require_range(features.dim() == 2 && features.size(1) == head->weight.size(1), "features", "[N, " + std::to_string(head->weight.size(1)) + "]", text(features.sizes()));
  require_range(given_labels.dim() == 1 && given_labels.size(0) == features.size(0), "labels", text(features.sizes().slice(0, 1)), text(given_labels.sizes()));
  require_range(batch_size >= 1, "batchSize", "at least 1", std::to_string(batch_size));
  {
    ops::DeferredChecks checks;
    require_indices(given_labels, "labels", head->weight.size(0));
    require_indices(given_order, "order", features.size(0));
    checks.settle();
  }
  require_range(given_order.numel() > 0, "order", "at least one row", "none");
  const at::Tensor labels = brought(given_labels, features.device()), order = brought(given_order, features.device());

  const Rollback rollback(trainer.optimizer());
  double loss = 0;
  at::Tensor correct = at::zeros({}, labels.options());
  for (int64_t start = 0; start < order.size(0); start += batch_size) {
    check();
    const at::Tensor rows = order.slice(0, start, start + batch_size);
    const at::Tensor x = features.index_select(0, rows), y = labels.index_select(0, rows);
    const Report report = trainer.step(lr, [&](nn::Network& network, Values&) {
      const at::Tensor logits = network.logits(x);
      correct += logits.argmax(1).eq(y).sum();
      return at::cross_entropy_loss(logits, y);
    });
    loss += report[0].second * rows.size(0);
  }
  return {{"loss", loss / order.size(0)}, {"accuracy", correct.item<double>() / order.size(0)}};
}

}  // namespace a_infonce::training

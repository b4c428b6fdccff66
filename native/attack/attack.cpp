#include "attack/attack.h"
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/isfinite.h>
#include <torch/csrc/autograd/autograd.h>
#include <algorithm>
#include <cmath>
#include <vector>
#include "describe.h"
#include "dtype.h"
#include "error.h"
#include "kernels/random.h"
#include "ops/deferred.h"
#include "ops/image_checks.h"
#include "ops/perturbation.h"
#include "transfer.h"

namespace a_infonce::attack {

std::string typed_shape(const at::Tensor& tensor) { return dtype_name(tensor.scalar_type()) + " " + shape_text(tensor.sizes()); }

namespace {
at::Tensor finite_rows(const at::Tensor& rows) { return at::isfinite(rows).reshape({rows.size(0), -1}).all(1); }
/// On the CPU at once; on a device as ops::DeferredChecks have it.
void look(const at::Tensor& numbers, const ops::DeferredChecks::Check& check) {
  if (numbers.is_cpu()) check(numbers);
  else ops::DeferredChecks::add(numbers, check);
}
int64_t first_false(const at::Tensor& mask) { return mask.all().item<bool>() ? -1 : mask.to(at::kByte).argmin(0).item<int64_t>(); }
}  // namespace

int64_t first_non_finite(const at::Tensor& rows) { return first_false(finite_rows(rows)); }

Split split(const at::Tensor& gone) {
  const int64_t n = gone.size(0), count = static_cast<int64_t>(ops::DeferredChecks::read(gone.sum()));
  const at::Tensor rows = gone.to(at::kByte).argsort(/*stable=*/true, /*dim=*/0);
  return {rows.narrow(0, 0, n - count), rows.narrow(0, n - count, count)};
}

at::Tensor per_sample(const at::Tensor& values, const at::Tensor& images) {
  std::vector<int64_t> shape(static_cast<size_t>(images.dim()), 1);
  shape[0] = values.size(0);
  return values.view(shape);
}

void for_batches(int64_t n, int64_t batch_size, const std::function<void(int64_t, int64_t)>& body) {
  const int64_t size = batch_size == 0 ? n : batch_size;
  for (int64_t begin = 0; begin < n; begin += size) body(begin, std::min(n, begin + size));
}

at::Tensor logits_of(nn::Model& model, const at::Tensor& images) {
  at::Tensor logits = model.forward(images);
  require_range(logits.dim() == 2 && logits.size(0) == images.size(0) && logits.size(1) > 0 && logits.is_floating_point(), "model",
                "floating-point logits [" + std::to_string(images.size(0)) + ", classes]", typed_shape(logits));
  return logits;
}

at::Tensor input_gradient(const at::Tensor& loss, const at::Tensor& leaf) {
  require_range(loss.requires_grad(), "objective", "a loss that depends on the images through autograd",
                "one without a graph (computed under noGrad or detached?)");
  const at::Tensor grad = torch::autograd::grad({loss.sum()}, {leaf}, {}, std::nullopt, false, /*allow_unused=*/true)[0];
  require_range(grad.defined(), "objective", "a loss that depends on the images", "one that does not");
  return grad;
}

void require_images(const at::Tensor& images) {
  require_range((images.scalar_type() == at::kFloat || images.scalar_type() == at::kDouble) && images.dim() >= 2, "images",
                "float32 or float64 [N, ...]", typed_shape(images));
}

void require_unit_range(const at::Tensor& images) {
  if (images.numel() == 0) return;
  const at::Tensor bounds = ops::bounds(images.detach());
  const auto check = [](const at::Tensor& here) {
    const double lowest = here[0].item<double>(), highest = here[1].item<double>();
    if (lowest >= 0 && highest <= 1) return;
    throw Error(ErrorKind::ArgumentRange, "images", "values in [0, 1] (normalisation belongs inside the model)",
                std::isnan(lowest) ? "NaN" : "values in [" + std::to_string(lowest) + ", " + std::to_string(highest) + "]");
  };
  look(bounds, check);
}

namespace {
void require_integers(const char* name, const at::Tensor& integers, const at::Tensor& images) {
  if (integers.scalar_type() == at::kLong && integers.sizes() == images.sizes().slice(0, 1)) return;
  throw Error(ErrorKind::ArgumentRange, name, "int64 " + shape_text(images.sizes().slice(0, 1)), typed_shape(integers));
}
}  // namespace

int64_t require_labelled(const at::Tensor& images, const at::Tensor& labels) {
  require_integers("labels", labels, images);
  int64_t highest = -1;
  ops::DeferredChecks checks;
  require_unit_range(images);
  if (labels.numel() > 0)
    ops::DeferredChecks::add(ops::bounds(labels), [&](const at::Tensor& classes) {
      const int64_t lowest = classes[0].item<int64_t>();
      if (lowest < 0) throw Error(ErrorKind::ArgumentRange, "labels", "classes of at least 0", std::to_string(lowest));
      highest = classes[1].item<int64_t>();
    });
  checks.settle();
  return highest;
}

void require_classes(int64_t highest, const at::Tensor& logits) {
  if (highest >= logits.size(1)) throw Error(ErrorKind::ArgumentRange, "labels", "classes from 0 to " + std::to_string(logits.size(1) - 1), std::to_string(highest));
}

void require_samples(const at::Tensor& samples, const at::Tensor& images) { require_integers("samples", samples, images); }

Batch::Batch(Logits model, at::Tensor images, at::Tensor labels, at::Tensor samples)
    : images(std::move(images)), labels(std::move(labels)), samples(std::move(samples)), model_(std::move(model)) {}

Batch Batch::select(const at::Tensor& rows) const {
  return {model_, images.index_select(0, rows), labels.index_select(0, rows), samples.index_select(0, rows)};
}

at::Tensor Batch::logits(const at::Tensor& x_adv) const {
  at::Tensor logits = model_(x_adv);
  require_finite(logits.detach(), "the model's logits", "are");
  return logits;
}

Batch::Gradient Batch::gradient(const at::Tensor& x_adv, const Loss& loss) const {
  const at::AutoGradMode grad_mode(true);
  const at::Tensor leaf = x_adv.detach().requires_grad_(true);
  const at::Tensor output = model_(leaf), losses = loss(output);
  at::Tensor grad = input_gradient(losses, leaf).contiguous();
  const at::Tensor logits = output.detach();
  require_finite(logits, "the model's logits", "are"), require_finite(grad, "the gradient", "is");
  return {logits, losses.detach(), std::move(grad)};
}

void Batch::require_finite(const at::Tensor& rows, const char* what, const char* verb) const {
  const at::Tensor finite = finite_rows(rows);
  const auto check = [=, samples = samples](const at::Tensor& here) {
    if (const int64_t row = first_false(here); row >= 0)
      throw Error(ErrorKind::NonFinite, std::string(what) + " of sample " + std::to_string(samples[row].item<int64_t>()) + " " + verb + " NaN or infinite");
  };
  look(finite, check);
}

void Batch::project_(at::Tensor& x_adv, Norm norm, double epsilon) const {
  at::Tensor bad;  // none: a step of no length, along the images, which are finite
  if (norm == Norm::Linf) ops::pgd_step_linf_(x_adv, /*grad=*/images, images, epsilon, /*step_size=*/0, /*clamp_then_project=*/false, bad);
  else ops::pgd_step_l2_(x_adv, images, images, epsilon, 0, false, bad);
}

at::Tensor Batch::uniform(uint64_t seed, int64_t restart, int64_t step, int64_t count) const {
  return ops::uniform(samples, count, images.scalar_type(), random::subseed(random::subseed(seed, static_cast<uint64_t>(restart)), static_cast<uint64_t>(step)));
}

c10::Device device_of(const nn::Model& model, const at::Tensor& images) { return model.device().value_or(images.device()); }

at::Tensor run(const Attack& attack, nn::Model& model, const at::Tensor& images, const at::Tensor& labels, const at::Tensor& samples, int64_t batch_size,
               const StepCallback& step) {
  require_images(images);
  if (samples.defined()) require_samples(samples, images);
  const int64_t highest = require_labelled(images, labels);
  const int64_t n = images.size(0), batches = n == 0 ? 0 : batch_size == 0 ? 1 : (n + batch_size - 1) / batch_size;
  const at::NoGradGuard no_grad;
  const nn::ModeGuard mode(model, false);
  const c10::Device device = device_of(model, images);
  const at::Tensor x = images.detach().contiguous(), classes = brought(labels, device);
  const at::Tensor numbers = samples.defined() ? brought(samples, device) : at::arange(n, classes.options());
  at::Tensor adversaries = at::empty_like(x);
  ops::DeferredChecks checks;
  const int64_t total = batches * attack.steps();
  int64_t done = 0, end_of_batch = 0;
  for_batches(n, batch_size, [&](int64_t begin, int64_t end) {
    end_of_batch += attack.steps();
    const Logits logits = [&model, highest](const at::Tensor& each) {
      at::Tensor found = logits_of(model, each);
      require_classes(highest, found);
      return found;
    };
    const Batch batch(logits, brought(x.slice(0, begin, end), device), classes.slice(0, begin, end), numbers.slice(0, begin, end));
    const at::Tensor found = attack.run(batch, [&] {
      if (checks.size() >= 1000) checks.settle();  // of an attack of very many steps
      ++done;
      if (step) step(done, total);
    });
    checks.settle();
    adversaries.slice(0, begin, end).copy_(found);
    done = end_of_batch;  // an attack may be done sooner
    if (step) step(done, total);
  });
  return adversaries;
}

Predictions predict(nn::Model& model, const at::Tensor& images, int64_t batch_size, const StepCallback& step) {
  ops::DeferredChecks checks;
  require_unit_range(images);
  checks.settle();  // before a model indexes by what is in no image
  const at::NoGradGuard no_grad;
  const nn::ModeGuard mode(model, false);
  const c10::Device device = device_of(model, images);
  const int64_t n = images.size(0);
  Predictions result{at::empty({n}, images.options().dtype(at::kLong)), at::empty({0, 0}, images.options())};
  std::vector<at::Tensor> parts;
  for_batches(n, batch_size, [&](int64_t begin, int64_t end) {
    const at::Tensor logits = logits_of(model, brought(images.slice(0, begin, end), device)).to(images.device());
    ops::DeferredChecks::add(finite_rows(logits), [begin](const at::Tensor& finite) {
      if (const int64_t row = first_false(finite); row >= 0)
        throw Error(ErrorKind::NonFinite, "the model's logits of sample " + std::to_string(begin + row) + " are NaN or infinite");
    });
    checks.settle();
    result.predicted.slice(0, begin, end).copy_(logits.argmax(1));
    parts.push_back(logits);
    if (step) step(end, n);
  });
  checks.settle();
  if (!parts.empty()) result.logits = at::cat(parts);
  return result;
}

}  // namespace a_infonce::attack

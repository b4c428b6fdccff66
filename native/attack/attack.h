// What every attack stands on: a batch of samples in front of a model, gradients for the images, the ball, random numbers.
// Parameters are never touched: gradients are taken with respect to the images alone (autograd skips the weights' branches), so neither
// requires_grad nor grad of a parameter changes and several attacks may share a model.
#pragma once
#include <ATen/core/Tensor.h>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include "nn/model.h"

namespace a_infonce::attack {

enum class Norm { Linf, L2 };

/// Images [n, ...] -> logits [n, classes], recorded by autograd when grad mode is on.
using Logits = std::function<at::Tensor(const at::Tensor& images)>;

/// Logits [n, classes] -> the loss of each sample [n].
using Loss = std::function<at::Tensor(const at::Tensor& logits)>;

/// Called after every step; may throw to stop (Error{Cancelled}).
using StepCallback = std::function<void(int64_t done, int64_t total)>;

/// Samples under attack. Attacks drop the samples that are done with: `select` keeps the numbers by which the samples draw and are named in errors.
class Batch {
 public:
  at::Tensor images;   // [n, ...], contiguous, float32 or float64, in [0, 1], without a graph
  at::Tensor labels;   // int64 [n]: the classes to leave
  at::Tensor samples;  // int64 [n]: the samples' numbers

  Batch(Logits model, at::Tensor images, at::Tensor labels, at::Tensor samples);
  int64_t size() const { return images.size(0); }
  /// The samples of these rows, int64 [m].
  Batch select(const at::Tensor& rows) const;

  /// Logits of adversaries of all of these samples. NonFinite, naming the sample, when one is NaN or infinite: on the CPU now, on a device as ops::DeferredChecks have it.
  at::Tensor logits(const at::Tensor& x_adv) const;
  /// The classes that logits give, other than the labels': bool [n].
  at::Tensor fooled(const at::Tensor& logits) const { return logits.argmax(1).ne(labels); }

  struct Gradient {
    at::Tensor logits, loss;  // [n, classes], [n]: without a graph
    at::Tensor grad;          // like the images, of the loss of each sample; contiguous
  };
  /// One forward and one backward pass. NonFinite, naming the sample, when a logit or a gradient is NaN or infinite, likewise.
  Gradient gradient(const at::Tensor& x_adv, const Loss& loss) const;

  /// Moves x_adv into the ball about the images and into [0, 1], in place; exact in floating point (kernels/perturbation/perturbation.h).
  void project_(at::Tensor& x_adv, Norm norm, double epsilon) const;
  /// Random numbers on [0, 1), [n, count] of the images' type: of a sample they depend on (seed, its number, restart, step) alone, whatever the batch.
  at::Tensor uniform(uint64_t seed, int64_t restart, int64_t step, int64_t count) const;

 private:
  void require_finite(const at::Tensor& rows, const char* what, const char* verb) const;

  Logits model_;
};

/// One attack with its options.
class Attack {
 public:
  virtual ~Attack() = default;
  /// The most calls of `step` that a batch takes.
  virtual int64_t steps() const = 0;
  /// Adversaries of a batch, like its images: in [0, 1] and within epsilon, if there is one. Samples that stand may get back their image. Runs without
  /// grad mode; calls `step` once a step, which throws to stop. On a device it waits for nothing but to split a batch, and leaves what there is to check to ops::DeferredChecks.
  virtual at::Tensor run(const Batch& batch, const std::function<void()>& step) const = 0;
};

/// Where the model computes on images, a batch at a time: where its tensors are, else where they are.
c10::Device device_of(const nn::Model& model, const at::Tensor& images);

/// The attack on all images (float32 or float64 [N, ...]), wherever these, labels, samples and the model are, `batch_size` at once (0: all), the model in eval mode; the mode is restored afterwards, also
/// on exceptions. samples: int64 [N], undefined for 0 to N-1. ArgumentRange unless the images are in [0, 1] and the labels are classes of the model.
at::Tensor run(const Attack& attack, nn::Model& model, const at::Tensor& images, const at::Tensor& labels, const at::Tensor& samples, int64_t batch_size,
               const StepCallback& step = {});

struct Predictions {
  at::Tensor predicted;  // int64 [N]
  at::Tensor logits;     // [N, classes]; [0, 0] for no images
};

/// The logits that the model in eval mode, wherever it is, gives images in [0, 1], beside these, and the classes they are for; NonFinite naming the sample when logits are NaN or infinite.
Predictions predict(nn::Model& model, const at::Tensor& images, int64_t batch_size, const StepCallback& step = {});

// --- shared with pgd ---------------------------------------------------------------------------------------------------------------------

/// "float32 [2, 3]".
std::string typed_shape(const at::Tensor& tensor);
/// Number of the first row with a NaN or an infinity, or -1.
int64_t first_non_finite(const at::Tensor& rows);
/// The rows where a mask [n] is false, and where it is true: int64, ascending. Waits for a device once, also for what ops::DeferredChecks have to check.
struct Split {
  at::Tensor stay, gone;
};
Split split(const at::Tensor& gone);
/// Row i as factor or condition for a tensor like `images`: [n] -> [n, 1, ...].
at::Tensor per_sample(const at::Tensor& values, const at::Tensor& images);
/// body(begin, end) for batches of at most `batch_size` (0: one batch).
void for_batches(int64_t n, int64_t batch_size, const std::function<void(int64_t, int64_t)>& body);
/// The model's logits, or ArgumentRange when its output is none.
at::Tensor logits_of(nn::Model& model, const at::Tensor& images);
/// d loss.sum() / d leaf; ArgumentRange when the loss does not depend on it.
at::Tensor input_gradient(const at::Tensor& loss, const at::Tensor& leaf);
void require_images(const at::Tensor& images);
/// In [0, 1]: on the CPU now, on a device as ops::DeferredChecks have it.
void require_unit_range(const at::Tensor& images);
/// Images in [0, 1] and labels, int64 [N] of classes of at least 0. Returns the highest, -1 of none. Waits once for a device where both are.
int64_t require_labelled(const at::Tensor& images, const at::Tensor& labels);
/// Logits of more classes than the highest label.
void require_classes(int64_t highest, const at::Tensor& logits);
void require_samples(const at::Tensor& samples, const at::Tensor& images);

}  // namespace a_infonce::attack

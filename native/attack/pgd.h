// Projected gradient descent (Madry et al., ICLR 2018) on the images of a batch: one loop for every norm, objective and model.
#pragma once
#include <optional>
#include "attack.h"

namespace a_infonce::attack {

struct StepOptions {
  Norm norm = Norm::Linf;
  double epsilon = 8.0 / 255;    // radius of the ball, in units of pixels in [0, 1]
  double step_size = 2.0 / 255;
  bool clamp_then_project = false;  // RoCL's order; for images in [0, 1] and Linf both orders give the same bits
  double momentum = 0;           // the share of the steps before in the direction (Dong et al., CVPR 2018); gradients then count by their direction alone
  bool early_stop = false;       // leave a batch once all of its samples are fooled
  bool operator==(const StepOptions&) const = default;
};

struct PgdOptions : StepOptions {
  int64_t steps = 20;
  int64_t restarts = 1;          // the worst case of each sample is kept
  bool random_start = true;      // Linf: uniform in the cube; L2: uniform direction, radius uniform on [0, epsilon]
  bool clamp_start = true;       // clamp the random start to [0, 1] (RoCL does, AdvCL does not)
  bool train_mode = false;       // attack with batch statistics, updating the running ones (AdvCL); model overloads only
  uint64_t seed = 0;             // the start of a sample depends on (seed, its number, the restart) alone
  at::Tensor samples;            // int64 [N], the samples' numbers, anywhere; undefined: 0 to N-1
  at::Tensor start;              // where to start from (TRADES: x + 0.001 N(0, 1)) in place of a random start; undefined: none
  int64_t batch_size = 0;        // images a forward pass; 0: all at once
  std::optional<c10::Device> device;  // where the objective takes images: a batch at a time is brought there. None: where the images are
  // Steps as a graph of the device, which is recorded once for the model, the options of a step and the shape of a batch: the host queues a step at once. No sample leaves then;
  // model overloads only.
  bool graph = false;
};

/// What an objective says of a batch of n adversaries.
struct Outcome {
  Outcome(at::Tensor loss, at::Tensor fooled = {}) : loss(std::move(loss)), fooled(std::move(fooled)) {}
  at::Tensor loss;    // [n] or a scalar: the attack raises it. Its SUM is differentiated.
  at::Tensor fooled;  // bool [n], or undefined where the objective knows no success
};

/// Which of the images given to `pgd` a batch holds. Only an objective that knows success meets any but consecutive ones: for the others the number
/// of the batch's first says it all.
struct Rows {
  at::Tensor numbers;  // int64 [n]
  int64_t first;       // of the batch
  at::Tensor targets;  // [n, ...], where the goal has some
  int64_t highest = -1;
  std::string name(int64_t row) const { return "sample " + std::to_string(numbers[row].item<int64_t>()); }
  operator int64_t() const { return first; }
};

/// x_adv [n, ...]: the adversaries of these rows. Runs with grad mode on.
using Objective = std::function<Outcome(const at::Tensor& x_adv, const Rows& rows)>;

/// What an attack raises, and what it compares the samples with.
struct Goal {
  Objective objective;
  std::function<at::Tensor(int64_t begin, int64_t end)> targets;  // of a batch, [end - begin, ...], where it is attacked
  int64_t highest = -1;  // of targets that are classes
};

/// Adversaries [N, ...] of `images`, where these are (float32 or float64, in [0, 1]) that ascend `objective`: detached, in [0, 1] (with steps = 0 and
/// clamp_start off: the bare start) and within epsilon of the images, exactly in floating point. Over restarts the first fooling adversary of a
/// sample is kept, and the sample leaves (but in train mode); else the one with the highest loss (for a scalar loss: the batch with the highest). NonFinite on a NaN or infinite
/// gradient: on the CPU at once, on a device, where a step waits for nothing, once the steps are queued, or when the thread's ops::DeferredChecks settle; so are the losses of
/// an objective checked there.
at::Tensor pgd(const Goal& goal, const at::Tensor& images, const PgdOptions& options, const StepCallback& step = {});
inline at::Tensor pgd(const Objective& objective, const at::Tensor& images, const PgdOptions& options, const StepCallback& step = {}) {
  return pgd(Goal{objective, {}}, images, options, step);
}

/// Cross-entropy of the model's logits and `labels` (int64 [N], where the model is, of classes from 0 to `highest`); targeted: minus the cross-entropy, `labels` being the targets.
Goal cross_entropy(nn::Model& model, at::Tensor labels, int64_t highest, bool targeted = false);

/// RoCL's attack loss: the two-view NT-Xent, form `rocl`, of a batch's embeddings and those of its positives, the same images seen otherwise
/// [N, ...], which are brought to the device a batch at a time. The embedding is the model's output, for an encoder with a projector its projection. A scalar for the batch:
/// no success, and the batch size matters. In eval mode the positives are embedded once a batch.
Goal contrastive(nn::Model& model, at::Tensor positives, c10::Device device, double temperature = 0.5);

/// `pgd` on a model in eval mode (train mode if options.train_mode), with the mode restored afterwards, also on exceptions; where the model is, wherever images, labels and positives are.
/// ArgumentRange unless the images are in [0, 1] and, for the first, the labels are classes of the model.
at::Tensor pgd(nn::Model& model, const at::Tensor& images, const at::Tensor& labels, bool targeted, const PgdOptions& options,
               const StepCallback& step = {});
at::Tensor pgd_contrastive(nn::Model& model, const at::Tensor& images, const at::Tensor& positives, double temperature, const PgdOptions& options,
                           const StepCallback& step = {});

}  // namespace a_infonce::attack

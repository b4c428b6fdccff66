// Steps of PGD from a start, and those that are recorded for a model as graphs of its device.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>
#include "ops/backend.h"
#include "ops/deferred.h"
#include "pgd.h"

namespace a_infonce::attack {

/// Samples that are attacked together.
struct Part {
  at::Tensor images, samples, start;  // start: undefined for a random one
  Rows rows;
  Part select(const at::Tensor& which) const;
  int64_t size() const { return images.size(0); }
};

Outcome outcome_of(const Objective& objective, const Part& part, const at::Tensor& x_adv);

class RecordedClimbs;

/// Steps from a start. One that is recorded has the same tensors for every batch, which is always of one shape.
class Climb {
 public:
  Climb(Objective objective, const StepOptions& options, const RecordedClimbs* owner = nullptr) : objective_(std::move(objective)), options_(options), owner_(owner) {}
  Climb(const Climb&) = delete;
  Climb& operator=(const Climb&) = delete;

  /// At a start, which is the climb's from now on.
  void begin(const Part& part, const at::Tensor& start);
  /// False, and no step, where all are fooled and that is enough. Recorded are steps after the first ones, in which libraries set up for this thread what they need, and TorchScript
  /// compiles.
  bool step(ops::DeferredChecks& checks);
  bool by_graph() const { return owner_ != nullptr; }
  bool recorded() const { return graph_ != nullptr; }
  void check_finite() const;
  const at::Tensor& x_adv() const { return x_adv_; }

 private:
  static constexpr int64_t first_steps = 3;  // as torch.cuda.make_graphed_callables takes

  bool take();
  /// Of a step.
  std::vector<at::Tensor> tensors() const { return {x_adv_, part_.images, part_.rows.targets, direction_, bad_}; }
  /// Gradient of the summed loss, and who is fooled. The graph of autograd is gone when it returns.
  std::pair<at::Tensor, at::Tensor> gradient() const;
  /// direction <- momentum * direction + grad / |grad|_1, of each sample; |grad|_1 = 0 adds nothing.
  void accumulate(const at::Tensor& grad);

  const Objective objective_;
  const StepOptions options_;
  const RecordedClimbs* const owner_;
  Part part_;
  at::Tensor x_adv_, direction_, bad_;
  int64_t taken_ = 0, highest_ = -1;  // steps without the graph, and the highest class that they met
  std::vector<ops::DeferredChecks::Found> found_;  // by the graph
  std::unique_ptr<ops::Graph> graph_;
};

/// The climbs that are recorded for a model, which keeps them, in its turn. Their graphs read its tensors where they were: values may change in place.
class RecordedClimbs final : public nn::Kept {
 public:
  static constexpr size_t most = 4;

  /// What decides what a step does, beside the model.
  struct Step {
    StepOptions options;
    std::string objective;
    double temperature;
    at::ScalarType type;
    std::vector<int64_t> sizes;  // of a batch
    bool operator==(const Step&) const = default;
  };

  /// Those of the model, with room for these steps: from before, unless they are too many or would not do what the model does now on this device.
  static RecordedClimbs& of(nn::Model& model, c10::Device device, const std::vector<Step>& steps);
  void run(const std::function<void()>& work) { recorder_->run(work); }
  Climb& climb(const Step& step, const Objective& objective);
  void drop_unrecorded();
  std::unique_ptr<ops::Graph> record(std::vector<at::Tensor> tensors, const std::function<void()>& work) const;

 private:
  /// Where a step finds the model, and how LibTorch computes.
  struct Circumstances {
    struct Place {
      const void* data;
      at::ScalarType type;
      std::vector<int64_t> sizes, strides;
      bool operator==(const Place&) const = default;
    };
    c10::Device device;
    bool tf32;
    std::vector<Place> tensors;
    static Circumstances of(const nn::Model& model, c10::Device device);
    bool operator==(const Circumstances&) const = default;
  };
  RecordedClimbs(const nn::Model& model, Circumstances circumstances);

  const nn::Model& model_;
  const Circumstances circumstances_;
  const std::unique_ptr<ops::Recorder> recorder_;  // outlives the climbs
  std::vector<std::pair<Step, std::unique_ptr<Climb>>> climbs_;
};

}  // namespace a_infonce::attack

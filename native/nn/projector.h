// The head that the contrastive loss sees: linear layers with ReLU, and BatchNorm if wanted, between them.
#pragma once
#include <vector>
#include "layers.h"

namespace a_infonce::nn {

struct ProjectorConfig {
  std::vector<int64_t> hidden;  // RoCL {2048}, AdvCL {512}
  int64_t output = 128;
  bool batch_norm = false;  // one branch, shared by the encoder's branches; AdvCL has it, RoCL has not
};

class Projector {
 public:
  Projector(int64_t input, ProjectorConfig config, Initialiser& init);
  /// [N, input] -> [N, output], not normalised.
  at::Tensor forward(const at::Tensor& features);
  const ProjectorConfig& config() const { return config_; }
  bool training() const { return training_; }
  void set_training(bool training) { training_ = training; }
  /// Names as in nn.Sequential(Linear, [BatchNorm1d,] ReLU, ..., Linear).
  void visit(const std::string& prefix, const Visitor& visitor);

 private:
  ProjectorConfig config_;
  bool training_ = true;
  std::vector<Linear> linears_;
  std::vector<BatchNorm> norms_;
};

}  // namespace a_infonce::nn

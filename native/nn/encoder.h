// ResNet encoders (He et al. 2015) as the contrastive codes use them: CIFAR or ImageNet stem, any width, BatchNorm branches.
#pragma once
#include <optional>
#include <string>
#include <vector>
#include "in_use.h"
#include "layers.h"

namespace a_infonce::nn {

struct EncoderConfig {
  enum class Architecture { ResNet18, ResNet34, ResNet50 };
  enum class Stem {
    Cifar,     // 3x3 convolution of stride 1, no pooling
    ImageNet,  // 7x7 convolution of stride 2, 3x3 max-pooling of stride 2
  };
  Architecture architecture = Architecture::ResNet18;
  Stem stem = Stem::Cifar;
  int64_t width = 64;  // channels after the stem
  int64_t channels = 3;  // of the images
  std::vector<std::string> branches = {"normal"};  // of every BatchNorm

  int64_t feature_dim() const { return width * 8 * (architecture == Architecture::ResNet50 ? 4 : 1); }
};

/// A residual block: two 3x3 convolutions, or in a bottleneck 1x1, 3x3 (strided), 1x1 with four times the planes.
struct Block {
  Block(int64_t in, int64_t planes, int64_t stride, bool bottleneck, const std::vector<std::string>& branches, Initialiser& init);
  at::Tensor forward(const at::Tensor& x, size_t branch, bool training);
  void visit(const std::string& prefix, const Visitor& visitor);

  std::vector<Conv2d> convolutions;
  std::vector<BatchNorm> norms;
  std::optional<Conv2d> shortcut;
  std::optional<BatchNorm> shortcut_norm;
};

class Encoder {
 public:
  /// Throws ArgumentRange on a width or channel count below 1, and on no, empty, duplicate or dotted branch names.
  Encoder(EncoderConfig config, Initialiser& init);
  /// images [N, channels, H, W] -> features [N, feature_dim], the global average of the last block's output.
  /// `branch` is one of config().branches, or empty for the first.
  at::Tensor forward(const at::Tensor& images, const std::string& branch = "");
  const EncoderConfig& config() const { return config_; }
  int64_t feature_dim() const { return config_.feature_dim(); }
  /// The branch's place in config().branches; throws ArgumentRange on an unknown one.
  size_t branch_index(const std::string& branch) const;
  bool training() const { return training_; }
  void set_training(bool training) { training_ = training; }
  void visit(const std::string& prefix, const Visitor& visitor);

  InUse in_use;

 private:
  EncoderConfig config_;
  bool training_ = true;
  Conv2d stem_;
  BatchNorm stem_norm_;
  std::vector<std::vector<Block>> layers_;
};

}  // namespace a_infonce::nn

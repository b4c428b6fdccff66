#include "encoder.h"
#include <ATen/ops/max_pool2d.h>
#include <algorithm>
#include "../describe.h"
#include "../dtype.h"
#include "../error.h"

namespace a_infonce::nn {
namespace {

std::vector<int64_t> block_counts(EncoderConfig::Architecture architecture) {
  if (architecture == EncoderConfig::Architecture::ResNet18) return {2, 2, 2, 2};
  return {3, 4, 6, 3};
}

EncoderConfig checked(EncoderConfig config) {
  // An upper bound too: sizes grow with the square, and a file from outside must not ask for terabytes.
  require_range(config.width >= 1 && config.width <= 4096, "width", "an integer from 1 to 4096", std::to_string(config.width));
  require_range(config.channels >= 1 && config.channels <= 4096, "channels", "an integer from 1 to 4096", std::to_string(config.channels));
  require_range(!config.branches.empty(), "branches", "at least one name", "none");
  for (size_t i = 0; i < config.branches.size(); ++i) {
    const auto& name = config.branches[i];
    const bool word = !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-'; });
    require_range(word, "branches", "names of letters, digits, _ and -", "'" + name + "'");
    require_range(std::find(config.branches.begin(), config.branches.begin() + i, name) == config.branches.begin() + i, "branches", "distinct names",
                  "'" + name + "' twice");
  }
  return config;
}

Conv2d stem(const EncoderConfig& config, Initialiser& init) {
  const bool cifar = config.stem == EncoderConfig::Stem::Cifar;
  return Conv2d(config.channels, config.width, cifar ? 3 : 7, cifar ? 1 : 2, init);
}

}  // namespace

Block::Block(int64_t in, int64_t planes, int64_t stride, bool bottleneck, const std::vector<std::string>& branches, Initialiser& init) {
  const auto out = bottleneck ? planes * 4 : planes;
  const auto add = [&](int64_t from, int64_t to, int64_t kernel, int64_t step) {
    convolutions.emplace_back(from, to, kernel, step, init);
    norms.emplace_back(to, branches);
  };
  if (bottleneck) {
    add(in, planes, 1, 1);
    add(planes, planes, 3, stride);
    add(planes, out, 1, 1);
  } else {
    add(in, planes, 3, stride);
    add(planes, planes, 3, 1);
  }
  if (stride != 1 || in != out) {
    shortcut.emplace(in, out, 1, stride, init);
    shortcut_norm.emplace(out, branches);
  }
}

at::Tensor Block::forward(const at::Tensor& x, size_t branch, bool training) {
  const auto residual = shortcut ? normalized(*shortcut, *shortcut_norm, x, branch, training, /*relu=*/false) : x;
  auto y = x;
  for (size_t i = 0; i < convolutions.size(); ++i)
    y = normalized(convolutions[i], norms[i], y, branch, training, /*relu=*/true, i + 1 == convolutions.size() ? residual : at::Tensor());
  return y;
}

void Block::visit(const std::string& prefix, const Visitor& visitor) {
  for (size_t i = 0; i < convolutions.size(); ++i) {
    const auto number = std::to_string(i + 1);
    convolutions[i].visit(prefix + "conv" + number + ".", visitor);
    norms[i].visit(prefix + "bn" + number + ".", visitor);
  }
  if (shortcut) {
    shortcut->visit(prefix + "downsample.0.", visitor);
    shortcut_norm->visit(prefix + "downsample.1.", visitor);
  }
}

Encoder::Encoder(EncoderConfig config, Initialiser& init)
    : config_(checked(std::move(config))), stem_(stem(config_, init)), stem_norm_(config_.width, config_.branches) {
  const bool bottleneck = config_.architecture == EncoderConfig::Architecture::ResNet50;
  auto in = config_.width, planes = config_.width;
  for (const auto blocks : block_counts(config_.architecture)) {
    auto& layer = layers_.emplace_back();
    for (int64_t i = 0; i < blocks; ++i) {
      layer.emplace_back(in, planes, i == 0 && layers_.size() > 1 ? 2 : 1, bottleneck, config_.branches, init);
      in = bottleneck ? planes * 4 : planes;
    }
    planes *= 2;
  }
}

size_t Encoder::branch_index(const std::string& branch) const {
  if (branch.empty()) return 0;
  const auto& names = config_.branches;
  const auto found = std::find(names.begin(), names.end(), branch);
  if (found != names.end()) return static_cast<size_t>(found - names.begin());
  std::string known;
  for (const auto& name : names) known += (known.empty() ? "'" : ", '") + name + "'";
  throw Error(ErrorKind::ArgumentRange, "branch", "one of " + known, "'" + branch + "'");
}

at::Tensor Encoder::forward(const at::Tensor& images, const std::string& branch_name) {
  const auto branch = branch_index(branch_name);
  const auto& weight = stem_.weight;
  require_range(images.dim() == 4 && images.size(1) == config_.channels && images.size(2) >= 1 && images.size(3) >= 1, "images",
                "shape [N, " + std::to_string(config_.channels) + ", height, width]", shape_text(images.sizes()));
  require_range(images.scalar_type() == weight.scalar_type(), "images", "dtype " + dtype_name(weight.scalar_type()),
                dtype_name(images.scalar_type()));
  require_range(images.device() == weight.device(), "images", "device " + weight.device().str(), images.device().str());
  // Channels last throughout: oneDNN and cuDNN then run the convolutions without reordering activations (a quarter faster on AVX-512). Only for
  // whole vectors of channels: oneDNN's backward pass of a strided 1x1 convolution writes past its scratchpad on 4 channels in that format.
  const auto format = config_.width % 16 == 0 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
  const auto dtype = Bfloat16::active() ? at::kBFloat16 : images.scalar_type();
  auto x = normalized(stem_, stem_norm_, images.to(dtype, /*non_blocking=*/false, /*copy=*/false, format), branch, training_, /*relu=*/true);
  if (config_.stem == EncoderConfig::Stem::ImageNet) x = at::max_pool2d(x, {3, 3}, {2, 2}, {1, 1});
  for (auto& layer : layers_)
    for (auto& block : layer) x = block.forward(x, branch, training_);
  return x.mean({2, 3}, /*keepdim=*/false, images.scalar_type());
}

void Encoder::visit(const std::string& prefix, const Visitor& visitor) {
  stem_.visit(prefix + "conv1.", visitor);
  stem_norm_.visit(prefix + "bn1.", visitor);
  for (size_t i = 0; i < layers_.size(); ++i)
    for (size_t j = 0; j < layers_[i].size(); ++j) layers_[i][j].visit(prefix + "layer" + std::to_string(i + 1) + "." + std::to_string(j) + ".", visitor);
}

}  // namespace a_infonce::nn

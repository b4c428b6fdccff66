#include "projector.h"
#include "../error.h"

namespace a_infonce::nn {

Projector::Projector(int64_t input, ProjectorConfig config, Initialiser& init) : config_(std::move(config)) {
  const auto add = [&](int64_t width, const char* argument) {
    require_range(width >= 1 && width <= 65536, argument, "an integer from 1 to 65536", std::to_string(width));
    linears_.emplace_back(input, width, init);
    input = width;
  };
  for (const auto width : config_.hidden) {
    add(width, "projector.hidden");
    if (config_.batch_norm) norms_.emplace_back(width, std::vector<std::string>{"shared"});
  }
  add(config_.output, "projector.output");
}

at::Tensor Projector::forward(const at::Tensor& features) {
  auto x = features;
  for (size_t i = 0; i + 1 < linears_.size(); ++i) {
    x = linears_[i].forward(x);
    if (config_.batch_norm) x = norms_[i].forward(x, 0, training_);
    x = x.relu_();
  }
  return linears_.back().forward(x);
}

void Projector::visit(const std::string& prefix, const Visitor& visitor) {
  const size_t stride = config_.batch_norm ? 3 : 2;
  for (size_t i = 0; i < linears_.size(); ++i) {
    linears_[i].visit(prefix + std::to_string(i * stride) + ".", visitor);
    if (i < norms_.size()) norms_[i].visit(prefix + std::to_string(i * stride + 1) + ".", visitor);
  }
}

}  // namespace a_infonce::nn

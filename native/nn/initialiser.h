// First values of the weights, from a generator of their own: the same seed gives the same weights whatever else has drawn numbers.
#pragma once
#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <cstdint>

namespace a_infonce::nn {

enum class Scheme {
  Framework,  // PyTorch's defaults: convolutions and linear layers uniform in +-1/sqrt(fan in)
  Kaiming,    // convolutions normal with variance 2/fan out (He et al. 2015), linear layers as in Framework
};

class Initialiser {
 public:
  Initialiser(uint64_t seed, Scheme scheme);
  /// [out, in, kernel, kernel], a leaf that requires grad.
  at::Tensor convolution(int64_t in, int64_t out, int64_t kernel);
  /// Uniform in +-1/sqrt(fan_in), a leaf that requires grad: weight and bias of a linear layer.
  at::Tensor uniform(at::IntArrayRef shape, int64_t fan_in);

 private:
  at::Generator generator_;
  Scheme scheme_;
};

}  // namespace a_infonce::nn

#include "initialiser.h"
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <cmath>

namespace a_infonce::nn {

Initialiser::Initialiser(uint64_t seed, Scheme scheme) : generator_(at::make_generator<at::CPUGeneratorImpl>(seed)), scheme_(scheme) {}

at::Tensor Initialiser::convolution(int64_t in, int64_t out, int64_t kernel) {
  const auto area = kernel * kernel;
  if (scheme_ == Scheme::Framework) return uniform({out, in, kernel, kernel}, in * area);
  auto weight = at::empty({out, in, kernel, kernel}, at::kFloat);
  weight.normal_(0, std::sqrt(2.0 / static_cast<double>(out * area)), generator_);
  return weight.set_requires_grad(true);
}

at::Tensor Initialiser::uniform(at::IntArrayRef shape, int64_t fan_in) {
  const auto bound = 1 / std::sqrt(static_cast<double>(fan_in));
  return at::empty(shape, at::kFloat).uniform_(-bound, bound, generator_).set_requires_grad(true);
}

}  // namespace a_infonce::nn

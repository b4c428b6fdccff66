// What Node asks of an addon, and the operators that tests ask.
#include <ATen/Context.h>
#include <dlfcn.h>
#include <torch/library.h>
#include "emulator.h"
#include "nn/layers.h"
#include "ops/norm.h"
#include "ops/cuda/device.h"
#include "ops/cuda/graph.h"

extern "C" [[gnu::visibility("default")]] void* napi_register_module_v1(void*, void* exports) { return exports; }

/// Outputs in eval mode, in bfloat16: at first, after a forward in train mode on a tape, after its replay; and with nothing kept from before.
static std::vector<at::Tensor> replayed(const at::Tensor& images) {
  using namespace a_infonce::nn;
  Initialiser init(1, Scheme::Framework);
  const Conv2d convolution(images.size(1), 16, 3, 1, init);
  BatchNorm norm(16, {""});
  const auto forward = [&](bool training) { return normalized(convolution, norm, images, 0, training, /*relu=*/false); };
  const Bfloat16 step;
  std::vector<at::Tensor> outputs{forward(false)};
  StatisticsTape tape;
  {
    const auto on = tape.record();
    forward(true);
  }
  outputs.push_back(forward(false));
  tape.replay();
  outputs.push_back(forward(false));
  const Bfloat16 anew;
  outputs.push_back(forward(false));
  return outputs;
}

TORCH_LIBRARY(a_infonce_emulated, m) {
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true);  // LibTorch fills memory that is given for results with NaN then
  m.def("set_capability(int capability) -> ()", [](int64_t capability) { a_infonce::emulator::device.capability = static_cast<int>(capability); });
  m.def("set_backward(bool backward) -> ()", [](bool backward) { a_infonce::emulator::order = backward ? a_infonce::emulator::Order::Backward : a_infonce::emulator::Order::Forward; });
  m.def("set_capturing(bool capturing) -> ()", [](bool capturing) { a_infonce::ops::emulated_capture = capturing; });
  m.def("fail_launch(Tensor x, bool out_of_memory) -> ()", [](const at::Tensor& x, bool out_of_memory) {
    a_infonce::ops::on_device_of(x, [&](a_infonce::kernels::cuda::Stream) { throw a_infonce::kernels::cuda::Error("launch of a test", out_of_memory); });
  });
  m.def("recordings() -> int", [] { return a_infonce::ops::emulated_recordings; });
  m.def("launches() -> int", [] { return a_infonce::emulator::launches; });
  m.def("kernels() -> int[]", [] {  // that have been launched: where they are in this library
    Dl_info library{};
    dladdr(reinterpret_cast<const void*>(&napi_register_module_v1), &library);
    std::vector<int64_t> at;
    for (const void* const kernel : a_infonce::emulator::kernels) at.push_back(static_cast<const char*>(kernel) - static_cast<const char*>(library.dli_fbase));
    return at;
  });
  m.def("norm(Tensor x, Tensor weight, Tensor bias) -> Tensor", [](const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
    a_infonce::ops::BatchMoments moments;
    return a_infonce::ops::norm(x, weight, bias, {}, /*relu=*/true, 1e-5, moments);
  });
  m.def("replayed(Tensor images) -> Tensor[]", replayed);
}

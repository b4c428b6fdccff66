#include "ops/backend.h"
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>

namespace a_infonce::ops {
namespace {

struct CudaBackend final : Backend {
  std::vector<DeviceInfo> devices() const override {
    std::vector<DeviceInfo> found;
    for (c10::DeviceIndex index = 0; index < c10::cuda::device_count(); ++index) {
      cudaDeviceProp properties{};
      C10_CUDA_CHECK(cudaGetDeviceProperties(&properties, index));
      found.push_back({properties.name, properties.major, properties.minor, static_cast<int64_t>(properties.totalGlobalMem)});
    }
    return found;
  }
  std::string architectures() const override { return A_INFONCE_CUDA_ARCHITECTURES; }
};

const CudaBackend cuda;
[[maybe_unused]] const bool registered = (register_backend(c10::kCUDA, &cuda), true);

}  // namespace
}  // namespace a_infonce::ops

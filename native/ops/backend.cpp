#include "ops/backend.h"
#include <array>
#include <atomic>

namespace a_infonce::ops {
namespace {
std::array<std::atomic<const Backend*>, static_cast<size_t>(c10::COMPILE_TIME_MAX_DEVICE_TYPES)> backends{};
}

const Backend* backend(c10::DeviceType device) { return backends[static_cast<size_t>(device)].load(std::memory_order_acquire); }
void register_backend(c10::DeviceType device, const Backend* backend) { backends[static_cast<size_t>(device)].store(backend, std::memory_order_release); }

}  // namespace a_infonce::ops

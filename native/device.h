// The devices that a program may name.
#pragma once
#include <c10/core/Device.h>
#include <mutex>
#include <string>

namespace a_infonce {

/// 'cpu', 'cuda' (the first one) or 'cuda:<index>'. Throws ArgumentRange, naming `argument`, where this machine and this LibTorch have no such device.
c10::Device device_named(const std::string& text, const char* argument = "device");

/// Of CUDA; 0 where LibTorch is built without, or there is no driver.
int64_t device_count();

/// The version of CUDA that LibTorch is built with, "13.0"; empty where it is built without.
std::string cuda_version();

/// Bytes of a CUDA device: that tensors hold, and held at most; that LibTorch keeps for tensors to come; that the card has left, and has.
struct DeviceMemory {
  int64_t allocated, peak, reserved, free, total;
};
DeviceMemory memory_of(c10::Device device);
/// From now on `peak` is of what comes.
void reset_peak_memory(c10::Device device);

/// Held while work is captured for a graph, and by what waits for a whole device: that is an error during a capture, and ends it, in any mode of capture.
std::mutex& capture_mutex();

/// Waits for all that was queued on a CUDA device.
void synchronize(c10::Device device);

/// Whether LibTorch's convolutions and products of float32 on CUDA devices may take TF32, of the process.
bool allows_tf32();
void allow_tf32(bool allowed);

/// Gives what LibTorch keeps of the memory of CUDA devices without using it back to the driver.
void release_memory();

}  // namespace a_infonce

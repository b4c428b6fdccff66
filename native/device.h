// The devices that a program may name.
#pragma once
#include <c10/core/Device.h>
#include <string>

namespace a_infonce {

/// 'cpu', 'cuda' (the first one) or 'cuda:<index>'. Throws ArgumentRange, naming `argument`, where this machine and this LibTorch have no such device.
c10::Device device_named(const std::string& text, const char* argument = "device");

/// Of CUDA; 0 where LibTorch is built without, or there is no driver.
int64_t device_count();

/// Whether LibTorch is built with CUDA.
bool built_with_cuda();

}  // namespace a_infonce

// What Node asks of an addon, and the operators that tests ask.
#include <torch/library.h>
#include "emulator.h"

extern "C" [[gnu::visibility("default")]] void* napi_register_module_v1(void*, void* exports) { return exports; }

TORCH_LIBRARY(a_infonce_emulated, m) {
  m.def("set_capability(int capability) -> ()", [](int64_t capability) { a_infonce::emulator::device.capability = static_cast<int>(capability); });
  m.def("set_backward(bool backward) -> ()", [](bool backward) { a_infonce::emulator::order = backward ? a_infonce::emulator::Order::Backward : a_infonce::emulator::Order::Forward; });
  m.def("launches() -> int", [] { return a_infonce::emulator::launches; });
}

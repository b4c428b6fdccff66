// What Node asks of an addon, and the operators that tests ask.
#include <torch/library.h>
#include "emulator.h"

extern "C" [[gnu::visibility("default")]] void* napi_register_module_v1(void*, void* exports) { return exports; }

TORCH_LIBRARY(a_infonce_emulated, m) {
  m.def("launches() -> int", [] { return a_infonce::emulator::launches; });
}

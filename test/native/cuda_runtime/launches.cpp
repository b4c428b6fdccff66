// The emulator's launches (../cuda/emulator.h) are those of the stand-in's streams.
#include <utility>
#include "emulator.h"
#include "runtime.h"

namespace a_infonce {

const bool queued = [] {
  emulator::queue = [](CUstream_st* stream, std::function<void()> launch) {
    stand_in::count(stand_in::Kernels), stand_in::count(stand_in::OwnKernels);
    if (const char* const error = stand_in::queue(stream, "launch", std::move(launch))) throw emulator::Failure(error);
  };
  return true;
}();

}  // namespace a_infonce

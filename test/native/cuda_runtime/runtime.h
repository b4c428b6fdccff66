// What the stand-ins for the CUDA runtime (runtime.cpp) and for cuBLAS and cuDNN (libraries.cpp) share.
#pragma once
#include <cstdint>
#include <functional>

struct CUstream_st;

namespace stand_in {

/// Of one device, since the process began; in the file that CUDA_STAND_IN_COUNTS names, as uint64 of each device in this order.
/// waits: the host for the device. copies: from and to the host and on the device. calls: of cuBLAS and cuDNN.
enum Count { Kernels, OwnKernels, Calls, Waits, CopiesFrom, CopiesTo, CopiesOn, Fills, Allocations, Frees, Captures, GraphLaunches, Errors, Counts };

/// One more, of the current device.
void count(Count what);
/// Where CUDA_STAND_IN_TRACE has the word (launches, calls, waits, copies or errors): a line and the callers to stderr.
void trace(const char* word, const char* what);
/// Does the work, as that of a kernel on the stream: while it is captured, whenever the graph runs. The name of the error where a launch is one, else null.
const char* queue(CUstream_st* stream, const char* what, std::function<void()> work);
bool captured(CUstream_st* stream);
/// From now on the host may touch the device's memory.
void open_memory();

}  // namespace stand_in

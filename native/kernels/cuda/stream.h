// A stream's type, for headers that declare what runs on one: no CUDA header is needed to include them.
#pragma once

struct CUstream_st;

namespace a_infonce::kernels::cuda {
using Stream = CUstream_st*;  // cudaStream_t
}

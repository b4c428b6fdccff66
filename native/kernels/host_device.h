// Functions that kernels of the CPU and of CUDA share.
#pragma once

#ifdef __CUDACC__
#define A_INFONCE_HOST_DEVICE __host__ __device__
#else
#define A_INFONCE_HOST_DEVICE
#endif

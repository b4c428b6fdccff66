#include "kernels/similarity/similarity_cuda_impl.h"

namespace a_infonce::kernels::cuda {
const DeviceSimilarity<float> portable_float32 = Portable<Tf32Parts, Tf32Parts, Products::Float32>::table;
}

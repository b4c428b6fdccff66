#include "kernels/similarity/similarity_cuda_impl.h"

namespace a_infonce::kernels::cuda {
const DeviceSimilarity<float> portable_bf16x3 = Portable<Bf16Parts<2, 4>, Bf16Parts<2, 4>, Products::Bf16x3>::table;
}

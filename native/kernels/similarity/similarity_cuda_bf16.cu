#include "kernels/similarity/similarity_cuda_impl.h"

namespace a_infonce::kernels::cuda {
const DeviceSimilarity<float> portable_bf16 = Portable<Bf16Parts<1, 12>, Bf16Parts<1, 4>, Products::Bf16>::table;
}

#include "kernels/similarity/similarity_cuda_impl.h"

namespace a_infonce::kernels::cuda {
const DeviceSimilarity<double> portable_float64 = Portable<Doubles, Doubles, Products::Float64>::table;
}

#include "kernels/perturbation/perturbation_impl.h"

namespace a_infonce::kernels {

A_INFONCE_DEFINE_STEPS(avx512, float)
A_INFONCE_DEFINE_STEPS(avx512, double)

}  // namespace a_infonce::kernels

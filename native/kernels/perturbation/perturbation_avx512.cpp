#define A_INFONCE_ISA avx512
#include "kernels/perturbation/perturbation_impl.h"

namespace a_infonce::kernels::avx512 {

A_INFONCE_DEFINE_STEPS(float)
A_INFONCE_DEFINE_STEPS(double)

}  // namespace a_infonce::kernels::avx512

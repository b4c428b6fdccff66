#define A_INFONCE_ISA avx2
#include "kernels/perturbation/perturbation_impl.h"

namespace a_infonce::kernels::avx2 {

A_INFONCE_DEFINE_STEPS(float)
A_INFONCE_DEFINE_STEPS(double)

}  // namespace a_infonce::kernels::avx2

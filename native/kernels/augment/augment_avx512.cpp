#define A_INFONCE_ISA avx512
#include "kernels/augment/augment_impl.h"

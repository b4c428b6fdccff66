#define A_INFONCE_ISA avx2
#include "kernels/augment/augment_impl.h"

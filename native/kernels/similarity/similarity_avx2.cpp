#define A_INFONCE_ISA avx2
#include "kernels/similarity/similarity_impl.h"

#define A_INFONCE_ISA avx512_bf16
#define A_INFONCE_BF16
#include "kernels/similarity/similarity_impl.h"

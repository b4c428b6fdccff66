#define A_INFONCE_ISA avx512_bf16x3
#define A_INFONCE_BF16_PARTS 2
#include "kernels/similarity/products_bf16.h"
#include "kernels/similarity/similarity_impl.h"

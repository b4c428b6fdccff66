#define A_INFONCE_ISA avx512_bf16
#define A_INFONCE_BF16_PARTS 1
#include "kernels/similarity/products_bf16.h"
#include "kernels/similarity/similarity_impl.h"

#define A_INFONCE_ISA amx_bf16x3
#define A_INFONCE_BF16_PARTS 2
#include "kernels/similarity/products_amx.h"
#include "kernels/similarity/similarity_impl.h"

#define A_INFONCE_ISA amx_bf16
#define A_INFONCE_BF16_PARTS 1
#include "kernels/similarity/products_amx.h"
#include "kernels/similarity/similarity_impl.h"

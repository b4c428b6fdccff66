#define A_INFONCE_ISA avx512
#include "kernels/similarity/products.h"
#include "kernels/similarity/similarity_impl.h"

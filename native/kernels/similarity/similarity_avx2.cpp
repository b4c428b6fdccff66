#define A_INFONCE_ISA avx2
#include "kernels/similarity/products.h"
#include "kernels/similarity/similarity_impl.h"

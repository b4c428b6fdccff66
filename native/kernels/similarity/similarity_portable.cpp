#define A_INFONCE_ISA portable
#include "kernels/similarity/products.h"
#include "kernels/similarity/similarity_impl.h"

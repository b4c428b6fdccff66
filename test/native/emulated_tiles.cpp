#define A_INFONCE_EMULATED_TILES
#include "kernels/similarity/products_amx.h"
#include "kernels/similarity/similarity_impl.h"

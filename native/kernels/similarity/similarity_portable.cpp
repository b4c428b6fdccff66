#define A_INFONCE_ISA portable
#include "kernels/similarity/similarity_impl.h"

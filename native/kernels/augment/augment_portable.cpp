#define A_INFONCE_ISA portable
#include "kernels/augment/augment_impl.h"

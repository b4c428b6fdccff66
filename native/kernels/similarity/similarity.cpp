#include "kernels/similarity/similarity.h"
#include "kernels/cpu/instruction_set.h"

namespace a_infonce::kernels {

#define A_INFONCE_DECLARE(set)                              \
  namespace set {                                           \
  extern const SimilarityKernels<float> similarity_float;   \
  extern const SimilarityKernels<double> similarity_double; \
  }
A_INFONCE_DECLARE(portable)
#if defined(__x86_64__)
A_INFONCE_DECLARE(avx2)
A_INFONCE_DECLARE(avx512)
A_INFONCE_DECLARE(avx512_bf16)
#else
namespace avx2 = portable;
namespace avx512 = portable;
namespace avx512_bf16 = portable;
#endif

template <>
const SimilarityKernels<float>& similarity<float>() {
  return *dispatch(&portable::similarity_float, &avx2::similarity_float, &avx512::similarity_float);
}
template <>
const SimilarityKernels<double>& similarity<double>() {
  return *dispatch(&portable::similarity_double, &avx2::similarity_double, &avx512::similarity_double);
}

const SimilarityKernels<float>* similarity_bf16() { return current() == InstructionSet::Avx512Bf16 ? &avx512_bf16::similarity_float : nullptr; }

}  // namespace a_infonce::kernels

#include "kernels/similarity/similarity.h"
#include "kernels/cpu/instruction_set.h"

namespace a_infonce::kernels {

#define A_INFONCE_DECLARE(set)                              \
  namespace set {                                           \
  extern const SimilarityKernels<float> similarity_float;   \
  extern const SimilarityKernels<double> similarity_double; \
  }
A_INFONCE_DECLARE(portable)
A_INFONCE_DECLARE(avx2)
A_INFONCE_DECLARE(avx512)
A_INFONCE_DECLARE(avx512_bf16)
A_INFONCE_DECLARE(avx512_bf16x3)
A_INFONCE_DECLARE(amx_bf16)
A_INFONCE_DECLARE(amx_bf16x3)

template <>
const SimilarityKernels<float>& similarity<float>() {
  return *dispatch(&portable::similarity_float, &avx2::similarity_float, &avx512::similarity_float);
}
template <>
const SimilarityKernels<double>& similarity<double>() {
  return *dispatch(&portable::similarity_double, &avx2::similarity_double, &avx512::similarity_double);
}

const SimilarityKernels<float>* similarity_bf16(Precision precision) {
  if (precision == Precision::Full) return nullptr;
  const bool split = precision == Precision::Bf16x3;
  switch (current()) {
    case InstructionSet::AmxBf16: return split ? &amx_bf16x3::similarity_float : &amx_bf16::similarity_float;
    case InstructionSet::Avx512Bf16: return split ? &avx512_bf16x3::similarity_float : &avx512_bf16::similarity_float;
    default: return nullptr;
  }
}

}  // namespace a_infonce::kernels

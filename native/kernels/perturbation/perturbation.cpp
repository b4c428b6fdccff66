#define A_INFONCE_ISA portable
#include "kernels/cpu/instruction_set.h"
#include "kernels/perturbation/perturbation_impl.h"

namespace a_infonce::kernels {

template <typename Scalar>
using Step = bool(Scalar*, const Scalar*, const Scalar*, int64_t, double, double, StepOrder);
template <typename Scalar>
using Start = void(Scalar*, const Scalar*, int64_t, double, uint64_t, uint64_t, uint64_t, bool);

namespace portable {
A_INFONCE_DEFINE_STEPS(float)
A_INFONCE_DEFINE_STEPS(double)
}  // namespace portable
#define A_INFONCE_DECLARE_STEPS(Scalar) \
  Step<Scalar> linf_step, l2_step;      \
  Start<Scalar> linf_start, l2_start;
namespace avx2 { A_INFONCE_DECLARE_STEPS(float) A_INFONCE_DECLARE_STEPS(double) }
namespace avx512 { A_INFONCE_DECLARE_STEPS(float) A_INFONCE_DECLARE_STEPS(double) }

template <typename Scalar>
bool linf_step(Scalar* x_adv, const Scalar* grad, const Scalar* x, int64_t n, double epsilon, double step_size, StepOrder order) {
  return dispatch<Step<Scalar>>(portable::linf_step, avx2::linf_step, avx512::linf_step)(x_adv, grad, x, n, epsilon, step_size, order);
}

template <typename Scalar>
bool l2_step(Scalar* x_adv, const Scalar* grad, const Scalar* x, int64_t n, double epsilon, double step_size, StepOrder order) {
  return dispatch<Step<Scalar>>(portable::l2_step, avx2::l2_step, avx512::l2_step)(x_adv, grad, x, n, epsilon, step_size, order);
}

template <typename Scalar>
void linf_start(Scalar* x_adv, const Scalar* x, int64_t n, double epsilon, uint64_t seed, uint64_t sample, uint64_t restart, bool clamp_start) {
  dispatch<Start<Scalar>>(portable::linf_start, avx2::linf_start, avx512::linf_start)(x_adv, x, n, epsilon, seed, sample, restart, clamp_start);
}

template <typename Scalar>
void l2_start(Scalar* x_adv, const Scalar* x, int64_t n, double epsilon, uint64_t seed, uint64_t sample, uint64_t restart, bool clamp_start) {
  dispatch<Start<Scalar>>(portable::l2_start, avx2::l2_start, avx512::l2_start)(x_adv, x, n, epsilon, seed, sample, restart, clamp_start);
}

#define A_INFONCE_INSTANTIATE(Scalar)                                                                          \
  template bool linf_step(Scalar*, const Scalar*, const Scalar*, int64_t, double, double, StepOrder);          \
  template bool l2_step(Scalar*, const Scalar*, const Scalar*, int64_t, double, double, StepOrder);            \
  template void linf_start(Scalar*, const Scalar*, int64_t, double, uint64_t, uint64_t, uint64_t, bool);       \
  template void l2_start(Scalar*, const Scalar*, int64_t, double, uint64_t, uint64_t, uint64_t, bool);
A_INFONCE_INSTANTIATE(float)
A_INFONCE_INSTANTIATE(double)

}  // namespace a_infonce::kernels

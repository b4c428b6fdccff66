#define A_INFONCE_ISA portable
#include <algorithm>
#include <vector>
#include "kernels/cpu/instruction_set.h"
#include "kernels/perturbation/perturbation_impl.h"
#include "kernels/random.h"

namespace a_infonce::kernels {

template <typename Scalar>
using Step = bool(Scalar*, const Scalar*, const Scalar*, int64_t, double, double, StepOrder);
template <typename Scalar>
using CubeStart = void(Scalar*, const Scalar*, int64_t, double, bool);
template <typename Scalar>
using Start = void(Scalar*, const Scalar*, int64_t, bool);

namespace portable {
A_INFONCE_DEFINE_STEPS(float)
A_INFONCE_DEFINE_STEPS(double)
void normals(const uint32_t* words, double* out) { normals_of(words, out); }
}  // namespace portable
#define A_INFONCE_DECLARE_STEPS(Scalar)    \
  Step<Scalar> linf_step, l2_step;         \
  CubeStart<Scalar> place_in_cube;         \
  Start<Scalar> place;
namespace avx2 { A_INFONCE_DECLARE_STEPS(float) A_INFONCE_DECLARE_STEPS(double) void normals(const uint32_t*, double*); }
namespace avx512 { A_INFONCE_DECLARE_STEPS(float) A_INFONCE_DECLARE_STEPS(double) void normals(const uint32_t*, double*); }
using portable::first_block, portable::radius_block;

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
  for (int64_t i = 0; i < n; i += 4) {
    const random::Block words = random::block(seed, sample, first_block(restart) + static_cast<uint64_t>(i) / 4);
    for (int64_t k = i; k < n && k < i + 4; ++k) x_adv[k] = 2 * static_cast<Scalar>(random::to_uniform(words.word[k - i])) - 1;
  }
  dispatch<CubeStart<Scalar>>(portable::place_in_cube, avx2::place_in_cube, avx512::place_in_cube)(x_adv, x, n, epsilon, clamp_start);
}

template <typename Scalar>
void l2_start(Scalar* x_adv, const Scalar* x, int64_t n, double epsilon, uint64_t seed, uint64_t sample, uint64_t restart, bool clamp_start) {
  static thread_local std::vector<double> direction;
  direction.resize(static_cast<size_t>((n + portable::block - 1) / portable::block * portable::block));
  const auto normals = dispatch(&portable::normals, &avx2::normals, &avx512::normals);
  for (int64_t i = 0; i < n; i += portable::block) {
    uint32_t words[portable::block];
    for (int64_t k = 0; k < portable::block; k += 4) {
      const random::Block four = random::block(seed, sample, first_block(restart) + static_cast<uint64_t>(i + k) / 4);
      std::copy(four.word, four.word + 4, words + k);
    }
    normals(words, direction.data() + i);
  }
  const double squared = portable::sum_of_squares(direction.data(), n);
  const double share = random::to_uniform(random::block(seed, sample, radius_block(restart)).word[0]);
  const double scale = squared > 0 ? share * portable::start_radius<Scalar>(epsilon) / __builtin_sqrt(squared) : 0;
  for (int64_t i = 0; i < n; ++i) x_adv[i] = static_cast<Scalar>(direction[static_cast<size_t>(i)] * scale);
  dispatch<Start<Scalar>>(portable::place, avx2::place, avx512::place)(x_adv, x, n, clamp_start);
}

#define A_INFONCE_INSTANTIATE(Scalar)                                                                          \
  template bool linf_step(Scalar*, const Scalar*, const Scalar*, int64_t, double, double, StepOrder);          \
  template bool l2_step(Scalar*, const Scalar*, const Scalar*, int64_t, double, double, StepOrder);            \
  template void linf_start(Scalar*, const Scalar*, int64_t, double, uint64_t, uint64_t, uint64_t, bool);       \
  template void l2_start(Scalar*, const Scalar*, int64_t, double, uint64_t, uint64_t, uint64_t, bool);
A_INFONCE_INSTANTIATE(float)
A_INFONCE_INSTANTIATE(double)

}  // namespace a_infonce::kernels

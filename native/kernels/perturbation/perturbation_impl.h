// The arithmetic, once, for the file of every instruction set to include. Elementwise loops that the compiler vectorises, and reductions over
// sixteen fixed lanes: the bits do not depend on the instruction set (no contraction to fused multiply-add: see CMakeLists.txt).
// Static functions and no library ones, so that no copy compiled for AVX-512 can be linked into portable code.
#pragma once
#include <cstdint>
#include <limits>
#include <type_traits>
#include "kernels/perturbation/perturbation.h"

namespace a_infonce::kernels {

template <typename Scalar>
using BitsOf = std::conditional_t<sizeof(Scalar) == 4, int32_t, int64_t>;

/// The neighbour of value (not zero) with the next larger / smaller number.
template <typename Scalar>
static inline Scalar next_up(Scalar value) {
  const auto bits = __builtin_bit_cast(BitsOf<Scalar>, value);
  return __builtin_bit_cast(Scalar, static_cast<BitsOf<Scalar>>(bits + (1 | (bits >> (8 * sizeof(Scalar) - 1)))));
}
template <typename Scalar>
static inline Scalar next_down(Scalar value) {
  const auto bits = __builtin_bit_cast(BitsOf<Scalar>, value);
  return __builtin_bit_cast(Scalar, static_cast<BitsOf<Scalar>>(bits - (1 | (bits >> (8 * sizeof(Scalar) - 1)))));
}

/// The largest number of the type that is at most `value` >= 0.
template <typename Scalar>
static inline Scalar round_down(double value) {
  if (value > static_cast<double>(std::numeric_limits<Scalar>::max())) return std::numeric_limits<Scalar>::max();
  const Scalar rounded = static_cast<Scalar>(value);
  return static_cast<double>(rounded) > value ? next_down(rounded) : rounded;
}

/// What the rounded sum a + b lacks of the exact one (Knuth's TwoSum).
template <typename Scalar>
static inline Scalar lost(Scalar a, Scalar b, Scalar sum) {
  const Scalar b_part = sum - a;
  return (a - (sum - b_part)) + (b - b_part);
}

template <typename Scalar>
static inline Scalar clamp(Scalar value, Scalar low, Scalar high) {
  value = value < low ? low : value;
  return value > high ? high : value;
}

/// Nearest number to `value` whose exact distance to x is at most epsilon.
template <typename Scalar>
static inline Scalar project_linf(Scalar value, Scalar x, Scalar epsilon) {
  const Scalar above = x + epsilon, below = x - epsilon;
  const Scalar high = lost(x, epsilon, above) < 0 ? next_down(above) : above;
  const Scalar low = lost(x, -epsilon, below) > 0 ? next_up(below) : below;
  return clamp(value, low, high);
}

template <typename Scalar, StepOrder order>
static inline bool linf_step_loop(Scalar* x_adv, const Scalar* grad, const Scalar* x, int64_t n, Scalar epsilon,
                                  Scalar step) {
  BitsOf<Scalar> bad = 0;
  for (int64_t i = 0; i < n; ++i) {
    const Scalar g = grad[i];
    bad |= g - g == 0 ? 0 : 1;  // infinite or NaN
    Scalar moved = x_adv[i] + (g > 0 ? step : g < 0 ? -step : Scalar{0});
    if constexpr (order == StepOrder::ProjectThenClamp)
      x_adv[i] = clamp(project_linf(moved, x[i], epsilon), Scalar{0}, Scalar{1});
    else
      x_adv[i] = project_linf(clamp(moved, Scalar{0}, Scalar{1}), x[i], epsilon);
  }
  return bad == 0;
}

constexpr int LANES = 16;

/// Sum of term(i) for i in [0, n), over lanes that are added in a fixed tree.
template <typename Term>
static inline double sum_in_lanes(int64_t n, Term term) {
  double lane[LANES] = {};
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int k = 0; k < LANES; ++k) lane[k] += term(i + k);
  for (int k = 0; i < n; ++i, ++k) lane[k] += term(i);
  for (int width = LANES / 2; width > 0; width /= 2)
    for (int k = 0; k < width; ++k) lane[k] += lane[k + width];
  return lane[0];
}

template <typename Scalar>
constexpr double RADIUS_MARGIN = sizeof(Scalar) == 4 ? 1 - 0x1p-20 : 1 - 0x1p-32;

/// x + move rounded toward x.
template <typename Scalar>
static inline Scalar add_toward(Scalar x, Scalar move) {
  const Scalar sum = x + move, rest = lost(x, move, sum);  // rest against the move: the sum went too far
  return move > 0 && rest < 0 ? next_down(sum) : move < 0 && rest > 0 ? next_up(sum) : sum;
}

/// A power of two, exact, that keeps the squares of the numbers in the range of double; it cancels in grad / |grad|.
static inline double unit_of(const float*, int64_t) { return 1; }  // what float holds has such squares
static inline double unit_of(const double* grad, int64_t n) {
  // Bits of absolute values are ordered as the values are, infinity and NaN above all: an integer maximum vectorises, a floating one does not.
  int64_t largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    const auto bits = __builtin_bit_cast(int64_t, grad[i]) & std::numeric_limits<int64_t>::max();
    largest = bits > largest ? bits : largest;
  }
  const double value = __builtin_bit_cast(double, largest);
  return value < 0x1p-500 ? 0x1p600 : value > 0x1p500 ? 0x1p-600 : 1;
}

/// Lengths beyond this act on pixels as this one does, and their squares would leave the range of the type.
constexpr double LONGEST = 0x1p60;

template <typename Scalar, StepOrder order>
static inline bool l2_step_loop(Scalar* x_adv, const Scalar* grad, const Scalar* x, int64_t n, double epsilon, double step_size) {
  const double unit = unit_of(grad, n);
  const double squared = sum_in_lanes(n, [=](int64_t i) { const double g = grad[i] * unit; return g * g; });
  if (!(squared <= std::numeric_limits<double>::max())) return false;  // a gradient is infinite or NaN
  const double rate = squared > 0 ? clamp(step_size, -LONGEST, LONGEST) / __builtin_sqrt(squared) : 0;
  // The perturbation takes the place of x_adv on the way.
  for (int64_t i = 0; i < n; ++i) {
    double value = x_adv[i] + (grad[i] * unit) * rate;
    if constexpr (order == StepOrder::ClampThenProject) value = clamp(value, 0.0, 1.0);
    x_adv[i] = static_cast<Scalar>(value - x[i]);
  }
  const double norm = __builtin_sqrt(sum_in_lanes(n, [=](int64_t i) { return static_cast<double>(x_adv[i]) * x_adv[i]; }));
  const double radius = epsilon * RADIUS_MARGIN<Scalar>;
  const Scalar scale = norm > radius ? static_cast<Scalar>(radius / norm) : Scalar{1};
  for (int64_t i = 0; i < n; ++i) {
    const Scalar value = add_toward(x[i], x_adv[i] * scale);
    x_adv[i] = order == StepOrder::ProjectThenClamp ? clamp(value, Scalar{0}, Scalar{1}) : value;
  }
  return true;
}

#define A_INFONCE_DECLARE_STEPS(set, Scalar)                                                       \
  bool linf_step_##set(Scalar*, const Scalar*, const Scalar*, int64_t, double, double, StepOrder); \
  bool l2_step_##set(Scalar*, const Scalar*, const Scalar*, int64_t, double, double, StepOrder);

#define A_INFONCE_DEFINE_STEPS(set, Scalar)                                                                                                \
  bool linf_step_##set(Scalar* x_adv, const Scalar* grad, const Scalar* x, int64_t n, double epsilon, double step_size, StepOrder order) { \
    return order == StepOrder::ProjectThenClamp                                                                                            \
               ? linf_step_loop<Scalar, StepOrder::ProjectThenClamp>(x_adv, grad, x, n, round_down<Scalar>(epsilon), step_size)            \
               : linf_step_loop<Scalar, StepOrder::ClampThenProject>(x_adv, grad, x, n, round_down<Scalar>(epsilon), step_size);           \
  }                                                                                                                                        \
  bool l2_step_##set(Scalar* x_adv, const Scalar* grad, const Scalar* x, int64_t n, double epsilon, double step_size, StepOrder order) {   \
    return order == StepOrder::ProjectThenClamp                                                                                            \
               ? l2_step_loop<Scalar, StepOrder::ProjectThenClamp>(x_adv, grad, x, n, epsilon, step_size)                                  \
               : l2_step_loop<Scalar, StepOrder::ClampThenProject>(x_adv, grad, x, n, epsilon, step_size);                                 \
  }

A_INFONCE_DECLARE_STEPS(portable, float)
A_INFONCE_DECLARE_STEPS(portable, double)
A_INFONCE_DECLARE_STEPS(avx2, float)
A_INFONCE_DECLARE_STEPS(avx2, double)
A_INFONCE_DECLARE_STEPS(avx512, float)
A_INFONCE_DECLARE_STEPS(avx512, double)

}  // namespace a_infonce::kernels

// The arithmetic, once an instruction set: vectors for the steps, numbers for whatever else rounds as they do. Reductions run over sixteen fixed lanes,
// and nothing is contracted to fused multiply-adds (see CMakeLists.txt): the instruction sets give the same bits. See cpu/vector.h for why nothing of
// std:: but constants is used here.
#pragma once
#include <limits>
#include "kernels/cpu/vector.h"
#include "kernels/perturbation/perturbation.h"

namespace a_infonce::kernels::A_INFONCE_ISA {

template <typename V> struct BitsOf;
template <> struct BitsOf<float> { using Type = int32_t; static constexpr int sign = 31; };
template <> struct BitsOf<double> { using Type = int64_t; static constexpr int sign = 63; };
template <> struct BitsOf<Floats> { using Type = Ints; static constexpr int sign = 31; };
template <> struct BitsOf<Doubles> { using Type = Longs; static constexpr int sign = 63; };

/// The neighbour of value (not zero) with the next larger / smaller number.
template <typename V>
inline V next_up(V value) {
  const auto bits = __builtin_bit_cast(typename BitsOf<V>::Type, value);
  return __builtin_bit_cast(V, bits + (1 | (bits >> BitsOf<V>::sign)));
}
template <typename V>
inline V next_down(V value) {
  const auto bits = __builtin_bit_cast(typename BitsOf<V>::Type, value);
  return __builtin_bit_cast(V, bits - (1 | (bits >> BitsOf<V>::sign)));
}

/// What the rounded sum a + b lacks of the exact one (Knuth's TwoSum).
template <typename V>
inline V lost(V a, V b, V sum) {
  const V b_part = sum - a;
  return (a - (sum - b_part)) + (b - b_part);
}

/// a + b rounded down / up.
template <typename V>
inline V add_down(V a, V b) {
  const V sum = a + b;
  return lost(a, b, sum) < 0 ? next_down(sum) : sum;
}
template <typename V>
inline V add_up(V a, V b) {
  const V sum = a + b;
  return lost(a, b, sum) > 0 ? next_up(sum) : sum;
}
#if defined(__AVX512F__)
inline Floats add_down(Floats a, Floats b) { return _mm512_maskz_add_round_ps(0xffff, a, b, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
inline Floats add_up(Floats a, Floats b) { return _mm512_maskz_add_round_ps(0xffff, a, b, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }
inline Doubles add_down(Doubles a, Doubles b) { return _mm512_maskz_add_round_pd(0xff, a, b, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
inline Doubles add_up(Doubles a, Doubles b) { return _mm512_maskz_add_round_pd(0xff, a, b, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }
#endif

/// x + move rounded toward x.
template <typename V>
inline V add_toward(V x, V move) { return move > 0 ? add_down(x, move) : add_up(x, move); }

/// The largest number of the type that is at most `value` >= 0.
template <typename Scalar>
inline Scalar round_down(double value) {
  if (value > static_cast<double>(std::numeric_limits<Scalar>::max())) return std::numeric_limits<Scalar>::max();
  const Scalar rounded = static_cast<Scalar>(value);
  return static_cast<double>(rounded) > value ? next_down(rounded) : rounded;
}

template <typename V>
inline V clamp(V value, V low, V high) {
  value = value < low ? low : value;
  return value > high ? high : value;
}

/// Nearest number to `value` whose exact distance to x is at most epsilon.
template <typename V>
inline V project_linf(V value, V x, V epsilon) { return clamp(value, add_up(x, -epsilon), add_down(x, epsilon)); }

constexpr int block = 16;

/// step(x_adv, grad, x) on one block after the other; the last is filled up with zeros.
template <typename Scalar, typename Step>
inline void for_blocks(Scalar* x_adv, const Scalar* grad, const Scalar* x, int64_t n, Step step) {
  int64_t i = 0;
  for (; i + block <= n; i += block) step(x_adv + i, grad + i, x + i);
  if (i == n) return;
  Scalar last[3][block] = {};
  for (int64_t k = 0; i + k < n; ++k) last[0][k] = x_adv[i + k], last[1][k] = grad[i + k], last[2][k] = x[i + k];
  step(last[0], last[1], last[2]);
  for (int64_t k = 0; i + k < n; ++k) x_adv[i + k] = last[0][k];
}

template <typename Scalar, StepOrder order>
inline bool linf_step_loop(Scalar* x_adv, const Scalar* grad, const Scalar* x, int64_t n, Scalar epsilon, Scalar step) {
  using V = Vector<Scalar>;
  const V zero{}, one = splat(Scalar{1}), radius = splat(epsilon), up = splat(step), down = splat(-step);
  Mask<Scalar> bad{};
  for_blocks(x_adv, grad, x, n, [&](Scalar* a, const Scalar* gradient, const Scalar* center) {
    for (int k = 0; k < block; k += lanes<Scalar>) {
      const V g = load(gradient + k), c = load(center + k);
      bad |= g - g != zero;  // infinite or NaN
      const V moved = load(a + k) + (g > zero ? up : g < zero ? down : zero);
      store(a + k, order == StepOrder::ProjectThenClamp ? clamp(project_linf(moved, c, radius), zero, one) : project_linf(clamp(moved, zero, one), c, radius));
    }
  });
  for (int k = 0; k < lanes<Scalar>; ++k)
    if (bad[k]) return false;
  return true;
}

/// `lanes<double>` numbers as doubles. (GCC splits __builtin_convertvector to wide vectors in two.)
inline Doubles widen(const double* p) { return load(p); }
inline Doubles widen(const float* p) {
#if defined(__AVX512F__)
  return _mm512_maskz_cvtps_pd(0xff, _mm256_loadu_ps(p));
#elif defined(__AVX2__)
  return _mm256_cvtps_pd(_mm_loadu_ps(p));
#else
  typedef float Half __attribute__((vector_size(vector_bytes / 2)));
  typedef float Unaligned __attribute__((vector_size(vector_bytes / 2), aligned(4), may_alias));
  return __builtin_convertvector(static_cast<Half>(*reinterpret_cast<const Unaligned*>(p)), Doubles);
#endif
}

/// A sum of squares: place k of every block in a lane of its own, the lanes added in a fixed tree.
struct Squares {
  static constexpr int parts = block / lanes<double>;
  Doubles sums[parts] = {};
  template <typename Scalar>
  void add(const Scalar* values, double unit = 1) {
#pragma GCC unroll 8
    for (int part = 0; part < parts; ++part) {
      const Doubles wide = widen(values + part * lanes<double>), value = sizeof(Scalar) == 4 ? wide : wide * unit;
      sums[part] += value * value;
    }
  }
  double total() const {
    double lane[block];
    for (int part = 0; part < parts; ++part) store(lane + part * lanes<double>, sums[part]);
    for (int width = block / 2; width > 0; width /= 2)
      for (int k = 0; k < width; ++k) lane[k] += lane[k + width];
    return lane[0];
  }
};

/// The sum of the squares of n numbers times unit.
template <typename Scalar>
inline double sum_of_squares(const Scalar* values, int64_t n, double unit = 1) {
  Squares squares;
  int64_t i = 0;
  for (; i + block <= n; i += block) squares.add(values + i, unit);
  Scalar last[block] = {};
  for (int k = 0; i + k < n; ++k) last[k] = values[i + k];
  squares.add(last, unit);
  return squares.total();
}

template <typename Scalar>
constexpr double RADIUS_MARGIN = sizeof(Scalar) == 4 ? 1 - 0x1p-20 : 1 - 0x1p-32;

/// Lengths beyond this act on pixels as this one does, and their squares would leave the range of the type.
constexpr double LONGEST = 0x1p60;

/// A power of two, exact, that keeps the squares of the numbers in the range of double; it cancels in grad / |grad|.
inline double unit_of(const float*, int64_t) { return 1; }  // what float holds has such squares
inline double unit_of(const double* grad, int64_t n) {
  // Bits of absolute values are ordered as the values are, infinity and NaN above all: an integer maximum vectorises, a floating one does not.
  int64_t largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    const auto bits = __builtin_bit_cast(int64_t, grad[i]) & std::numeric_limits<int64_t>::max();
    largest = bits > largest ? bits : largest;
  }
  const double value = __builtin_bit_cast(double, largest);
  return value < 0x1p-500 ? 0x1p600 : value > 0x1p500 ? 0x1p-600 : 1;
}

/// Two factors of a rate that the type holds even where the rate is out of its range; multiplying by the first, a power of two, is exact.
struct Factors { double first, second; };
inline Factors factors(const float*, double, double rate) {
  const double root = __builtin_sqrt(rate < 0 ? -rate : rate);
  const double first = root > 0 ? __builtin_bit_cast(double, __builtin_bit_cast(int64_t, root) & (int64_t{0x7ff} << 52)) : 1;
  return {first, rate / first};
}
inline Factors factors(const double*, double unit, double rate) { return {unit, rate}; }

template <typename Scalar, StepOrder order>
inline bool l2_step_loop(Scalar* x_adv, const Scalar* grad, const Scalar* x, int64_t n, double epsilon, double step_size) {
  using V = Vector<Scalar>;
  const V zero{}, one = splat(Scalar{1});
  const double unit = unit_of(grad, n);
  const double squared = sum_of_squares(grad, n, unit);
  if (!(squared <= std::numeric_limits<double>::max())) return false;  // a gradient is infinite or NaN
  const double rate = squared > 0 ? clamp(step_size, -LONGEST, LONGEST) / __builtin_sqrt(squared) : 0;
  const Factors by = factors(grad, unit, rate);
  const V first = splat(static_cast<Scalar>(by.first)), second = splat(static_cast<Scalar>(by.second));
  Squares moves;  // the perturbation takes the place of x_adv on the way
  for_blocks(x_adv, grad, x, n, [&](Scalar* a, const Scalar* g, const Scalar* center) {
    for (int k = 0; k < block; k += lanes<Scalar>) {
      const V move = load(g + k) * first * second, from = load(a + k), c = load(center + k);
      store(a + k, order == StepOrder::ProjectThenClamp ? (from - c) + move : clamp(from + move, zero, one) - c);
    }
    moves.add(a);
  });
  const double norm = __builtin_sqrt(moves.total()), radius = epsilon * RADIUS_MARGIN<Scalar>;
  const V scale = splat(norm > radius ? static_cast<Scalar>(radius / norm) : Scalar{1});
  for_blocks(x_adv, grad, x, n, [&](Scalar* a, const Scalar*, const Scalar* center) {
    for (int k = 0; k < block; k += lanes<Scalar>) {
      const V value = add_toward(load(center + k), load(a + k) * scale);
      store(a + k, order == StepOrder::ProjectThenClamp ? clamp(value, zero, one) : value);
    }
  });
  return true;
}

/// Starts: x_adv holds numbers of the cube [-1, 1]^n / what is to be added to x.
template <typename Scalar>
inline void place_in_cube_loop(Scalar* x_adv, const Scalar* x, int64_t n, Scalar epsilon, bool clamp_start) {
  using V = Vector<Scalar>;
  const V radius = splat(epsilon);
  for_blocks(x_adv, x, x, n, [&](Scalar* a, const Scalar*, const Scalar* center) {
    for (int k = 0; k < block; k += lanes<Scalar>) {
      const V c = load(center + k), start = project_linf(c + radius * load(a + k), c, radius);
      store(a + k, clamp_start ? clamp(start, V{}, splat(Scalar{1})) : start);
    }
  });
}
template <typename Scalar>
inline void place_loop(Scalar* x_adv, const Scalar* x, int64_t n, bool clamp_start) {
  using V = Vector<Scalar>;
  for_blocks(x_adv, x, x, n, [&](Scalar* a, const Scalar*, const Scalar* center) {
    for (int k = 0; k < block; k += lanes<Scalar>) {
      const V start = add_toward(load(center + k), load(a + k));
      store(a + k, clamp_start ? clamp(start, V{}, splat(Scalar{1})) : start);
    }
  });
}

/// Integers from 0 to 2^52 - 1 as doubles: as the last bits of 2^52 + n.
inline Doubles from_integers(Longs n) { return (Doubles)(n | 0x4330000000000000) - 0x1p52; }
inline Doubles square_root(Doubles v) {
#if defined(__AVX512F__)
  return _mm512_maskz_sqrt_pd(0xff, v);
#elif defined(__AVX2__)
  return _mm256_sqrt_pd(v);
#else
  for (int i = 0; i < lanes<double>; ++i) v[i] = __builtin_sqrt(v[i]);
  return v;
#endif
}

/// Sixteen standard normals from sixteen words, as random::to_normal makes them of each pair, by polynomials without fused multiply-adds in place of the
/// C library's functions: a few units in the last place of double, and the same bits on every machine.
inline void normals_of(const uint32_t* words, double* out) {
  constexpr double ln_2 = 0.6931471805599453, turn = 0x1p-32 * 6.283185307179586;
  for (int at = 0; at < block; at += 2 * lanes<double>) {
    Longs pair;
    __builtin_memcpy(&pair, words + at, sizeof pair);
    // log u of u = 2^n m, m in [sqrt(1/2), sqrt(2)): n log 2 + 2 atanh((m - 1) / (m + 1)).
    const Doubles u = (from_integers(pair & 0xffffffff) + 0.5) * 0x1p-32;
    const Longs base = Longs{} + 0x3fe6a09e667f3bcd, shifted = ((Longs)u - base + 0x4000000000000000) >> 52, n = shifted - 0x400;
    const Doubles m = (Doubles)((Longs)u - (n << 52)), s = (m - 1.0) / (m + 1.0), s2 = s * s;
    Doubles atanh{};
    for (int k = 21; k >= 1; k -= 2) atanh = atanh * s2 + 1.0 / k;
    const Doubles radius = square_root(-2.0 * ((from_integers(shifted) - 1024.0) * ln_2 + 2.0 * (atanh * s)));
    // The angle from the nearest quarter of the turn.
    const Longs word = (pair >> 32) & 0xffffffff, quarter = (word + 0x20000000) >> 30;
    const Doubles angle = (from_integers(word) - from_integers(quarter) * 0x1p30) * turn, a2 = angle * angle;
    Doubles sine{}, cosine{};
    for (int k = 15; k >= 3; k -= 2) sine = (sine + 1.0) * a2 * (-1.0 / (k * (k - 1)));
    for (int k = 16; k >= 2; k -= 2) cosine = (cosine + 1.0) * a2 * (-1.0 / (k * (k - 1)));
    sine = (sine + 1.0) * angle, cosine = cosine + 1.0;
    const Longs odd = -(quarter & 1), first = (odd & (Longs)sine) | (~odd & (Longs)cosine), second = (odd & (Longs)cosine) | (~odd & (Longs)sine);
    const Doubles x = radius * (Doubles)(first ^ (((quarter + 1) & 2) << 62)), y = radius * (Doubles)(second ^ ((quarter & 2) << 62));
    for (int k = 0; k < lanes<double>; ++k) out[at + 2 * k] = x[k], out[at + 2 * k + 1] = y[k];
  }
}

#define A_INFONCE_DEFINE_STEPS(Scalar)                                                                                                   \
  bool linf_step(Scalar* x_adv, const Scalar* grad, const Scalar* x, int64_t n, double epsilon, double step_size, StepOrder order) { \
    return (order == StepOrder::ProjectThenClamp ? linf_step_loop<Scalar, StepOrder::ProjectThenClamp>                               \
                                                 : linf_step_loop<Scalar, StepOrder::ClampThenProject>)(                             \
        x_adv, grad, x, n, round_down<Scalar>(epsilon), static_cast<Scalar>(step_size));                                             \
  }                                                                                                                                  \
  bool l2_step(Scalar* x_adv, const Scalar* grad, const Scalar* x, int64_t n, double epsilon, double step_size, StepOrder order) {   \
    return (order == StepOrder::ProjectThenClamp ? l2_step_loop<Scalar, StepOrder::ProjectThenClamp>                                 \
                                                 : l2_step_loop<Scalar, StepOrder::ClampThenProject>)(                               \
        x_adv, grad, x, n, epsilon, step_size);                                                                                      \
  }                                                                                                                                  \
  void place_in_cube(Scalar* x_adv, const Scalar* x, int64_t n, double epsilon, bool clamp_start) {                                  \
    place_in_cube_loop(x_adv, x, n, round_down<Scalar>(epsilon), clamp_start);                                                       \
  }                                                                                                                                  \
  void place(Scalar* x_adv, const Scalar* x, int64_t n, bool clamp_start) { place_loop(x_adv, x, n, clamp_start); }

}  // namespace a_infonce::kernels::A_INFONCE_ISA

// The arithmetic of the steps and starts: of numbers, and of vectors where those of an instruction set are defined before; for CPUs and CUDA alike. Everything lives in
// the namespace A_INFONCE_ISA, as in cpu/vector.h. Nothing may be contracted to fused multiply-adds, in neither compiler: all give the same bits.
#pragma once
#include <cstdint>
#include <limits>
#include "kernels/host_device.h"

namespace a_infonce::kernels::A_INFONCE_ISA {

template <typename V> struct BitsOf;
template <> struct BitsOf<float> { using Type = int32_t; using Number = float; static constexpr int sign = 31; };
template <> struct BitsOf<double> { using Type = int64_t; using Number = double; static constexpr int sign = 63; };

/// The neighbour of value (not zero) with the next larger / smaller number.
template <typename V>
A_INFONCE_HOST_DEVICE inline V next_up(V value) {
  const auto bits = __builtin_bit_cast(typename BitsOf<V>::Type, value);
  return __builtin_bit_cast(V, bits + (1 | (bits >> BitsOf<V>::sign)));
}
template <typename V>
A_INFONCE_HOST_DEVICE inline V next_down(V value) {
  const auto bits = __builtin_bit_cast(typename BitsOf<V>::Type, value);
  return __builtin_bit_cast(V, bits - (1 | (bits >> BitsOf<V>::sign)));
}

/// What the rounded sum a + b lacks of the exact one (Knuth's TwoSum).
template <typename V>
A_INFONCE_HOST_DEVICE inline V lost(V a, V b, V sum) {
  const V b_part = sum - a;
  return (a - (sum - b_part)) + (b - b_part);
}

/// a + b rounded down / up.
template <typename V>
A_INFONCE_HOST_DEVICE inline V add_down(V a, V b) {
  const V sum = a + b;
  return lost(a, b, sum) < 0 ? next_down(sum) : sum;
}
template <typename V>
A_INFONCE_HOST_DEVICE inline V add_up(V a, V b) {
  const V sum = a + b;
  return lost(a, b, sum) > 0 ? next_up(sum) : sum;
}

/// x + move rounded toward x.
template <typename V>
A_INFONCE_HOST_DEVICE inline V add_toward(V x, V move) { return move > 0 ? add_down(x, move) : add_up(x, move); }

/// The largest number of the type that is at most `value` >= 0.
template <typename Scalar>
inline Scalar round_down(double value) {
  if (value > static_cast<double>(std::numeric_limits<Scalar>::max())) return std::numeric_limits<Scalar>::max();
  const Scalar rounded = static_cast<Scalar>(value);
  return static_cast<double>(rounded) > value ? next_down(rounded) : rounded;
}

template <typename V>
A_INFONCE_HOST_DEVICE inline V clamp(V value, V low, V high) {
  value = value < low ? low : value;
  return value > high ? high : value;
}

/// Nearest number to `value` whose exact distance to x is at most epsilon.
template <typename V>
A_INFONCE_HOST_DEVICE inline V project_linf(V value, V x, V epsilon) { return clamp(value, add_up(x, -epsilon), add_down(x, epsilon)); }

template <typename Scalar>
constexpr double RADIUS_MARGIN = sizeof(Scalar) == 4 ? 1 - 0x1p-20 : 1 - 0x1p-32;

/// Lengths beyond this act on pixels as this one does, and their squares would leave the range of the type.
constexpr double LONGEST = 0x1p60;

/// Of starts in L2.
template <typename Scalar>
inline double start_radius(double epsilon) { return clamp(epsilon, 0.0, LONGEST) * RADIUS_MARGIN<Scalar>; }

// Within the stream of a sample: the words of a restart begin at block restart * 2^40, the word of its radius 2^39 blocks later.
constexpr uint64_t first_block(uint64_t restart) { return restart << 40; }
constexpr uint64_t radius_block(uint64_t restart) { return first_block(restart) | uint64_t{1} << 39; }

A_INFONCE_HOST_DEVICE inline double square_root(double value) { return __builtin_sqrt(value); }
A_INFONCE_HOST_DEVICE inline float square_root(float value) { return __builtin_sqrtf(value); }

/// Bits of absolute values are ordered as the values are, infinity and NaN above all.
A_INFONCE_HOST_DEVICE inline int64_t bits_of_size(double value) { return __builtin_bit_cast(int64_t, value) & 0x7fffffffffffffff; }
/// A power of two, exact, that keeps the squares of numbers up to this size in the range of double; it cancels in grad / |grad|.
A_INFONCE_HOST_DEVICE inline double unit_of(int64_t bits_of_largest) {
  const double value = __builtin_bit_cast(double, bits_of_largest);
  return value < 0x1p-500 ? 0x1p600 : value > 0x1p500 ? 0x1p-600 : 1;
}

/// Two factors of step_size / |grad|, from |unit grad|^2, that the type holds even where that rate is out of its range; multiplying by the first, a power of two, is exact.
struct Factors { double first, second; };
template <typename Scalar>
A_INFONCE_HOST_DEVICE inline Factors factors(double unit, double squared, double step_size) {
  const double rate = squared > 0 ? clamp(step_size, -LONGEST, LONGEST) / square_root(squared) : 0;
  if (sizeof(Scalar) == 8) return {unit, rate};
  const double root = square_root(rate < 0 ? -rate : rate);
  const double first = root > 0 ? __builtin_bit_cast(double, __builtin_bit_cast(int64_t, root) & (int64_t{0x7ff} << 52)) : 1;
  return {first, rate / first};
}

/// Integers from -2^51 to 2^51 - 1 as doubles: as the last bits of 3 * 2^51 + n.
template <typename V, typename L>
A_INFONCE_HOST_DEVICE inline V to_doubles(L n) { return __builtin_bit_cast(V, n + 0x4338000000000000) - 0x1.8p52; }
A_INFONCE_HOST_DEVICE inline double to_number(int64_t n) { return to_doubles<double>(n); }
A_INFONCE_HOST_DEVICE inline float to_number(int32_t n) { return static_cast<float>(n); }

/// What normal_pairs takes of a type: the bits of the first word that it drops and keeps, the highest powers of its series, their factorials, and the bits of sqrt(1/2) and of 2.
template <typename Number> struct NormalOf;
template <> struct NormalOf<float> {
  static constexpr int dropped = 1, mantissa = 23, log_power = 9, sine_power = 9, cosine_power = 8;
  static constexpr double sine_factorial = 362880, cosine_factorial = 40320;
  static constexpr int32_t kept = 0x7fffffff, root_half = 0x3f3504f3, two = 0x40000000;
};
template <> struct NormalOf<double> {
  static constexpr int dropped = 0, mantissa = 52, log_power = 21, sine_power = 15, cosine_power = 16;
  static constexpr double sine_factorial = 1307674368000, cosine_factorial = 20922789888000;
  static constexpr int64_t kept = 0xffffffff, root_half = 0x3fe6a09e667f3bcd, two = 0x4000000000000000;
};

/// The sine over its argument (odd powers), or the cosine (even ones), up to a power, whose factorial is given.
template <typename V>
A_INFONCE_HOST_DEVICE inline V series(int power, double factorial, V square) {
  using Number = typename BitsOf<V>::Number;
  V sum = V{} + Number((power / 2 % 2 ? -1 : 1) / factorial);
  for (int k = power - 2; k >= 0; k -= 2) {
    factorial /= (k + 1) * (k + 2);
    sum = sum * square + Number((k / 2 % 2 ? -1 : 1) / factorial);
  }
  return sum;
}

/// Two standard normals from the two words of a pair, as random::to_normal makes them but by polynomials in place of the C library's functions: a few units in the last
/// place of the type, and the same bits on every machine. V: float with words in int32_t, double with words in int64_t, or vectors of one of them.
template <typename V, typename L>
A_INFONCE_HOST_DEVICE inline void normal_pairs(L first, L second, V& x, V& y) {
  using Number = typename BitsOf<V>::Number;
  using Of = NormalOf<Number>;
  constexpr bool narrow = sizeof(Number) == 4;
  constexpr double ln_2 = 0.6931471805599453, turn = 0x1p-32 * 6.283185307179586;
  // -2 log u of u = 2^n m, m in [sqrt(1/2), sqrt(2)): -2 n log 2 - 4 atanh((m - 1) / (m + 1)).
  const V u = (to_number((first >> Of::dropped) & Of::kept) + Number(0.5)) * Number(narrow ? 0x1p-31 : 0x1p-32);
  const L bits = __builtin_bit_cast(L, u), n = ((bits - Of::root_half + Of::two) >> Of::mantissa) - (Of::two >> Of::mantissa);
  const V m = __builtin_bit_cast(V, bits - (n << Of::mantissa)), s = (m - Number(1)) / (m + Number(1)), s2 = s * s;
  V log = V{} + Number(-4.0 / Of::log_power);
  for (int k = Of::log_power - 2; k >= 1; k -= 2) log = log * s2 + Number(-4.0 / k);
  const V radius = square_root(to_number(n) * Number(-2 * ln_2) + log * s);
  // The angle from the nearest quarter of the turn.
  const L quarter = ((second >> 29) + 1) >> 1;
  L rest;
  if constexpr (narrow) rest = (second << 2) >> 2;
  else rest = second - (quarter << 30);
  const V angle = to_number(rest) * Number(turn), a2 = angle * angle;
  const V sine = series<V>(Of::sine_power, Of::sine_factorial, a2) * angle, cosine = series<V>(Of::cosine_power, Of::cosine_factorial, a2);
  const L odd = -(quarter & 1), s_bits = __builtin_bit_cast(L, sine), c_bits = __builtin_bit_cast(L, cosine);
  const L near = (odd & s_bits) | (~odd & c_bits), far = (odd & c_bits) | (~odd & s_bits);
  x = radius * __builtin_bit_cast(V, near ^ (((quarter + 1) & 2) << (BitsOf<V>::sign - 1)));
  y = radius * __builtin_bit_cast(V, far ^ ((quarter & 2) << (BitsOf<V>::sign - 1)));
}

}  // namespace a_infonce::kernels::A_INFONCE_ISA

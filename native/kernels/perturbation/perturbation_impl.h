// The loops, once an instruction set. Reductions run over sixteen fixed lanes,
// and nothing is contracted to fused multiply-adds (see CMakeLists.txt): the instruction sets give the same bits. See cpu/vector.h for why nothing of
// std:: but constants is used here.
#pragma once
#include <limits>
#include "kernels/cpu/vector.h"
#include "kernels/perturbation/perturbation.h"
#include "kernels/random.h"

namespace a_infonce::kernels::A_INFONCE_ISA {

#if defined(__AVX512F__)
inline Floats add_down(Floats a, Floats b) { return _mm512_maskz_add_round_ps(0xffff, a, b, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
inline Floats add_up(Floats a, Floats b) { return _mm512_maskz_add_round_ps(0xffff, a, b, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }
inline Doubles add_down(Doubles a, Doubles b) { return _mm512_maskz_add_round_pd(0xff, a, b, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
inline Doubles add_up(Doubles a, Doubles b) { return _mm512_maskz_add_round_pd(0xff, a, b, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }
#endif

#if defined(__AVX512F__)
inline Floats square_root(Floats v) { return _mm512_maskz_sqrt_ps(0xffff, v); }
inline Doubles square_root(Doubles v) { return _mm512_maskz_sqrt_pd(0xff, v); }
#elif defined(__AVX2__)
inline Floats square_root(Floats v) { return _mm256_sqrt_ps(v); }
inline Doubles square_root(Doubles v) { return _mm256_sqrt_pd(v); }
#else
inline Floats square_root(Floats v) { return _mm_sqrt_ps(v); }
inline Doubles square_root(Doubles v) { return _mm_sqrt_pd(v); }
#endif

template <typename V, typename L> V to_doubles(L n);
inline Doubles to_number(Longs n) { return to_doubles<Doubles>(n); }
inline Floats to_number(Ints n) { return __builtin_convertvector(n, Floats); }

}  // namespace a_infonce::kernels::A_INFONCE_ISA

#include "kernels/perturbation/arithmetic.h"

namespace a_infonce::kernels::A_INFONCE_ISA {

template <> struct BitsOf<Floats> { using Type = Ints; using Number = float; static constexpr int sign = 31; };
template <> struct BitsOf<Doubles> { using Type = Longs; using Number = double; static constexpr int sign = 63; };

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

inline double unit_of(const float*, int64_t) { return 1; }  // what float holds has squares in the range of double
inline double unit_of(const double* grad, int64_t n) {
  // An integer maximum vectorises, a floating one does not.
  int64_t largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t size = bits_of_size(grad[i]);
    largest = size > largest ? size : largest;
  }
  return unit_of(largest);
}

template <typename Scalar, StepOrder order>
inline bool l2_step_loop(Scalar* x_adv, const Scalar* grad, const Scalar* x, int64_t n, double epsilon, double step_size) {
  using V = Vector<Scalar>;
  const V zero{}, one = splat(Scalar{1});
  const double unit = unit_of(grad, n);
  const double squared = sum_of_squares(grad, n, unit);
  if (!(squared <= std::numeric_limits<double>::max())) return false;  // a gradient is infinite or NaN
  const Factors by = factors<Scalar>(unit, squared, step_size);
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

typedef uint32_t Words __attribute__((vector_size(vector_bytes)));
typedef uint64_t LongWords __attribute__((vector_size(vector_bytes)));

/// The products of the lower halves.
inline LongWords multiply_low(LongWords a, LongWords b) {
#if defined(__AVX512F__)
  return (LongWords)_mm512_maskz_mul_epu32(0xff, (__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (LongWords)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#else
  return (LongWords)_mm_mul_epu32((__m128i)a, (__m128i)b);
#endif
}

/// out[2 j] = even[j], out[2 j + 1] = odd[j]
template <typename T>
inline void store_pairs(T* out, Vector<T> even, Vector<T> odd) {
  Mask<T> low{};
  for (int j = 0; j < lanes<T>; ++j) low[j] = j / 2 + j % 2 * lanes<T>;
  store(out, __builtin_shuffle(even, odd, low)), store(out + lanes<T>, __builtin_shuffle(even, odd, low + lanes<T> / 2));
}

/// The words of a sample from a block on, a batch at a time: those of even and those of odd places.
struct Stream {
  static constexpr int batch = 2 * lanes<float>;
  uint64_t seed, sample;
  void words(uint64_t block, Words& even, Words& odd) const {
    // random::philox4x32_10 with a block in every lane; what lies in the upper halves does not matter.
    constexpr uint64_t lower = 0xffffffff;
    LongWords c0 = (LongWords)iota<double>() + block, c1 = c0 >> 32, c2 = LongWords{} + sample, c3 = LongWords{} + (sample >> 32);
    uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round, key0 += 0x9E3779B9u, key1 += 0xBB67AE85u) {
      const LongWords p0 = multiply_low(c0, LongWords{} + 0xD2511F53u), p1 = multiply_low(c2, LongWords{} + 0xCD9E8D57u);
      c0 = (p1 >> 32) ^ c1 ^ uint64_t{key0}, c2 = (p0 >> 32) ^ c3 ^ uint64_t{key1}, c1 = p1, c3 = p0;
    }
    even = (Words)((c0 & lower) | c2 << 32), odd = (Words)((c1 & lower) | c3 << 32);
  }

  /// Numbers of the cube [-1, 1]^n.
  void cube(uint64_t block, float* out) const {
    Words even, odd;
    words(block, even, odd);
    const auto number = [](Words word) { return __builtin_convertvector((Ints)(word >> 8) - 0x800000, Floats) * 0x1p-23f; };
    store_pairs(out, number(even), number(odd));
  }
  void cube(uint64_t block, double* out) const {
    float narrow[batch];
    cube(block, narrow);
    for (int k = 0; k < batch; ++k) out[k] = static_cast<double>(narrow[k]);
  }
  void normals(uint64_t block, float* out) const {
    Words even, odd;
    Floats x, y;
    words(block, even, odd);
    normal_pairs((Ints)even, (Ints)odd, x, y);
    store_pairs(out, x, y);
  }
  void normals(uint64_t block, double* out) const {
    Words even, odd;
    float pairs[batch];
    words(block, even, odd);
    store_pairs(pairs, (Floats)even, (Floats)odd);
    for (int half = 0; half < 2; ++half) {
      const LongWords pair = (LongWords)load(pairs + half * lanes<float>);
      Doubles x, y;
      normal_pairs((Longs)(pair & 0xffffffff), (Longs)(pair >> 32), x, y);
      store_pairs(out + half * lanes<float>, x, y);
    }
  }
};

/// out [n] from make(block, out [batch])
template <typename Scalar, typename Make>
inline void fill(Scalar* out, int64_t n, uint64_t first, Make make) {
  int64_t i = 0;
  for (; i + Stream::batch <= n; i += Stream::batch) make(first + static_cast<uint64_t>(i) / 4, out + i);
  if (i == n) return;
  Scalar last[Stream::batch];
  make(first + static_cast<uint64_t>(i) / 4, last);
  for (int k = 0; i + k < n; ++k) out[i + k] = last[k];
}

template <typename Scalar>
inline void linf_start_loop(Scalar* x_adv, const Scalar* x, int64_t n, Scalar epsilon, const Stream& stream, uint64_t restart, bool clamp_start) {
  using V = Vector<Scalar>;
  fill(x_adv, n, first_block(restart), [&](uint64_t block, Scalar* out) { stream.cube(block, out); });
  const V radius = splat(epsilon);
  for_blocks(x_adv, x, x, n, [&](Scalar* a, const Scalar*, const Scalar* center) {
    for (int k = 0; k < block; k += lanes<Scalar>) {
      const V c = load(center + k), start = project_linf(c + radius * load(a + k), c, radius);
      store(a + k, clamp_start ? clamp(start, V{}, splat(Scalar{1})) : start);
    }
  });
}

template <typename Scalar>
inline void l2_start_loop(Scalar* x_adv, const Scalar* x, int64_t n, double epsilon, const Stream& stream, uint64_t restart, bool clamp_start) {
  using V = Vector<Scalar>;
  fill(x_adv, n, first_block(restart), [&](uint64_t block, Scalar* out) { stream.normals(block, out); });
  const double squared = sum_of_squares(x_adv, n), share = random::to_uniform(random::block(stream.seed, stream.sample, radius_block(restart)).word[0]);
  const V scale = splat(static_cast<Scalar>(squared > 0 ? share * start_radius<Scalar>(epsilon) / square_root(squared) : 0));
  for_blocks(x_adv, x, x, n, [&](Scalar* a, const Scalar*, const Scalar* center) {
    for (int k = 0; k < block; k += lanes<Scalar>) {
      const V start = add_toward(load(center + k), load(a + k) * scale);
      store(a + k, clamp_start ? clamp(start, V{}, splat(Scalar{1})) : start);
    }
  });
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
  void linf_start(Scalar* x_adv, const Scalar* x, int64_t n, double epsilon, uint64_t seed, uint64_t sample, uint64_t restart, bool clamp_start) { \
    linf_start_loop(x_adv, x, n, round_down<Scalar>(epsilon), {seed, sample}, restart, clamp_start);                                \
  }                                                                                                                                  \
  void l2_start(Scalar* x_adv, const Scalar* x, int64_t n, double epsilon, uint64_t seed, uint64_t sample, uint64_t restart, bool clamp_start) { \
    l2_start_loop(x_adv, x, n, epsilon, {seed, sample}, restart, clamp_start);                                                       \
  }

}  // namespace a_infonce::kernels::A_INFONCE_ISA

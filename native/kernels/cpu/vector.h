// Vectors as wide as the file's instruction set, on the compiler's vector extension, with the functions the kernels need. Include it only in
// files of one instruction set, after defining A_INFONCE_ISA (portable, avx2, avx512, avx512_bf16, avx512_bf16x3, amx_bf16 or amx_bf16x3): everything
// lives in the namespace of that name, so that the linker never hands code of a wider set to a file of a narrower one.
#pragma once
#include <cstdint>
#include <immintrin.h>

namespace a_infonce::kernels::A_INFONCE_ISA {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
constexpr int registers = 32;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
constexpr int registers = 16;
#else
constexpr int vector_bytes = 16;
constexpr int registers = 16;
#endif

typedef float Floats __attribute__((vector_size(vector_bytes)));
typedef double Doubles __attribute__((vector_size(vector_bytes)));
typedef int32_t Ints __attribute__((vector_size(vector_bytes)));
typedef int64_t Longs __attribute__((vector_size(vector_bytes)));
typedef int32_t HalfInts __attribute__((vector_size(vector_bytes / 2)));

template <typename T> struct Lanes;
template <> struct Lanes<float> { using Vector = Floats; using Mask = Ints; };
template <> struct Lanes<double> { using Vector = Doubles; using Mask = Longs; };
template <typename T> using Vector = typename Lanes<T>::Vector;
template <typename T> using Mask = typename Lanes<T>::Mask;
template <typename T> constexpr int lanes = vector_bytes / static_cast<int>(sizeof(T));

template <typename T>
inline Vector<T> load(const T* p) {
  typedef T Unaligned __attribute__((vector_size(vector_bytes), aligned(sizeof(T)), may_alias));
  return *reinterpret_cast<const Unaligned*>(p);
}
template <typename T>
inline void store(T* p, Vector<T> v) {
  typedef T Unaligned __attribute__((vector_size(vector_bytes), aligned(sizeof(T)), may_alias));
  *reinterpret_cast<Unaligned*>(p) = v;
}
template <typename T>
inline Vector<T> splat(T value) { return Vector<T>{} + value; }

/// `lanes<T>` 32-bit integers, widened to the lanes of T.
template <typename T>
inline Mask<T> load_integers(const int32_t* p) {
  if constexpr (sizeof(T) == 4) {
    typedef int32_t Unaligned __attribute__((vector_size(vector_bytes), aligned(4), may_alias));
    return *reinterpret_cast<const Unaligned*>(p);
  } else {
    typedef int32_t Unaligned __attribute__((vector_size(vector_bytes / 2), aligned(4), may_alias));
    return __builtin_convertvector(static_cast<HalfInts>(*reinterpret_cast<const Unaligned*>(p)), Longs);
  }
}
template <typename T>
inline Mask<T> iota() {
  Mask<T> result{};
  for (int i = 0; i < lanes<T>; ++i) result[i] = i;
  return result;
}

#if defined(__AVX512F__)
inline Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline Doubles fma(Doubles a, Doubles b, Doubles c) { return _mm512_fmadd_pd(a, b, c); }
#elif defined(__FMA__)
inline Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
inline Doubles fma(Doubles a, Doubles b, Doubles c) { return _mm256_fmadd_pd(a, b, c); }
#else
inline Floats fma(Floats a, Floats b, Floats c) { return a * b + c; }
inline Doubles fma(Doubles a, Doubles b, Doubles c) { return a * b + c; }
#endif

typedef uint16_t Half;  // the bits of a bfloat16 number
struct Pair {
  Half low, high;
};
#if defined(__AVX512BF16__)
inline __m512bh load(const Pair* p) { return (__m512bh)_mm512_loadu_si512(p); }
inline __m512bh splat(Pair p) { return (__m512bh)_mm512_set1_epi32(__builtin_bit_cast(int32_t, p)); }
/// c + a.low b.low + a.high b.high
inline Floats fma(__m512bh a, __m512bh b, Floats c) { return _mm512_dpbf16_ps(c, a, b); }
#endif

template <bool b> struct Constant { static constexpr bool value = b; };
inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
template <typename V, typename M>
inline V select(M mask, V yes, V no) { return mask ? yes : no; }
template <typename V>
inline V maximum(V a, V b) { return a > b ? a : b; }
template <typename V>
inline V minimum(V a, V b) { return a < b ? a : b; }

/// The sum of the lanes in double, in the order of the lanes.
template <typename T>
inline double sum(Vector<T> v) {
  double total = 0;
  for (int i = 0; i < lanes<T>; ++i) total += static_cast<double>(v[i]);
  return total;
}
template <typename T>
inline T largest(Vector<T> v) {
  T result = v[0];
  for (int i = 1; i < lanes<T>; ++i) result = v[i] > result ? v[i] : result;
  return result;
}

/// 2^x to about one unit in the last place; x is clamped to the range of normal numbers.
inline Floats exp2(Floats x) {
  x = minimum(maximum(x, splat(-125.0f)), splat(127.0f));
  const Floats shifter = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer that then sits in the low bits
  const Floats t = x + shifter;
  const Floats r = x - (t - shifter);
  Floats p = splat(0.00015345811817f);
  p = fma(p, r, splat(0.001339993121795f));
  p = fma(p, r, splat(0.00961848895777f));
  p = fma(p, r, splat(0.05550328776969f));
  p = fma(p, r, splat(0.24022646890628f));
  p = fma(p, r, splat(0.69314720573727f));
  p = fma(p, r, splat(1.0f));
  return (Floats)((Ints)p + ((Ints)t << 23));
}
inline Doubles exp2(Doubles x) {
  x = minimum(maximum(x, splat(-1021.0)), splat(1023.0));
  const Doubles shifter = splat(6755399441055744.0);  // 1.5 * 2^52
  const Doubles t = x + shifter;
  const Doubles r = x - (t - shifter);
  constexpr double taylor[] = {1.3691488853904124e-12, 2.5678435993488196e-11, 4.44553827187081e-10, 7.054911620801121e-09, 1.0178086009239696e-07,
                               1.3215486790144305e-06, 1.5252733804059838e-05, 1.5403530393381606e-04, 1.3333558146428441e-03, 9.618129107628477e-03,
                               5.5504108664821576e-02, 0.2402265069591007, 0.6931471805599453, 1.0};
  Doubles p = splat(taylor[0]);
  for (int i = 1; i < 14; ++i) p = fma(p, r, splat(taylor[i]));
  return (Doubles)((Longs)p + ((Longs)t << 52));
}

/// log2 of positive normal numbers: x = 2^n m, m in [sqrt(1/2), sqrt(2)), log m = 2 atanh((m - 1) / (m + 1)).
inline Floats log2(Floats x) {
  const Ints base = Ints{} + 0x3f3504f3;
  const Ints n = ((Ints)x - base) >> 23;
  const Floats m = (Floats)((Ints)x - (n << 23));
  const Floats s = (m - 1.0f) / (m + 1.0f), s2 = s * s;
  Floats p = splat(0.3205989f);
  p = fma(p, s2, splat(0.4121986f));
  p = fma(p, s2, splat(0.57707802f));
  p = fma(p, s2, splat(0.96179669f));
  p = fma(p, s2, splat(2.88539008f));
  return fma(p, s, __builtin_convertvector(n, Floats));
}
inline Doubles log2(Doubles x) {
  const Longs base = Longs{} + 0x3fe6a09e667f3bcdLL;
  const Longs n = ((Longs)x - base) >> 52;
  const Doubles m = (Doubles)((Longs)x - (n << 52));
  const Doubles s = (m - 1.0) / (m + 1.0), s2 = s * s;
  Doubles p{};
  for (int k = 21; k >= 1; k -= 2) p = fma(p, s2, splat(2.885390081777926815 / k));
  return fma(p, s, __builtin_convertvector(n, Doubles));
}

}  // namespace a_infonce::kernels::A_INFONCE_ISA

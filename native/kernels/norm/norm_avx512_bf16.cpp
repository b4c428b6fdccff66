#include <immintrin.h>
#include "kernels/norm/norm.h"

namespace a_infonce::kernels::avx512_bf16 {
namespace {

inline __m512 load(const bf16* from) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))), 16));
}

inline void store(bf16* to, __m512 value) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(value))); }

/// NaN stays, as with LibTorch's relu.
inline __m512 relu(__m512 value) { return _mm512_max_ps(_mm512_setzero_ps(), value); }

inline __m512 passed(const bf16* grad, const bf16* y) {
  const __m512 g = load(grad);
  return y ? _mm512_mask_mov_ps(g, _mm512_cmp_ps_mask(load(y), _mm512_setzero_ps(), _CMP_LE_OQ), _mm512_setzero_ps()) : g;
}

/// sum over the rows of term(offset of 16 channels in row i), in four running sums.
template <typename Term>
inline __m512 sum_rows(int64_t n, int64_t channels, int64_t c, Term term) {
  __m512 sums[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
  int64_t i = 0;
  for (; i + 4 <= n; i += 4)
    for (int64_t k = 0; k < 4; ++k) sums[k] = term(sums[k], (i + k) * channels + c);
  for (; i < n; ++i) sums[0] = term(sums[0], i * channels + c);
  return _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
}

}  // namespace

void norm_moments(const bf16* x, int64_t n, int64_t channels, float* mean, float* squares) {
  const __m512 share = _mm512_set1_ps(1.0f / static_cast<float>(n));
  for (int64_t c = 0; c < channels; c += 16) {
    const __m512 middle = _mm512_mul_ps(share, sum_rows(n, channels, c, [&](__m512 sum, int64_t at) { return _mm512_add_ps(sum, load(x + at)); }));
    _mm512_storeu_ps(mean + c, middle);
    _mm512_storeu_ps(squares + c, sum_rows(n, channels, c, [&](__m512 sum, int64_t at) {
      const __m512 distance = _mm512_sub_ps(load(x + at), middle);
      return _mm512_fmadd_ps(distance, distance, sum);
    }));
  }
}

void norm_apply(const bf16* x, const float* scale, const float* shift, const bf16* residual, bool cut, bf16* y, int64_t n, int64_t channels) {
  for (int64_t i = 0; i < n * channels; i += channels)
    for (int64_t c = 0; c < channels; c += 16) {
      __m512 value = _mm512_fmadd_ps(load(x + i + c), _mm512_loadu_ps(scale + c), _mm512_loadu_ps(shift + c));
      if (residual) value = _mm512_add_ps(value, load(residual + i + c));
      store(y + i + c, cut ? relu(value) : value);
    }
}

void norm_sums(const bf16* grad, const bf16* y, const bf16* x, const float* mean, float* sum, float* product, int64_t n, int64_t channels) {
  for (int64_t c = 0; c < channels; c += 16) {
    const __m512 middle = _mm512_loadu_ps(mean + c);
    _mm512_storeu_ps(sum + c, sum_rows(n, channels, c, [&](__m512 total, int64_t at) { return _mm512_add_ps(total, passed(grad + at, y ? y + at : nullptr)); }));
    _mm512_storeu_ps(product + c, sum_rows(n, channels, c, [&](__m512 total, int64_t at) {
      return _mm512_fmadd_ps(passed(grad + at, y ? y + at : nullptr), _mm512_sub_ps(load(x + at), middle), total);
    }));
  }
}

void norm_gradient(const bf16* grad, const bf16* y, const bf16* x, const float* scale, const float* slope, const float* offset, bf16* grad_x, bf16* grad_residual, int64_t n,
                   int64_t channels) {
  for (int64_t i = 0; i < n * channels; i += channels)
    for (int64_t c = 0; c < channels; c += 16) {
      const __m512 g = passed(grad + i + c, y ? y + i + c : nullptr);
      const __m512 rest = _mm512_fmadd_ps(load(x + i + c), _mm512_loadu_ps(slope + c), _mm512_loadu_ps(offset + c));
      store(grad_x + i + c, _mm512_fmadd_ps(g, _mm512_loadu_ps(scale + c), rest));
      if (grad_residual) store(grad_residual + i + c, g);
    }
}

}  // namespace a_infonce::kernels::avx512_bf16

// Numbers as sums of `parts` bfloat16 numbers, 8 bits of mantissa each: how rows and weights lie in memory, whatever multiplies them. Products leave out those of
// two lesser parts. Included by the file that multiplies, after its micro_rows, panel_columns and depth_unit (dimensions that a product takes at once).
#pragma once
#include "kernels/cpu/vector.h"
#include "kernels/similarity/similarity.h"

namespace a_infonce::kernels::A_INFONCE_ISA {

constexpr int parts = A_INFONCE_BF16_PARTS;
constexpr int64_t weight_stride = block_rows + 2 * lane_multiple;
static_assert(block_rows % micro_rows == 0 && micro_rows % 2 == 0 && tile_columns % panel_columns<float> == 0);

inline Half rounded(float x) {  // to nearest, ties to even; x is finite
  const uint32_t bits = __builtin_bit_cast(uint32_t, x);
  return static_cast<Half>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline float value(Half h) { return __builtin_bit_cast(float, static_cast<uint32_t>(h) << 16); }

/// Pairs of dimensions, the last ones zeros.
inline int64_t depth_of(int64_t d) { return round_up(d, depth_unit) / 2; }
inline int64_t panel_width(int64_t d) { return parts * depth_of(d); }
inline int64_t row_width(int64_t d) { return parts * (depth_of(d) + round_up(d, lane_multiple) / 2); }

// A block's share of `rows` holds, for each part, pairs of dimensions [block_rows, depth], and then, for each part, pairs of rows [block_rows / 2, padded_d]; one of
// `panels` pairs of dimensions, [parts, depth, panel columns] in each panel.
inline const Pair* dimension_pairs(const Matrix<float>& z, int64_t block, int part) {
  return reinterpret_cast<const Pair*>(z.rows) + block_rows * (block * row_width(z.d) + part * depth_of(z.d));
}
inline const Pair* row_pairs(const Matrix<float>& z, int64_t block, int part) { return dimension_pairs(z, block, parts) + part * block_rows / 2 * z.padded_d; }
inline const Pair* panel(const Matrix<float>& z, int64_t block, int64_t j, int part) {
  return reinterpret_cast<const Pair*>(z.panels) + (block * block_rows + j) * panel_width(z.d) + part * depth_of(z.d) * panel_columns<float>;
}
inline void pack(const float* z, int64_t size, int64_t d, float* panels, float* rows) {
  constexpr int width = panel_columns<float>;
  const int64_t depth = depth_of(d), padded_d = round_up(d, lane_multiple), columns = 2 * depth > padded_d ? 2 * depth : padded_d;
  Half *dimensions = reinterpret_cast<Half*>(rows), *pairs = dimensions + 2 * parts * block_rows * depth, *panel = reinterpret_cast<Half*>(panels);
  for (int64_t j = 0; j < block_rows; ++j)
    for (int64_t k = 0; k < columns; ++k) {
      float x = j < size && k < d ? z[j * d + k] : 0;
      for (int part = 0; part < parts; ++part) {
        const Half h = rounded(x);
        x -= value(h);
        if (k < 2 * depth) {
          dimensions[(part * block_rows + j) * 2 * depth + k] = h;
          panel[((j / width * parts + part) * width * depth + k / 2 * width + j % width) * 2 + k % 2] = h;
        }
        if (k < padded_d) pairs[((part * block_rows + j) / 2 * padded_d + k) * 2 + j % 2] = h;
      }
    }
}

/// `turned` [columns in halves, ...]: the weights [rows, columns] as `add_products<true>` takes them; those beyond the last row are 0.
inline void turn(const Half* w, Pair* turned, int64_t rows, int64_t columns);
/// g [rows, stride] += W z, z [columns / 2, stride] pairs of rows; `diagonal`: from the pairs above the diagonal alone. is_turned: W's transpose.
template <bool is_turned>
inline void add_products(const Pair* w, const Pair* z, int64_t rows, int64_t columns, int64_t stride, bool diagonal, float* g);

/// The weights of a task towards its two ends, and the products with the rows.
template <typename T>
struct Weights {
  static constexpr bool in_place = false;
  Half *first[parts], *second[parts], *turned;  // [block_rows, weight_stride] each
  explicit Weights(T* workspace) {
    Half* memory = reinterpret_cast<Half*>(workspace);
    for (Half*& part : first) part = memory, memory += block_rows * weight_stride;
    for (Half*& part : second) part = memory, memory += block_rows * weight_stride;
    turned = memory;
  }
  static_assert((2 * parts + 1) * block_rows * weight_stride <= 2 * workspace_elements);
  static void write(Half* const* to, int64_t at, Vector<T> w) {
    for (int part = 0; part < parts; ++part) {
#if defined(__AVX512BF16__)
      const auto halves = (__m256i)_mm512_cvtneps_pbh(w);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to[part] + at), halves);
      if (part + 1 < parts) w -= (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16);
#else
      typedef Half Halves __attribute__((vector_size(vector_bytes / 2), aligned(2), may_alias));
      const Ints bits = ((Ints)w + 0x7fff + ((Ints)w >> 16 & 1)) >> 16;
      *reinterpret_cast<Halves*>(to[part] + at) = __builtin_convertvector(bits, Halves);
      w -= (Floats)(bits << 16);
#endif
    }
  }
  void put(int64_t i, int64_t j, Vector<T> w) const { write(first, i * weight_stride + j, w); }
  void put_second(int64_t i, int64_t j, Vector<T> w) const { write(second, i * weight_stride + j, w); }

  void apply(const Matrix<T>& z, int64_t I, int64_t J, Ends ends, bool agree, T* gradient) const {
    const int64_t width = block_rows * z.padded_d;
    Pair* const pairs = reinterpret_cast<Pair*>(turned);
    for (int part = parts - 1; part >= 0; --part) {
      for (int of_z = parts - 1 - part; (ends & First) && of_z >= 0; --of_z)
        add_products<false>(reinterpret_cast<const Pair*>(first[part]), row_pairs(z, J, of_z), z.sizes[I], z.sizes[J], z.padded_d, I == J, gradient + I * width);
      if (!(ends & Second)) continue;
      turn((agree ? first : second)[part], pairs, z.sizes[I], z.sizes[J]);
      for (int of_z = parts - 1 - part; of_z >= 0; --of_z)
        add_products<true>(pairs, row_pairs(z, I, of_z), z.sizes[J], z.sizes[I], z.padded_d, I == J, gradient + J * width);
    }
  }
};

}  // namespace a_infonce::kernels::A_INFONCE_ISA

// Sums over functions of S = Z Z^T without ever storing it: every block of `block_rows` rows visits tiles of `tile_columns` columns that
// live in the L1 cache. A block writes only its own rows, in an order that does not depend on the threads: same bits at any thread count.
#pragma once
#include <cstdint>

namespace a_infonce::kernels {

constexpr int64_t block_rows = 48;
constexpr int64_t tile_columns = 64;
constexpr int64_t lane_multiple = 16;  // rows of Z are padded to this many elements

constexpr int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }
constexpr int64_t block_count(int64_t n) { return (n + block_rows - 1) / block_rows; }

// Classes of a pair (i, j), j != i: same group (positives of one another) or not, same kind (both clean or both adversarial) or not.
enum Selection : int32_t { NegativeSameKind = 1, NegativeCrossKind = 2, PositiveSameKind = 4, PositiveCrossKind = 8, Negatives = 3 };

/// The matrix, prepared once a call by `pack`. Elements of `panels` and `rows` have the kernel's type T.
template <typename T>
struct Matrix {
  int64_t n, d, padded_d;
  const T* panels;         // round_up(n, tile_columns) * d: columns of Z^T in panels as wide as the micro kernel
  const T* rows;           // [n, padded_d]
  const int32_t* codes;    // [round_up(n, tile_columns)]: 2 * group + kind
  double scale;            // S = scale * Z Z^T
};

/// Elements of scratch memory that a call on one block needs.
constexpr int64_t workspace_elements(int64_t d) {
  return block_rows * (d + tile_columns + round_up(d, lane_multiple)) + block_rows * 2 * lane_multiple + lane_multiple;
}

/// log sum_{j selected} e^{p s_ij} for one or two powers p. With `bounded`, no |s_ij| exceeds `bound` and e^{-2 p bound} is a normal number
/// of type T, so that one reference serves all rows; else every row keeps a running maximum.
template <typename T>
struct LogMoments {
  int32_t selection;
  int count;
  double powers[2];
  bool bounded;
  double bound;
  double* log_sums;  // out, [count, n]
};

/// dz_i = scale * sum_j f_ij sum_p p (own_p(i) e^{p s_ij - l_p(i)} + other_p(j) e^{p s_ij - l_p(j)}) z_j, f_ij = 1 within a kind, factor[kind of i] across.
/// `bounded`: own and other hold p own e^{p bound - l} (one exponential a pair); else p own, p other and l.
template <typename T>
struct LogMomentsGradient {
  int32_t selection;
  int count;
  double powers[2];
  bool bounded;
  double bound;
  const T* own[2];     // [n]
  const T* other[2];   // [round_up(n, tile_columns)]
  const T* log_sums[2];  // [round_up(n, tile_columns)], unbounded only
  T factor[2];         // clean, adversarial
  T* gradient;         // out, [n, d]
};

/// The released hard negatives: sums_i = sum_{j negative} phi(e_ij) q_j, phi(e) = (e + epsilon)^exponent * (times_e ? e : 1), e_ij = e^{s_ij - shift_i}.
/// Shifts are passed as relative_i = e^{reference - shift_i}.
template <typename T>
struct HardMoments {
  double exponent, epsilon, reference;
  bool times_e;
  const T* relative;  // [round_up(n, tile_columns)]
  const T* weights;   // q, [round_up(n, tile_columns)]
  double* sums;       // out, [n]
  double* maximum;    // out, [n]: max of s_ij over the negatives, -infinity without any
};

/// With D = e phi'(e): dz_i = scale * sum_j (own_i q_j D(e_ij) + other_j q_i D(e_ji)) z_j, and dq_i = sum_j other_j phi(e_ji) and the same with
/// `detached` for the other set of weights.
template <typename T>
struct HardMomentsGradient {
  double exponent, epsilon, reference;
  bool times_e;
  const T* relative;
  const T* weights;
  const T* own;       // gradient of the full sums plus that of the detached ones
  const T* other;     // gradient of the full sums, [round_up(n, tile_columns)]
  const T* detached;  // gradient of the detached sums, [round_up(n, tile_columns)]
  T* gradient;        // out, [n, d]
  double* weights_gradient;           // out, [n]
  double* detached_weights_gradient;  // out, [n]
};

/// One instruction set's functions. Those on a block take its number in [0, block_count(n)) and `workspace_elements(d)` of scratch memory.
template <typename T>
struct SimilarityKernels {
  /// Fills tiles [first, last) of the panels and the padded rows they cover, from contiguous z [n, d].
  void (*pack)(const T* z, int64_t n, int64_t d, int64_t first, int64_t last, T* panels, T* rows);
  void (*log_moments)(const Matrix<T>&, const LogMoments<T>&, int64_t block, T* workspace);
  void (*log_moments_gradient)(const Matrix<T>&, const LogMomentsGradient<T>&, int64_t block, T* workspace);
  void (*hard_moments)(const Matrix<T>&, const HardMoments<T>&, int64_t block, T* workspace);
  void (*hard_moments_gradient)(const Matrix<T>&, const HardMomentsGradient<T>&, int64_t block, T* workspace);
};

/// The kernels of the instruction set in use.
template <typename T>
const SimilarityKernels<T>& similarity();

}  // namespace a_infonce::kernels

// Sums over functions of S = scale Z Z^T without ever storing it. Rows come in blocks of `block_rows`; a task is a pair of blocks and visits each of its
// pairs of rows once, for both ends: S = S^T. A task writes the rows of its two blocks and nothing else, so tasks on different blocks may run at once, and the
// bits depend only on the order in which each block's tasks run.
#pragma once
#include <cstdint>

namespace a_infonce::kernels {

constexpr int64_t block_rows = 192;    // a block pair's weights, rows and gradients live in the L2 cache; a multiple of every micro tile
constexpr int64_t tile_columns = 64;   // columns that share one pass over the strips of rows: their panels live in the L1 cache
constexpr int64_t lane_multiple = 16;  // rows of Z are padded to this many elements

constexpr int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Classes of a pair (i, j), j != i: same group (positives of one another) or not, same kind (both clean or both adversarial) or not.
enum Selection : int32_t { NegativeSameKind = 1, NegativeCrossKind = 2, PositiveSameKind = 4, PositiveCrossKind = 8, Negatives = 3 };

constexpr int most_parts = 3;  // a task and what is `more`

// The blocks of a task whose rows get sums or gradients.
enum Ends : int32_t { First = 1, Second = 2, BothEnds = 3 };

/// The matrix, prepared once a call by `pack`. R = blocks * block_rows rows, the last ones of a block possibly padding.
template <typename T>
struct Matrix {
  int64_t blocks, d, padded_d;
  const T* panels;          // [R, panel_width(d)]: columns of Z^T in panels as wide as the micro kernel
  const T* rows;            // [R, row_width(d)]
  const int32_t* codes;     // [R]: 2 * group + kind, -1 for padding
  const int32_t* sizes;     // [blocks]: rows that are none
  double scale;             // S = scale * Z Z^T
};

/// Elements of scratch memory that a call needs.
constexpr int64_t workspace_elements = 5 * block_rows * (block_rows + 2 * lane_multiple) / 2;

/// sums[p, i] += sum_{j selected} e^{p (s_ij - reference)} for one or two powers p, and attraction_i += sum_j (e^{s_ij - reference} - centre) z_j where it is asked
/// for (one power, p = 1). e^{+-p (|s| + |reference|)} must be in the range of T, but for terms too small to matter: exponentials below the range count as its end.
/// `more`: sums over other pairs, found in the same pass, where there is no attraction.
template <typename T>
struct LogMoments {
  int32_t selection;
  int count;
  double powers[2];
  double reference;
  double* sums;    // [count, R]
  T* attraction;   // [R, padded_d] or null
  int64_t attracted;  // blocks that have an attraction: the first ones
  double centre = 0;
  const LogMoments* more = nullptr;
};

/// gradient_i += sum_j f_ij sum_p (own_p(i) + other_p(j)) (e^{p (s_ij - reference)} - centre_p) z_j, f_ij = 1 within a kind, factor[kind of i] across. `more`: the same of
/// other pairs, with the same factors and gradient.
template <typename T>
struct LogMomentsGradient {
  int32_t selection;
  int count;
  double powers[2];
  double reference;
  const T* own[2];    // [R]
  const T* other[2];  // [R]
  T factor[2];        // clean, adversarial
  T* gradient;        // [R, padded_d]
  double centres[2] = {};
  const LogMomentsGradient* more = nullptr;
};

/// For exponents of any size, a block of rows against all columns: log_sums[p, i] = log sum_{j selected} e^{p s_ij}, every row with its running maximum.
template <typename T>
struct RunningLogMoments {
  int32_t selection;
  int count;
  double powers[2];
  double* log_sums;  // out, [count, R]; -infinity without a selected pair
};

/// gradient_i += sum_j f_ij sum_p (own_p(i) e^{p s_ij - l_p(i)} + other_p(j) e^{p s_ij - l_p(j)}) z_j
template <typename T>
struct RunningLogMomentsGradient {
  int32_t selection;
  int count;
  double powers[2];
  const T* own[2];       // [R]
  const T* other[2];     // [R]
  const T* log_sums[2];  // [R], finite
  T factor[2];
  T* gradient;           // [R, padded_d]
};

/// The released hard negatives. e_ij = e^{s_ij - shift_i} = relative_i e^{s_ij - reference}; phi(e) = (e + epsilon)^exponent, times e if times_e.
template <typename T>
struct HardExponential {
  double exponent, epsilon, reference;
  bool uniform;        // every relative_i is 1: e_ij = e_ji
  const T* relative;   // [R], 1 for padding
};

/// sums_k(i) += sum_{j negative} phi(e_ij) weights_k(j), or phi(e_ji) if transposed; maximum_i = max(maximum_i, s_ij / scale) if it is asked for.
template <typename T>
struct HardMoments {
  HardExponential<T> exponential;
  bool times_e, transposed;
  int count;              // 1 or 2 sets of weights
  const T* weights[2];    // [R]
  double* sums;           // [count, R]
  T* maximum;             // [R] or null
};

/// With D = e phi'(e) - centre of each term: gradient_i += sum_j sum_terms (own(i) q(j) D(e_ij) + other(j) q(i) D(e_ji)) z_j.
template <typename T>
struct HardMomentsGradient {
  HardExponential<T> exponential;
  int count;  // 1 or 2 terms
  struct Term {
    bool times_e;
    const T* weights;  // q, [R]
    const T* own;      // [R]
    const T* other;    // [R]
    double centre = 0;
  } terms[2];
  T* gradient;  // [R, padded_d]
};

/// One instruction set's functions. Tasks take the pair of blocks (I, J), which of them are written, and scratch memory.
template <typename T>
struct SimilarityKernels {
  /// Elements of panels and of rows for each row of Z.
  int64_t (*panel_width)(int64_t d);
  int64_t (*row_width)(int64_t d);
  /// Fills a block's panels and rows from its contiguous rows z [size, d].
  void (*pack)(const T* z, int64_t size, int64_t d, T* panels, T* rows);
  void (*log_moments)(const Matrix<T>&, const LogMoments<T>&, int64_t I, int64_t J, Ends ends, T* workspace);
  void (*log_moments_gradient)(const Matrix<T>&, const LogMomentsGradient<T>&, int64_t I, int64_t J, Ends ends, T* workspace);
  void (*hard_moments)(const Matrix<T>&, const HardMoments<T>&, int64_t I, int64_t J, Ends ends, T* workspace);
  void (*hard_moments_gradient)(const Matrix<T>&, const HardMomentsGradient<T>&, int64_t I, int64_t J, Ends ends, T* workspace);
  void (*running_log_moments)(const Matrix<T>&, const RunningLogMoments<T>&, int64_t block, T* workspace);
  void (*running_log_moments_gradient)(const Matrix<T>&, const RunningLogMomentsGradient<T>&, int64_t block, T* workspace);
  /// sum_k x_k y_k in double.
  double (*dot)(const T* x, const T* y, int64_t d);
  /// y += a x in double.
  void (*add)(double a, const T* x, int64_t d, double* y);
  /// y = a x, rounded once.
  void (*multiply)(double a, const T* x, int64_t d, T* y);
  /// y = a g - b <g, x> x, rounded once.
  void (*project)(double a, const double* g, double b, const T* x, int64_t d, T* y);
};

/// The kernels of the instruction set in use.
template <typename T>
const SimilarityKernels<T>& similarity();

/// Factors of products: float32; bfloat16; or sums of two bfloat16 numbers, three products of which are kept. Sums are of float32.
enum class Precision { Full, Bf16, Bf16x3 };

/// Those of a precision in bfloat16; null where the instruction set in use has none. The running ones are missing.
const SimilarityKernels<float>* similarity_bf16(Precision precision);

}  // namespace a_infonce::kernels

// Sums over functions of S = scale Z Z^T on a CUDA device: what similarity.h is for a CPU, on the same blocks of rows, with the same codes and selections. Pointers
// are the device's, aligned to 16 bytes, and so are the numbers that follow from data, so that nothing waits for the host. Every block of rows owns its sums and gradients, visits its
// columns in a fixed order and adds with no atomics: the same device gives the same bits.
#pragma once
#include "kernels/cuda/stream.h"
#include "kernels/similarity/similarity.h"

namespace a_infonce::kernels::cuda {

/// Factors of products. Bf16; sums of two bfloat16 numbers, three products of which are kept; float32, as sums of two tf32 numbers likewise; float64. All but the last
/// have float32 sums within a tile, and are of T = float.
enum class Products { Bf16, Bf16x3, Float32, Float64 };

// Packed rows: an array of 8 KB chunks of 64 rows x 128 bytes (64, 32 or 16 dimensions), [parts, blocks * 3, chunks of a row]; Bf16x3 has two parts, high and low. Row r
// of a chunk is 8 pieces of 16 bytes, and piece c lies at place c ^ (r % 8): as wgmma's 128-byte swizzle has it, and without bank conflicts for ldmatrix. Padding is 0.
constexpr int64_t chunk_rows = 64, chunk_row_bytes = 128, chunk_bytes = chunk_rows * chunk_row_bytes;
constexpr int64_t element_bytes(Products products) { return products == Products::Float64 ? 8 : products == Products::Float32 ? 4 : 2; }
constexpr int64_t parts_of(Products products) { return products == Products::Bf16x3 ? 2 : 1; }
/// Of a row of gradients, and of a packed one: d up to a multiple of 64.
constexpr int64_t padded_dimensions(int64_t d) { return round_up(d, 64); }
constexpr int64_t packed_bytes(Products products, int64_t blocks, int64_t d) { return parts_of(products) * blocks * block_rows * padded_dimensions(d) * element_bytes(products); }

/// What the codes of 64 rows have in common, so that most tiles need no test per pair.
struct alignas(16) Strip {
  int32_t first_group, last_group;  // of rows that are none of padding
  int32_t kinds;                    // bits: 1 has clean rows, 2 adversarial ones, 4 padding
};

struct DeviceMatrix {
  Products products;
  int64_t blocks, d;    // R = blocks * block_rows rows
  const void* rows;     // packed
  const int32_t* codes; // [R]: 2 * group + kind, -1 for padding
  const Strip* strips;  // [R / 64]
  double scale;
};

/// The blocks of columns that each block of rows visits, in this order. The first `row_blocks` blocks have sums or gradients; the others are columns alone.
struct Visits {
  int64_t row_blocks;
  const int32_t* offsets = nullptr;  // [row_blocks + 1], into `ranges`; null: everyone visits all
  const int32_t* ranges = nullptr;   // [offsets[row_blocks], 2]: first block, and the one after the last
  int splits = 1;                    // thread blocks that share a block's visits; their partial sums are added in order
};
/// How many pay, on the current device; `columns`: blocks that a row block visits, about.
int splits_of(int64_t row_blocks, int64_t columns);

/// Where, when and with what memory to run. With a flag the kernels return at once unless *flag == value.
struct Context {
  Stream stream = nullptr;
  void* workspace = nullptr;  // workspace_bytes of it; not shared by streams
  const int32_t* flag = nullptr;
  int32_t value = 0;
};
/// Of log_moments and log_moments_gradient of device_similarity, or of its other functions.
int64_t workspace_bytes(Products products, int64_t d, const Visits& visits, bool log_moments);

// What follows is like the tasks of the same names of similarity.h: sums and gradients are added to, rows of padding are left alone.

/// sums[p, i] += sum_{j selected} e^{p (s_ij - reference)} for one or two powers p, and attraction_i += sum_j (e^{s_ij - reference} - centre) z_j where it is asked
/// for (one power, p = 1). A sum over selected pairs is never 0.
template <typename T>
struct DeviceLogMoments {
  int32_t selection;
  int count;
  double powers[2];
  const double* reference;
  double* sums;                     // [count, R]
  T* attraction = nullptr;          // [R, padded_dimensions(d)] or null
  int64_t attracted = 0;            // blocks that have an attraction: the first ones
  const double* centre = nullptr;   // null: 0
};

/// gradient_i += sum_j f_ij sum_p (own_p(i) + other_p(j)) (e^{p (s_ij - reference)} - centre_p) z_j, f_ij = 1 within a kind, factor[kind of i] across.
template <typename T>
struct DeviceLogMomentsGradient {
  int32_t selection;
  int count;
  double powers[2];
  const double* reference;
  const T* own[2];                  // [R]
  const T* other[2];                // [R]
  T factor[2];                      // clean, adversarial
  T* gradient;                      // [R, padded_dimensions(d)]
  const double* centres = nullptr;  // [count]; null: 0
};

/// For exponents of any size: log_sums[p, i] = log sum_{j selected} e^{p s_ij}, every row with its running maximum; -infinity without a selected pair.
struct DeviceRunningLogMoments {
  int32_t selection;
  int count;
  double powers[2];
  double* log_sums;  // out, [count, R]
};

/// gradient_i += sum_j f_ij sum_p (own_p(i) e^{p s_ij - l_p(i)} + other_p(j) e^{p s_ij - l_p(j)}) z_j
template <typename T>
struct DeviceRunningLogMomentsGradient {
  int32_t selection;
  int count;
  double powers[2];
  const T* own[2];       // [R]
  const T* other[2];     // [R]
  const T* log_sums[2];  // [R], finite
  T factor[2];
  T* gradient;           // [R, padded_dimensions(d)]
};

/// The released hard negatives. e_ij = relative_i e^{s_ij - reference}; phi(e) = (e + epsilon)^exponent, times e if times_e.
template <typename T>
struct DeviceHardExponential {
  double exponent, epsilon;
  const double* reference;
  const T* relative;  // [R]; null: all 1
};

/// sums_k(i) += sum_{j negative} phi(e_ij) weights_k(j), or phi(e_ji) if transposed; maximum_i = max(maximum_i, s_ij / scale) if it is asked for.
template <typename T>
struct DeviceHardMoments {
  DeviceHardExponential<T> exponential;
  bool times_e, transposed;
  int count;              // 1 or 2 sets of weights
  const T* weights[2];    // [R]
  double* sums;           // [count, R]
  T* maximum = nullptr;   // [R] or null
};

/// With D = e phi'(e) - centre of each term: gradient_i += sum_j sum_terms (own(i) q(j) D(e_ij) + other(j) q(i) D(e_ji)) z_j.
template <typename T>
struct DeviceHardMomentsGradient {
  DeviceHardExponential<T> exponential;
  int count;  // 1 or 2 terms
  struct Term {
    bool times_e;
    const T* weights;  // q, [R]
    const T* own;      // [R]
    const T* other;    // [R]
    const double* centre = nullptr;  // null: 0
  } terms[2];
  T* gradient;  // [R, padded_dimensions(d)]
};

/// Whether products have running_log_moments and its gradient: exponents that need them are beyond the accuracy of bfloat16.
constexpr bool has_running(Products products) { return products == Products::Float32 || products == Products::Float64; }

/// One way of multiplying.
template <typename T>
struct DeviceSimilarity {
  /// Packs z [n, d] into `rows`, which hold zeros: row i, times inverse_lengths[i] (null: 1), as row places[i] (null: i) of the matrix's `blocks`.
  void (*pack)(const T* z, int64_t n, int64_t d, const double* inverse_lengths, const int32_t* places, int64_t blocks, void* rows, Stream stream);
  void (*log_moments)(const DeviceMatrix&, const DeviceLogMoments<T>&, const Visits&, const Context&);
  void (*log_moments_gradient)(const DeviceMatrix&, const DeviceLogMomentsGradient<T>&, const Visits&, const Context&);
  void (*running_log_moments)(const DeviceMatrix&, const DeviceRunningLogMoments&, const Visits&, const Context&);
  void (*running_log_moments_gradient)(const DeviceMatrix&, const DeviceRunningLogMomentsGradient<T>&, const Visits&, const Context&);
  void (*hard_moments)(const DeviceMatrix&, const DeviceHardMoments<T>&, const Visits&, const Context&);
  void (*hard_moments_gradient)(const DeviceMatrix&, const DeviceHardMomentsGradient<T>&, const Visits&, const Context&);
};

/// The best for the current device; T = double for Float64, float for all others.
template <typename T>
DeviceSimilarity<T> device_similarity(Products products);

/// Those of any device from compute capability 8.0 on.
extern const DeviceSimilarity<float> portable_bf16, portable_bf16x3, portable_float32;
extern const DeviceSimilarity<double> portable_float64;

/// strips [R / 64] of the codes [R].
void describe_codes(const int32_t* codes, int64_t R, Strip* strips, Stream stream);
/// *flag = value if one of the sums [size] is neither 0 nor in the range that holds its precision, over up to n terms (ops::Moments::in_range); *flag is left alone otherwise.
template <typename T>
void find_out_of_range(const double* sums, int64_t size, int64_t n, int32_t* flag, int32_t value, Stream stream);

}  // namespace a_infonce::kernels::cuda

// Rows of embeddings on a CUDA device: lengths, similarities within an image, sums over rows, and the gradient back to what was given. Pointers are the device's; sums
// have a fixed order.
#pragma once
#include <cstdint>
#include "kernels/cuda/stream.h"
#include "kernels/host_device.h"

namespace a_infonce::kernels::cuda {

/// Numbers that follow from all rows, for kernels and, at the end, for the host.
struct Numbers {
  double largest_square;   // of |z|^2, infinite if one is not finite
  double largest_error;    // of |x| - 1
  double reference;        // of exponents
  double mean;             // of s over pairs of different images
  double centres[2];       // that products in bfloat16 leave out
  double loss;
  double label_reference;  // of exponents over positives
  int32_t out_of_range;    // sums need a running maximum
  int32_t larger;          // a row has a larger similarity with another image than within its own
  int32_t wrong_sums;      // those given are not of these rows
  int32_t infinite_loss;
  int32_t least_code;      // of those given, where it is below 0
  int32_t used;            // rows that have a positive, of labels
  int32_t no_positives;    // no row has one, of labels
  int32_t no_negatives;    // a row has none, of labels
  int32_t positives;       // of labels, the stage of sums over them: 0 of the rows as they are; 1 of float64 ones; 2 those with a running maximum
};
static_assert(sizeof(Numbers) % sizeof(double) == 0);

/// Where the rows of the images' views are among the rows of the similarity kernels.
struct Places {
  int64_t batch, views;
  int64_t mover = -1;        // the view whose rows come first; -1: views lie in order
  int64_t second_place = 0;  // of the other views' first row
  int64_t adversarial = -1;  // view; -1: none
  A_INFONCE_HOST_DEVICE int64_t place(int64_t view, int64_t image) const {
    return mover < 0 ? view * batch + image : view == mover ? image : second_place + (view - (view > mover)) * batch + image;
  }
  A_INFONCE_HOST_DEVICE int64_t view(int64_t place) const {
    if (mover < 0) return place / batch;
    if (place < second_place) return mover;
    const int64_t view = (place - second_place) / batch;
    return view + (view >= mover);
  }
  A_INFONCE_HOST_DEVICE int64_t image(int64_t place) const { return (mover < 0 || place < second_place ? place : place - second_place) % batch; }
};

/// Rows [first_count, d] at places 0, 1, ..., and [second_count, d] from places.second_place on; the others are padding.
template <typename T>
struct ViewRows {
  Places places;
  const T *first, *second;
  int64_t first_count, second_count, d;
  int64_t rows;                // of the kernels
  bool normalize, released;    // z = x / |x|, or x / (|x| + 1e-8)
  double *lengths, *inverses;  // [rows]: |x|, and z = x * inverse, 0 for padding
  int32_t* codes;              // [rows]: 2 * image + adversarial, -1 for padding
  const int32_t* given = nullptr;  // codes [first_count + second_count] in their place
};
constexpr double least_length = 1e-12;  // a row of zeros stays one

/// Ranges of blocks of columns, as similarity_cuda.h has them: the first `moving` blocks of rows visit all `blocks`, the others the moving ones. offsets [blocks + 1],
/// ranges [blocks, 2].
void visit_moving(int64_t blocks, int64_t moving, int32_t* offsets, int32_t* ranges, Stream stream);

/// Lengths, inverses and codes, and what `numbers` has of them.
template <typename T>
void measure(const ViewRows<T>& z, Numbers* numbers, Stream stream);

/// similarity [batch, views, views], within each image; their sums in `partials` [partial_sums(batch)], if it is given.
template <typename T>
void similarities_within(const ViewRows<T>& z, double scale, double* similarity, double* partials, Stream stream);
int64_t partial_sums(int64_t batch);

/// sums [2, count, d]: of by_k(row) z over clean and over adversarial rows, for up to four k; by[k] [rows], 0 for padding; null: 1. workspace [row_sums_workspace(...)].
template <typename T>
void sum_rows(const ViewRows<T>& z, int count, const T* const* by, double* workspace, double* sums, Stream stream);
constexpr int64_t row_sum_parts = 128;
constexpr int64_t row_sums_workspace(int count, int64_t d) { return row_sum_parts * 2 * count * d; }

/// numbers->mean from sums [2, 1, d] of all rows and the partial sums of the similarities within images.
void find_mean(const double* sums, int64_t d, const double* partials, const Places& places, double scale, Numbers* numbers, Stream stream);

/// The gradient of first rows, from what the loss sends them.
template <typename T>
struct RowGradient {
  const T* sums;                   // through sums over pairs, over `scale`: [first_count, stride]
  int64_t stride;
  const T* factors;                // [rows], of `sums`; null: 1
  const double *full, *detached;   // [batch, views, views]: through the similarities within an image, both ends and the first one's
  double scale, alpha;             // pairs across kinds move a clean row times 2 alpha, an adversarial one times 2 (1 - alpha)
  // Centres that products left out of (own(i) weights(j) + weights(i) other(j)), times the mean of exponentials in numbers->centres: [rows] each, weights null: 1.
  int centres;
  const T *own[2], *other[2], *weights[2];
  const double* common;            // sum_rows of weights_0, other_0, weights_1, ...
  const Numbers* numbers;
  const double* by_loss;
  T* to;                           // [first_count, d]; may be `sums` where stride is d
};
template <typename T>
void finish_gradient(const ViewRows<T>& z, const RowGradient<T>& task, Stream stream);

}  // namespace a_infonce::kernels::cuda

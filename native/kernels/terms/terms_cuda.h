// The algebra of terms.h on a CUDA device, a thread an image, and what lies between it and the sums over pairs. Pointers are the device's.
#pragma once
#include "kernels/rows/rows_cuda.h"
#include "kernels/terms/terms.h"

namespace a_infonce::kernels::cuda {

/// full, detached, log_positive [views, views] of weight_of.
void fill_weights(const Weighing& by, double* full, double* detached, double* log_positive, Stream stream);

/// Memory of the threads that share the images, whatever their number: scratch [terms_workspace(...)], losses [terms_blocks(...)].
int64_t terms_blocks(int64_t batch, int64_t views);
int64_t terms_workspace(int64_t batch, int64_t views);

/// Of exponentials of p (s - reference) with a power up to `power`, as ops::reference_of<T> has it for rows of numbers->largest_square.
template <typename T>
void find_reference(double scale, double power, const Numbers* numbers, double* reference, Stream stream);

/// Sums over pairs, and the derivatives by their logs as the similarity kernels take them.
template <typename T>
struct MomentSums {
  int count;
  double powers[2];
  const double* sums;              // [count, rows]: of e^{p (s - reference)}; logs where *stage == running
  int64_t rows;
  const double* reference;
  const int32_t* stage;            // null: no logs
  int32_t running;
  T *own[2], *other[2], *logs[2];  // out, [rows]; `own` null: nobody wants them; logs null where `stage` is

  A_INFONCE_HOST_DEVICE bool bounded() const { return !stage || *stage != running; }
  A_INFONCE_HOST_DEVICE double log_sum(int p, int64_t row) const {
    const double sum = sums[p * rows + row];
    return bounded() ? powers[p] * *reference + std::log(sum) : sum;
  }
  /// The derivative of a loss by log_sum(p, row) through both ends of its pairs (full) and through the row's own end (detached).
  A_INFONCE_HOST_DEVICE void set_derivative(int p, int64_t row, double full, double detached) const {
    const double sum = sums[p * rows + row];
    const bool direct = bounded(), none = direct ? sum == 0 : sum == -static_cast<double>(INFINITY);
    const double factor = none ? 0 : powers[p] / (direct ? sum : 1);
    own[p][row] = static_cast<T>(none ? 0 : factor * (full + detached)), other[p][row] = static_cast<T>(none ? 0 : factor * full);
    if (logs[p] && !direct && !none) logs[p][row] = static_cast<T>(sum);
  }
};
/// Of a row without a sum: an exponential of any similarity less this is 0.
constexpr double no_log = 1e30;

/// result [count, n] = the logs of the sums of the first n rows.
template <typename T>
void log_sums(const MomentSums<T>& sums, int64_t n, double* result, Stream stream);
/// Of the same rows, from full and detached [count, n]; null: 0.
template <typename T>
void set_derivatives(const MomentSums<T>& sums, int64_t n, const double* full, const double* detached, Stream stream);
/// numbers->centres[p] = e^{p (mean - reference)}.
void find_centres(int count, const double* powers, Numbers* numbers, Stream stream);

/// Sums over the clean negatives of rows that stay, given as logs [count, (views - 1) * batch] in the order of those rows, are added to the others of their sums [count, rows].
void add_known_sums(const double* known, int count, const double* powers, const Places& places, double* sums, int64_t rows, const Numbers* numbers, Stream stream);
/// Of some of the similarities of the first row of `second` with rows of other images there: the largest, and the sums of e^{power (s - top)}.
struct FirstRowPart {
  double top, sums[2];
};
constexpr int64_t first_row_parts = 1024;
/// numbers->wrong_sums = 1 unless the known sums of that row are those of its similarities, to rounding and what `largest_square` adds; needs measured rows. parts: [first_row_parts].
template <typename T>
void check_known_sums(const ViewRows<T>& z, const double* known, int count, const double* powers, double scale, FirstRowPart* parts, Numbers* numbers, Stream stream);

/// plain_terms of every image, and the derivatives; none where `full` is null.
template <typename T>
struct LogMomentTerms {
  Terms terms;
  Places places;
  const double* similarity;         // [batch, views, views]
  MomentSums<T> negatives;
  double *full, *detached;          // out, [batch, views, views]
};
/// losses: a part each block; `find_loss` adds them up.
template <typename T>
void log_moment_terms(const LogMomentTerms<T>& task, double* scratch, double* losses, Stream stream);
/// numbers->loss and ->infinite_loss.
void find_loss(const double* losses, int64_t blocks, Numbers* numbers, Stream stream);

/// The released hard negatives (objective/hard_negatives.cpp). In the order of their use:
template <typename T>
struct HardTerms {
  Terms terms;
  Places places;
  int64_t rows;
  double scale, epsilon;       // of importances, in units of E
  double least_epsilon;        // what the kernels can add
  const double* similarity;    // [batch, views, views]
  double* shift;               // [rows]
  T* relative;                 // [rows]; null: all 1, and shift is `scale`
  T* maximum;                  // [rows], likewise
  double *importance, *again;  // [rows]: sums, and those found again where numbers->larger
  double* q;                   // [rows]
  T* weight;                   // [rows]: q
  double* sums;                // [rows]
  double *full, *detached;     // [batch, views, views]
  T *own[2], *other[2], *by_detached;  // [rows]; other[1] and by_detached: derivatives by the sums
  double* by_q;                // [2, rows]: through both ends, and through the row's own
};
/// shift, relative, maximum and numbers->reference; relative of padding is 1.
template <typename T>
void hard_shifts(const HardTerms<T>& task, Numbers* numbers, Stream stream);
/// From `maximum`: larger shifts, and whether there are any.
template <typename T>
void hard_raised(const HardTerms<T>& task, Numbers* numbers, Stream stream);
template <typename T>
void hard_weights(const HardTerms<T>& task, const Numbers* numbers, Stream stream);
/// hard_terms of every image.
template <typename T>
void hard_terms(const HardTerms<T>& task, double* scratch, double* losses, Stream stream);
/// own[0] and other[0], from by_q.
template <typename T>
void hard_slopes(const HardTerms<T>& task, Stream stream);
/// numbers->centres of the gradient's two terms.
template <typename T>
void hard_centres(const HardTerms<T>& task, Numbers* numbers, Stream stream);

}  // namespace a_infonce::kernels::cuda

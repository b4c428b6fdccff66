// Queries with a key each and a queue of negatives on a CUDA device. Pointers are the device's.
#pragma once
#include "kernels/terms/terms_cuda.h"

namespace a_infonce::kernels::cuda {

/// QueueTerm of the first rows of z, the queries; the keys are the first rows of `keys`. losses [queue_blocks(queries)]; by_positive [queries]: derivatives by <q_i, k_i> / t;
/// those by the sums where somebody wants them.
template <typename T>
struct QueueTask {
  ViewRows<T> queries, keys;
  int64_t size;  // of the queue
  double scale;
  NegativeWeights negative;
  MomentSums<T> negatives;
  double *losses, *by_positive;
};
int64_t queue_blocks(int64_t queries);
template <typename T>
void queue_terms(const QueueTask<T>& task, Stream stream);

/// The gradient of rows beside others, each of which has a similarity with one of those.
template <typename T>
struct BesideGradient {
  const T* sums;           // through sums over pairs, over `scale`: [rows, stride]; null: nothing
  int64_t stride;
  const T* factors;        // [rows], of `sums`; null: 1
  ViewRows<T> beside;
  const double* by;        // [rows], through the similarities with those; null: nothing
  double scale;
  const double* by_loss;
  T* to;                   // [rows, d]
};
/// Of the `count` rows of z from a place on; sums and the others are theirs.
template <typename T>
void finish_beside(const ViewRows<T>& z, int64_t place, int64_t count, const BesideGradient<T>& task, Stream stream);

}  // namespace a_infonce::kernels::cuda

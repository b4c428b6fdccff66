// Form paper with labels on a CUDA device: rows in the order of their classes, so that most tiles are of positives or of negatives alone. Pointers are the device's.
#pragma once
#include "kernels/terms/terms_cuda.h"

namespace a_infonce::kernels::cuda {

/// Where rows of labelled images are: clean ones first, the views of an image side by side, images in the order of their labels.
struct Classes {
  int64_t batch, views, adversarial;  // view; -1: none
  const int32_t* bounds;              // [batch, 2], in the order of the labels: the first image of the same class, and the one after the last
  A_INFONCE_HOST_DEVICE int64_t rows() const { return batch * views; }
  A_INFONCE_HOST_DEVICE int64_t views_of(int kind) const { return kind == 0 ? views - (adversarial >= 0) : adversarial >= 0; }
  /// Of the rows of a kind.
  A_INFONCE_HOST_DEVICE int64_t first_of(int kind) const { return kind == 0 ? 0 : batch * views_of(0); }
  A_INFONCE_HOST_DEVICE int kind(int64_t place) const { return place >= first_of(1); }
  A_INFONCE_HOST_DEVICE int64_t image(int64_t place) const { return (place - first_of(kind(place))) / views_of(kind(place)); }
  A_INFONCE_HOST_DEVICE int64_t positives(int64_t image) const { return views * (bounds[2 * image + 1] - bounds[2 * image]) - 1; }
};

/// From labels [batch] in order, and which images have them: bounds, the rows [rows] that were given for each place and their codes, numbers->used and ->no_negatives.
void arrange_classes(const int64_t* labels, const int64_t* images, const Classes& classes, int32_t* bounds, int64_t* rows, int32_t* codes, Numbers* numbers, Stream stream);

/// sums [batch, 2, d]: of z over the clean and over the adversarial rows of a class, at its first image; the others are left alone.
template <typename T>
void sum_classes(const ViewRows<T>& z, const Classes& classes, double* sums, Stream stream);

/// LabelTerm of every row. Positives within a kind and, where they weigh otherwise, across; U: of the rows whose sums these are.
template <typename T, typename U>
struct LabelTask {
  LabelTerms terms;
  Classes classes;
  const double* sums;  // of the classes
  MomentSums<T> negatives;
  MomentSums<U> positives[2];
  int kinds;           // of positives
};
int64_t label_blocks(int64_t rows);
/// losses [label_blocks(rows)]. numbers->no_positives, and numbers->positives = 1 where U is float and an anchor's positives are tight; nothing at all where it is double, T is float and numbers->positives 0.
template <typename T, typename U>
void label_terms(const ViewRows<T>& z, const LabelTask<T, U>& task, double* losses, Numbers* numbers, Stream stream);

template <typename T>
struct LabelGradient {
  Classes classes;
  const double* sums;       // of the classes
  const T* by_sums;         // what the loss sends rows through sums over pairs, over `scale`: [rows, stride]
  const double* by_exact;   // likewise through those of float64 rows; null: nothing
  int64_t stride;
  double scale, weight, ends[2];  // ends: of pairs across kinds, what moves a clean row and what an adversarial one
  const int64_t* rows;      // given for each place
  const double* by_loss;
  T* to;                    // [rows, d], as they were given
};
template <typename T>
void finish_labels(const ViewRows<T>& z, const LabelGradient<T>& task, const Numbers* numbers, Stream stream);

}  // namespace a_infonce::kernels::cuda

// What embeddings are like: cosine similarities between two sets of rows, in blocks (no n x n matrix), and principal axes. All in float64, and on the CPU: results lie there, wherever the
// rows were.
#pragma once
#include <ATen/core/Tensor.h>
#include <cstdint>
#include "nn/model.h"

namespace a_infonce::analysis {

/// nn::embedding of images [N, C, H, W] in eval mode and without recording, [N, D]. NonFinite naming the first row that holds NaN or infinity.
at::Tensor embed(nn::Model& model, const at::Tensor& images, int64_t batch_size);

/// Cosine similarities s_ij between row i of one set and row j of another of the same size; i = j is the row's own pair, the others are negatives.
struct Pairs {
  at::Tensor own;                 // float64 [n]: s_ii
  at::Tensor nearest;             // int64 [n, k]: the most similar j, best first (the own one among them unless excluded)
  at::Tensor nearest_similarity;  // float64 [n, k]
  at::Tensor counts;              // int64 [bins]: negatives by similarity, bins of equal width over [-1, 1]
  double mean = 0;                // of the negatives
  double uniformity = 0;          // log mean exp(-2 |u_i - v_j|^2) over the negatives, rows of length 1 (Wang and Isola, ICML 2020)
};

/// rows, gallery: [n, d], n >= 2, 1 <= k <= n (< n where the own pair is excluded), bins >= 1.
Pairs pairs(const at::Tensor& rows, const at::Tensor& gallery, int64_t k, int64_t bins, bool exclude_own);

struct Principal {
  at::Tensor coordinates;  // float64 [m, k]
  at::Tensor explained;    // float64 [k]: share of the variance along each axis
};

/// `points` [m, d] along the first k principal axes of `fitted` [n, d], about its mean. The largest entry of an axis is positive.
Principal principal(const at::Tensor& fitted, const at::Tensor& points, int64_t k);

}  // namespace a_infonce::analysis

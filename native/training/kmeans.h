// K-means, for pseudo-labels: Lloyd's iteration (1982) or mini-batches (Sculley, WWW 2010), from k-means++ seeds (Arthur and Vassilvitskii, SODA 2007).
#pragma once
#include <ATen/core/Tensor.h>
#include <cstdint>
#include <functional>
#include <vector>

namespace a_infonce::training {

struct KMeansOptions {
  int64_t k = 2;
  bool mini_batch = true;      // else Lloyd
  int64_t batch_size = 1024;   // of a mini-batch
  int64_t restarts = 10;       // the one with the lowest inertia is kept
  int64_t max_iterations = 100;  // passes over the rows, of a restart
  double tolerance = 1e-4;     // a pass that lowers the inertia by a smaller share is the last
  uint64_t seed = 0;
};

struct Clusters {
  at::Tensor labels;            // int64 [N]: the nearest centre, the first of equally near ones
  at::Tensor centers;           // float32 [k, D]
  double inertia = 0;           // sum of squared distances to the centres
  std::vector<double> history;  // of every pass; Lloyd: the inertia, never rising; mini-batches: the sum of what each row had when its batch came
};

/// Called once a mini-batch or pass with the restart, the passes done and the last of `history`; may throw to stop.
using KMeansProgress = std::function<void(int64_t restart, int64_t pass, double inertia)>;

/// Clusters of the rows of `features` [N, D] (float32 or float64, taken as float32). An empty cluster takes the row that is farthest from its centre, so
/// that a label stays unused only where there are fewer distinct rows than clusters. A restart depends on (seed, its number) alone, and no bit
/// on the number of threads. ArgumentRange unless 1 <= k <= N; NonFinite naming the first row that holds NaN or infinity.
Clusters kmeans(const at::Tensor& features, const KMeansOptions& options, const KMeansProgress& progress);

}  // namespace a_infonce::training

#include "kmeans.h"
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/index_select.h>
#include <algorithm>
#include <numeric>
#include "../describe.h"
#include "../dtype.h"
#include "../error.h"
#include "../ops/similarity.h"
#include "sampling.h"

namespace a_infonce::training {
namespace {

constexpr int64_t chunk_rows = 256, chunk_columns = 64;

/// Fixed chunks of 0 to n-1. There are always two or more, so that with several threads each runs inside a parallel region, where the matrix products are
/// serial ones: their bits depend on the chunk alone.
void for_chunks(int64_t n, int64_t size, const std::function<void(int64_t first, int64_t last)>& work) {
  at::parallel_for(0, std::max<int64_t>(2, (n + size - 1) / size), 1, [&](int64_t from, int64_t to) {
    for (int64_t chunk = from; chunk < to; ++chunk)
      if (chunk * size < n) work(chunk * size, std::min(n, (chunk + 1) * size));
  });
}

double squared_distance(const float* x, const double* center, int64_t d) {
  constexpr int lanes = 8;  // sums side by side, in a fixed order
  double sums[lanes] = {};
  int64_t c = 0;
  for (; c + lanes <= d; c += lanes)
    for (int lane = 0; lane < lanes; ++lane) sums[lane] += (x[c + lane] - center[c + lane]) * (x[c + lane] - center[c + lane]);
  for (; c < d; ++c) sums[0] += (x[c] - center[c]) * (x[c] - center[c]);
  return std::accumulate(sums, sums + lanes, 0.0);
}

at::Tensor mean_row(const at::Tensor& rows) {
  const int64_t n = rows.size(0), d = rows.size(1);
  const at::Tensor mean = at::empty({d}, at::kFloat);
  for_chunks(d, chunk_columns, [&, x = rows.const_data_ptr<float>(), out = mean.mutable_data_ptr<float>()](int64_t first, int64_t last) {
    double sums[chunk_columns] = {};
    for (int64_t i = 0; i < n; ++i)
      for (int64_t c = first; c < last; ++c) sums[c - first] += x[i * d + c];
    for (int64_t c = first; c < last; ++c) out[c] = static_cast<float>(sums[c - first] / n);
  });
  return mean;
}

/// Uniform on [0, 1): a multiple of 2^-53.
double uniform(uint64_t seed, uint64_t stream, uint64_t index) {
  const auto words = random::block(seed, stream, index);
  return static_cast<double>((uint64_t{words.word[0]} << 32 | words.word[1]) >> 11) * 0x1p-53;
}

enum Purpose : uint64_t { Seeding, Order };

class Restart {
 public:
  Restart(const at::Tensor& rows, const KMeansOptions& options, int64_t number, const KMeansProgress& progress)
      : options_(options), number_(number), progress_(progress), n_(rows.size(0)), d_(rows.size(1)), k_(options.k), rows_(rows), centers_(k_ * d_), labels_(n_, -1),
        distances_(n_), sizes_(k_) {}

  Clusters run() {
    options_.mini_batch ? mini_batches() : lloyd();
    Clusters result;
    result.labels = at::empty({n_}, at::kLong);
    std::copy(labels_.begin(), labels_.end(), result.labels.mutable_data_ptr<int64_t>());
    result.centers = at::empty({k_, d_}, at::kFloat);
    std::copy(centers_.begin(), centers_.end(), result.centers.mutable_data_ptr<float>());
    result.inertia = inertia();
    result.history = std::move(history_);
    return result;
  }

 private:
  uint64_t seed(Purpose purpose) const { return random::subseed(options_.seed, purpose); }
  void report() const { progress_(number_, static_cast<int64_t>(history_.size()), history_.empty() ? 0 : history_.back()); }
  double inertia() const { return std::accumulate(distances_.begin(), distances_.end(), 0.0); }

  void lloyd() {
    seed_centers(rows_);
    std::vector<int64_t> before;
    do {
      if (!history_.empty()) means();
      before = labels_;
      settle();
    } while (record(inertia()) && labels_ != before);
  }

  void mini_batches() {
    const int64_t sample = std::min(n_, 3 * std::max(options_.batch_size, k_));
    seed_centers(sample == n_ ? rows_ : take(order(0), 0, sample));
    std::vector<int64_t> seen(k_);
    double total;
    do {
      total = 0;
      const auto rows = order(history_.size() + 1);
      for (int64_t start = 0; start < n_; start += options_.batch_size) {
        report();
        total += learn(take(rows, start, std::min(n_, start + options_.batch_size)), seen);
      }
    } while (record(total));
    settle();
  }

  /// Adds a pass; false when it was the last.
  bool record(double inertia) {
    const bool first = history_.empty();
    const double before = first ? 0 : history_.back();
    history_.push_back(inertia);
    report();
    return inertia > 0 && static_cast<int64_t>(history_.size()) < options_.max_iterations && (first || before - inertia >= options_.tolerance * before);
  }

  std::vector<int64_t> order(uint64_t pass) const { return permutation(n_, seed(Order), static_cast<uint64_t>(number_) << 32 | pass); }

  at::Tensor take(const std::vector<int64_t>& order, int64_t first, int64_t last) const {
    return rows_.index_select(0, at::from_blob(const_cast<int64_t*>(order.data()) + first, {last - first}, at::kLong));
  }

  /// k-means++: each centre is a row, drawn with a chance in proportion to its squared distance to the nearest centre so far.
  void seed_centers(const at::Tensor& rows) {
    const int64_t n = rows.size(0);
    const auto* x = rows.const_data_ptr<float>();
    std::vector<double> weights(n, 1);
    for (int64_t center = 0; center < k_; ++center) {
      report();
      const double total = std::accumulate(weights.begin(), weights.end(), 0.0), goal = total * uniform(seed(Seeding), number_, center);
      int64_t chosen = -1;
      double sum = 0;
      for (int64_t i = 0; i < n && (chosen < 0 || sum <= goal); ++i) {
        sum += weights[i];
        if (weights[i] > 0) chosen = i;
      }
      double* here = &centers_[center * d_];
      std::copy_n(x + std::max<int64_t>(chosen, 0) * d_, d_, here);  // no row is left when fewer differ than clusters are wanted
      for_chunks(n, chunk_rows, [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) {
          const double distance = squared_distance(x + i * d_, here, d_);
          weights[i] = center == 0 ? distance : std::min(weights[i], distance);
        }
      });
    }
  }

  /// The nearest centre of every row, by |c|^2 - 2 <x, c>, and the exact squared distance to it.
  void assign(const at::Tensor& rows, std::vector<int64_t>& labels, std::vector<double>& distances) const {
    const at::Tensor columns = at::empty({d_, k_}, at::kFloat), squares = at::empty({1, k_}, at::kFloat);
    auto* column = columns.mutable_data_ptr<float>();
    for (int64_t center = 0; center < k_; ++center) {
      double square = 0;
      for (int64_t c = 0; c < d_; ++c) {
        const double value = centers_[center * d_ + c];
        column[c * k_ + center] = static_cast<float>(value);
        square += value * value;
      }
      squares.mutable_data_ptr<float>()[center] = static_cast<float>(square);
    }
    const auto* x = rows.const_data_ptr<float>();
    for_chunks(rows.size(0), chunk_rows, [&](int64_t first, int64_t last) {
      const at::Tensor scores = at::addmm(squares, rows.slice(0, first, last), columns, 1, -2);
      const auto* score = scores.const_data_ptr<float>();
      for (int64_t i = first; i < last; ++i, score += k_) {
        labels[i] = std::min_element(score, score + k_) - score;
        distances[i] = squared_distance(x + i * d_, &centers_[labels[i] * d_], d_);
      }
    });
  }

  /// Assigns every row; an empty cluster then moves to the row that is farthest from its centre, and all are assigned anew.
  void settle() {
    for (int64_t round = 0; round <= k_; ++round) {
      assign(rows_, labels_, distances_);
      std::fill(sizes_.begin(), sizes_.end(), 0);
      for (const int64_t label : labels_) ++sizes_[label];
      if (std::find(sizes_.begin(), sizes_.end(), 0) == sizes_.end()) return;
      std::vector<int64_t> farthest(n_);
      std::iota(farthest.begin(), farthest.end(), int64_t{0});
      std::stable_sort(farthest.begin(), farthest.end(), [&](int64_t a, int64_t b) { return distances_[a] > distances_[b]; });
      auto row = farthest.begin();
      bool moved = false;
      for (int64_t center = 0; center < k_; ++center) {
        if (sizes_[center] > 0) continue;
        while (row != farthest.end() && sizes_[labels_[*row]] < 2) ++row;
        if (row == farthest.end() || distances_[*row] == 0) break;
        --sizes_[labels_[*row]];
        std::copy_n(rows_.const_data_ptr<float>() + *row++ * d_, d_, &centers_[center * d_]);
        moved = true;
      }
      if (!moved) return;
    }
  }

  /// Every centre becomes the mean of its rows, summed in their order.
  void means() {
    const auto* x = rows_.const_data_ptr<float>();
    for_chunks(d_, chunk_columns, [&](int64_t first, int64_t last) {
      for (int64_t center = 0; center < k_; ++center)
        if (sizes_[center] > 0) std::fill(&centers_[center * d_] + first, &centers_[center * d_] + last, 0);
      for (int64_t i = 0; i < n_; ++i)
        for (int64_t c = first; c < last; ++c) centers_[labels_[i] * d_ + c] += x[i * d_ + c];
      for (int64_t center = 0; center < k_; ++center)
        if (sizes_[center] > 0)
          for (int64_t c = first; c < last; ++c) centers_[center * d_ + c] /= sizes_[center];
    });
  }

  /// One mini-batch: each row pulls its centre by 1 / (the rows that the centre has seen). Returns the sum of squared distances before.
  double learn(const at::Tensor& rows, std::vector<int64_t>& seen) {
    const int64_t n = rows.size(0);
    std::vector<int64_t> labels(n);
    std::vector<double> distances(n), rates(n);
    assign(rows, labels, distances);
    for (int64_t i = 0; i < n; ++i) rates[i] = 1.0 / ++seen[labels[i]];
    const auto* x = rows.const_data_ptr<float>();
    for_chunks(d_, chunk_columns, [&](int64_t first, int64_t last) {
      for (int64_t i = 0; i < n; ++i)
        for (int64_t c = first; c < last; ++c) {
          double& center = centers_[labels[i] * d_ + c];
          center += rates[i] * (x[i * d_ + c] - center);
        }
    });
    return std::accumulate(distances.begin(), distances.end(), 0.0);
  }

  const KMeansOptions& options_;
  const int64_t number_;
  const KMeansProgress& progress_;
  const int64_t n_, d_, k_;
  const at::Tensor rows_;
  std::vector<double> centers_;  // [k, D]
  std::vector<int64_t> labels_;
  std::vector<double> distances_;  // squared, of each row to its centre
  std::vector<int64_t> sizes_;
  std::vector<double> history_;
};

}  // namespace

Clusters kmeans(const at::Tensor& features, const KMeansOptions& options, const KMeansProgress& progress) {
  const at::NoGradGuard no_grad;
  require_range(features.dim() == 2 && features.size(0) > 0 && features.size(1) > 0, "features", "[N, D], neither of them 0", "shape " + shape_text(features.sizes()));
  if (features.scalar_type() != at::kFloat && features.scalar_type() != at::kDouble)
    throw Error(ErrorKind::ArgumentType, "features", "a float32 or float64 tensor", dtype_name(features.scalar_type()));
  const int64_t n = features.size(0);
  require_range(options.k >= 1 && options.k <= n, "k", "1 to " + std::to_string(n) + ", the number of rows", std::to_string(options.k));
  const at::Tensor given = features.to(at::kCPU, at::kFloat).contiguous();
  ops::require_finite_rows(given, "features");
  // Distances do not change when the origin moves to the mean, and round less.
  const at::Tensor mean = mean_row(given), rows = given.sub(mean);
  Clusters best;
  for (int64_t number = 0; number < options.restarts; ++number) {
    Clusters found = Restart(rows, options, number, progress).run();
    if (number == 0 || found.inertia < best.inertia) best = std::move(found);
  }
  best.centers.add_(mean);
  return best;
}

}  // namespace a_infonce::training

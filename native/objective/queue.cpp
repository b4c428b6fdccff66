#include "objective/queue.h"
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>
#include <cmath>
#include "describe.h"
#include "dtype.h"
#include "error.h"
#include "objective/algebra.h"
#include "objective/backend.h"
#include "objective/evaluation.h"
#include "objective/rows.h"
#include "objective/terms.h"
#include "ops/similarity.h"

namespace a_infonce {

using at::Tensor;

namespace objective {
namespace {

/// The queue is taken a block at a time, in as many lanes as there are blocks, up to `most_lanes` whatever the number of threads: each has sums of its own, which are added
/// in the order of the lanes. Every thread has the packed queries, and one block of the queue behind them.
template <typename T>
class Queue final : public HostEvaluation {
  static constexpr int64_t most_lanes = 8;
  struct Lane {
    ops::Moments<T> moments;
    std::vector<T> gradient;  // [rows, padded_d]
    std::vector<double> log_sums;  // of its blocks so far, as Moments::sums
    double largest_square = 0;
  };
  const Options options;
  const int64_t n, d, size;  // queries, dim, queue
  const double scale;
  Rows<T> queries, keys, columns;
  const T* queue;
  Tensor copy;  // of the queue, where it is read again and gets no gradient: a queue is overwritten before the gradient is asked for
  const std::vector<bool> wanted;
  ops::Pairs<T> packed;  // the queries
  const int64_t blocks, lanes;
  ops::Moments<T> negatives;
  std::vector<T> attraction;       // sum_j e^{s_ij} z_j of the queries, where one pass is enough
  std::vector<double> by_positive; // derivatives by <q_i, k_i> / t

  ops::Pairs<T> with_room() const {
    ops::Pairs<T> result({n, kernels::block_rows}, d, scale);
    std::copy_n(packed.panels.data.get(), packed.rows * d, result.panels.data.get());
    std::copy_n(packed.row_data.data.get(), packed.rows * packed.padded_d, result.row_data.data.get());
    std::copy(packed.codes.begin(), packed.codes.end(), result.codes.begin());
    return result;
  }
  static constexpr double bound = 1 + 1e-6;  // of |z|^2
  /// The pairs of a query and a row of the queue, as ends.
  auto ends(bool first, bool second) const {
    return [=, this](int64_t I, int64_t J) { return I < blocks && J == blocks ? (first ? kernels::First : 0) | (second ? kernels::Second : 0) : 0; };
  }
  /// body(pairs, lane, first row of the queue, rows) for every block of the queue, which lies behind the queries of `pairs`; the lanes.
  template <typename Body>
  std::vector<Lane> for_queue(const Body& body) const {
    std::vector<Lane> all(lanes, Lane{{kernels::Negatives, negatives.powers, packed.rows + kernels::block_rows, scale * bound}, {}, {}});
    const int64_t count = (size + kernels::block_rows - 1) / kernels::block_rows, workers = std::min<int64_t>(at::get_num_threads(), lanes);
    ops::for_blocks(workers, size * d * n, [&](int64_t worker) {
      ops::Pairs<T> pairs = with_room();
      const ops::Buffer<T> z(kernels::block_rows * d);
      for (int64_t l = lanes * worker / workers; l < lanes * (worker + 1) / workers; ++l)
        for (int64_t block = count * l / lanes; block < count * (l + 1) / lanes; ++block) {
          const int64_t first = block * kernels::block_rows, here = std::min(kernels::block_rows, size - first);
          pairs.sizes[blocks] = static_cast<int32_t>(here);
          for (int64_t r = 0; r < kernels::block_rows; ++r) pairs.codes[packed.rows + r] = r < here ? 2 : -1;
          for (int64_t r = 0; r < here; ++r) {
            typename Rows<T>::Row row{queue + (first + r) * d, 0, 0};
            all[l].largest_square = std::max(all[l].largest_square, columns.measure(row));
            columns.write(row, z + r * d);
          }
          pairs.pack(blocks, z);
          body(pairs, all[l], first, here);
        }
    });
    return all;
  }

 public:
  Queue(const std::vector<Tensor>& inputs, const Options& options, const std::vector<bool>& wanted)
      : options(options), n(inputs[0].size(0)), d(inputs[0].size(1)), size(inputs[2].size(0)), scale(1 / options.temperature), queries(n, d, options), keys(n, d, options),
        columns(0, d, options), queue(inputs[2].const_data_ptr<T>()), wanted(wanted), packed({n}, d, scale), blocks(packed.blocks),
        lanes(std::min<int64_t>(most_lanes, (size + kernels::block_rows - 1) / kernels::block_rows)),
        negatives(kernels::Negatives, powers_of(options), packed.rows + kernels::block_rows, scale * bound) {
    const auto finite = [&](double square, int input, const char* name) {
      if (std::isfinite(square)) return;
      ops::require_finite_rows(inputs[input], name);
      check_precision(square, inputs[input].scalar_type(), options);
    };
    double largest_key = 0;
    for (int64_t i = 0; i < n; ++i) {
      queries.rows[i].x = inputs[0].const_data_ptr<T>() + i * d, queries.rows[i].place = i, queries.rows[i].code = 0;
      keys.rows[i].x = inputs[1].const_data_ptr<T>() + i * d;
      largest_key = std::max(largest_key, keys.measure(keys.rows[i]));
    }
    finite(queries.pack(packed), 0, "queries"), finite(largest_key, 1, "keys");
    const bool one_pass = wanted[0] && !wanted[2] && negatives.count() == 1;
    const int64_t width = packed.rows * packed.padded_d;
    auto all = for_queue([&](const ops::Pairs<T>& pairs, Lane& lane, int64_t, int64_t) {
      if (one_pass && lane.gradient.empty()) lane.gradient.resize(width);
      lane.moments.add(pairs, ends(true, false), one_pass ? lane.gradient.data() : nullptr, one_pass ? blocks : 0);
    });
    for (const Lane& lane : all) {
      finite(lane.largest_square, 2, "queue");
      for (size_t k = 0; k < negatives.sums.size(); ++k) negatives.sums[k] += lane.moments.sums[k];
    }
    if (negatives.in_range(size)) {
      if (one_pass) attraction = sum(all);
    } else run();
    if (wanted[0] && !wanted[2] && attraction.empty()) copy = inputs[2].clone(), queue = copy.const_data_ptr<T>();

    const double log_count = std::log(static_cast<double>(size));
    const auto negative = negative_of(options);
    by_positive.resize(n);
    negatives.clear_derivatives();
    for (int64_t i = 0; i < n; ++i) {
      const double x = scale * queries.dot(queries.rows[i], keys.rows[i]);
      double log_sums[2] = {};
      for (int64_t p = 0; p < negatives.count(); ++p) log_sums[p] = negatives.log_sum(p, i);
      const kernels::QueueTerm term(x, log_sums, log_count, negative);
      loss += term.value / static_cast<double>(n);
      by_positive[i] = term.by_x / static_cast<double>(n);
      for (int64_t p = 0; p < negatives.count(); ++p) negatives.set_derivative(p, i, term.by_sums[p] / static_cast<double>(n), 0);
    }
  }

  bool reads(size_t input) const override { return input < 2 || wanted[2]; }

  std::vector<Tensor> gradients(double by_loss) override {
    std::vector<Tensor> result(3);
    const auto options = at::TensorOptions(at::CppTypeToScalarType<T>::value);
    const auto make = [&](int input, int64_t count) { return wanted[input] ? (result[input] = at::empty({count, d}, options)).template mutable_data_ptr<T>() : nullptr; };
    T *to_queries = make(0, n), *to_keys = make(1, n), *to_queue = make(2, size);
    std::vector<T> sums;
    if (attraction.empty() && (wanted[0] || wanted[2])) {
      const int64_t width = packed.rows * packed.padded_d, behind = wanted[2] ? kernels::block_rows * packed.padded_d : 0;
      const auto all = for_queue([&](const ops::Pairs<T>& pairs, Lane& lane, int64_t first, int64_t here) {
        lane.gradient.resize(width + behind);
        std::fill(lane.gradient.begin() + width, lane.gradient.end(), T(0));
        negatives.add_gradient(pairs, {}, ends(wanted[0], wanted[2]), blocks + wanted[2], lane.gradient.data());
        std::vector<double> g(d);
        for (int64_t r = 0; to_queue && r < here; ++r) {
          typename Rows<T>::Row row{queue + (first + r) * d, 0, 0};
          columns.measure(row);
          for (int64_t k = 0; k < d; ++k) g[k] = scale * lane.gradient[width + r * packed.padded_d + k];
          columns.back(row, g.data(), by_loss, to_queue + (first + r) * d);
        }
      });
      sums = sum(all);
    }
    std::vector<double> g(d);
    for (int64_t i = 0; i < n; ++i) {
      const auto &query = queries.rows[i], &key = keys.rows[i];
      if (to_queries) {
        const double factor = scale * (attraction.empty() ? 1 : negatives.own[0][i]);
        const T* from = (attraction.empty() ? sums : attraction).data() + i * packed.padded_d;
        for (int64_t k = 0; k < d; ++k) g[k] = factor * from[k];
        keys.add(scale * by_positive[i], key, g.data());
        queries.back(query, g.data(), by_loss, to_queries + i * d);
      }
      if (to_keys) {
        std::fill(g.begin(), g.end(), 0.0);
        queries.add(scale * by_positive[i], query, g.data());
        keys.back(key, g.data(), by_loss, to_keys + i * d);
      }
    }
    return result;
  }

 private:
  /// What the lanes gave the queries.
  std::vector<T> sum(const std::vector<Lane>& all) const {
    std::vector<T> result(packed.rows * packed.padded_d);
    for (const Lane& lane : all)
      for (size_t k = 0; k < result.size(); ++k) result[k] += lane.gradient[k];
    return result;
  }
  /// The sums of the queries again, at any temperature.
  void run() {
    negatives.bounded = false;
    std::fill(negatives.sums.begin(), negatives.sums.end(), -INFINITY);
    const auto fold = [this](const std::vector<double>& from, std::vector<double>& to) {
      for (int64_t p = 0; p < negatives.count(); ++p)
        for (int64_t at = p * negatives.rows; at < p * negatives.rows + n; ++at) to[at] = kernels::log_add(to[at], from[at]);
    };
    const auto all = for_queue([&](const ops::Pairs<T>& pairs, Lane& lane, int64_t, int64_t) {
      if (lane.log_sums.empty()) lane.log_sums = negatives.sums;
      lane.moments.run(pairs, blocks);
      fold(lane.moments.sums, lane.log_sums);
    });
    for (const Lane& lane : all) fold(lane.log_sums, negatives.sums);
  }
};

}  // namespace
}  // namespace objective

namespace {

void check_beside(const Tensor& queries, const Tensor& x, const char* name, int64_t rows) {
  ops::check_rows(x, name);
  objective::require_device(x, name), objective::require_same_device(x, name, queries, "the queries");
  if (x.scalar_type() != queries.scalar_type()) throw Error(ErrorKind::ArgumentType, name, dtype_name(queries.scalar_type()) + ", as the queries are", dtype_name(x.scalar_type()));
  require_range(x.size(1) == queries.size(1) && (rows < 0 || x.size(0) == rows), name,
                "shape [" + (rows < 0 ? "rows" : std::to_string(rows)) + ", " + std::to_string(queries.size(1)) + "], as the queries have", "shape " + shape_text(x.sizes()));
}

}  // namespace

Tensor queue_loss(const Tensor& queries, const Tensor& keys, const Tensor& queue, const objective::Options& given) {
  ops::check_rows(queries, "queries"), objective::require_device(queries, "queries");
  check_beside(queries, keys, "keys", queries.size(0)), check_beside(queries, queue, "queue", -1);
  objective::Options options;
  options.temperature = given.temperature, options.hard_negative = given.hard_negative;
  objective::check_weights(options);
  objective::check_precision(1, queries.scalar_type(), options);
  return objective::evaluated([&](const std::vector<Tensor>& inputs, const std::vector<bool>& wanted) -> c10::intrusive_ptr<objective::Evaluation> {
    if (const auto* device = objective::backend(inputs[0].device().type())) return device->queue(inputs, options, wanted);
    if (inputs[0].scalar_type() == at::kFloat) return c10::make_intrusive<objective::Queue<float>>(inputs, options, wanted);
    return c10::make_intrusive<objective::Queue<double>>(inputs, options, wanted);
  }, queries.scalar_type(), queries, keys, queue);
}

TORCH_LIBRARY_FRAGMENT(a_infonce, m) {
  m.def("queue_loss(Tensor queries, Tensor keys, Tensor queue, *, float temperature=0.5, float? beta=None, float tau_plus=0) -> Tensor",
        [](const Tensor& queries, const Tensor& keys, const Tensor& queue, double temperature, std::optional<double> beta, double tau_plus) {
          objective::Options options;
          options.temperature = temperature;
          options.hard_negative = objective::hard_negative_of(beta, tau_plus);
          return queue_loss(queries, keys, queue, options);
        });
}

}  // namespace a_infonce

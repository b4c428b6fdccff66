// What the forms without labels have in common: rows [views * batch, d], similarities within each image, and the gradient back to what was given.
#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include "objective/algebra.h"
#include "objective/common_part.h"
#include "objective/features.h"
#include "objective/rows.h"
#include "objective/terms.h"
#include "ops/similarity.h"

namespace a_infonce::objective {

template <typename T>
class Images : public HostEvaluation {
 protected:
  static constexpr int64_t chunk_images = 32;
  using Pairs = ops::Pairs<T>;

  const Options options;
  const bool alone;  // one view moves: its blocks come first
  const int64_t views, batch, n, d, adversarial, mover;
  const Weights weights;
  const kernels::Terms terms;
  const double scale;
  Features features;
  Rows<T> rows;  // of view v, image b: v * batch + b
  Pairs pairs;
  const int64_t moving;  // blocks whose rows move
  double largest_square, mean = 0;  // of |z|^2; with bf16, of s over pairs of different images
  bool bf16 = false;
  std::vector<double> similarity, by_full, by_detached;  // [batch, views, views]

  Images(const Features& given, const Options& options)
      : options(options), alone(given.fixed.has_value()), views(options.views), batch(given.moving.size(0) / (alone ? 1 : views)), n(views * batch), d(given.moving.size(1)),
        adversarial(adversarial_view(options)), mover(std::max<int64_t>(adversarial, 0)), weights(weights_of(options, n)), terms(weights.terms(options, n)), scale(1 / options.temperature), features(given), rows(n, d, options),
        pairs(alone ? std::vector<int64_t>{batch, n - batch} : std::vector<int64_t>{n}, d, scale), moving(alone ? pairs.first_block[1] : pairs.blocks) {
    const T *data = given.moving.template const_data_ptr<T>(), *fixed = alone ? given.fixed->template const_data_ptr<T>() : nullptr;
    for (int64_t v = 0; v < views; ++v)
      for (int64_t b = 0; b < batch; ++b) {
        auto& row = rows.rows[v * batch + b];
        const bool moves = !alone || v == mover;
        const int64_t at = (!alone ? v : moves ? 0 : v - (v > mover)) * batch + b;
        row.x = (moves ? data : fixed) + at * d, row.place = pairs.place(moves ? 0 : 1, at), row.code = static_cast<int32_t>(2 * b + (v == adversarial));
      }
  }
  int64_t place(int64_t view, int64_t image) const { return rows.rows[view * batch + image].place; }
  /// body(chunk, first, last) over the images.
  template <typename Body>
  void for_images(const Body& body) const {
    ops::for_blocks(chunks(), n * d, [&](int64_t chunk) { body(chunk, chunk * chunk_images, std::min(batch, (chunk + 1) * chunk_images)); });
  }
  int64_t chunks() const { return (batch + chunk_images - 1) / chunk_images; }

  /// Rows packed again, in their own precision.
  void leave_bf16() {
    bf16 = false;
    pairs.use(rows.table);
    rows.pack(pairs);
  }
  /// Rows packed and checked, and what they say within an image.
  void prepare() {
    if constexpr (sizeof(T) == 4)
      if (const auto* table = kernels::similarity_bf16(options.precision); table && bf16_suffices(options, d, 1)) bf16 = true, pairs.use(*table);
    largest_square = rows.pack(pairs);
    if (bf16 && !bf16_suffices(options, d, largest_square)) leave_bf16();
    if (!std::isfinite(largest_square)) {
      ops::require_finite_rows(features.moving, alone ? "adversaries" : "features");
      if (alone) ops::require_finite_rows(*features.fixed, "clean");
    }
    check_precision(largest_square, features.moving.scalar_type(), options);
    if (options.form == Form::AdvCL && !rows.normalize) check_lengths();
    similarity.resize(batch * views * views);
    for_images([&](int64_t, int64_t first, int64_t last) {
      for (int64_t b = first; b < last; ++b)
        for (int64_t v = 0; v < views; ++v)
          for (int64_t w = v; w < views; ++w)
            similarity[(b * views + v) * views + w] = similarity[(b * views + w) * views + v] = scale * rows.dot(rows.rows[v * batch + b], rows.rows[w * batch + b]);
    });
    if (bf16) mean = mean_similarity();
  }
  /// Of rows that move: what the loss sends to the kernels' rows through their sums, over `scale`.
  struct BySums {
    at::Tensor rows;             // [moving * block_rows, padded_d]
    const T* factors = nullptr;  // of the rows, if they are to be kept as they are
    std::vector<typename CommonPart<T>::Centre> left_out = {};
  };
  virtual BySums by_sums() = 0;
  at::Tensor no_gradient() const { return at::zeros({moving * kernels::block_rows, pairs.padded_d}, at::CppTypeToScalarType<T>::value); }

  std::vector<at::Tensor> gradients(double by_loss) override {
    const BySums sums = by_sums();
    const CommonPart<T> common(sums.left_out, rows);
    const int64_t count = features.moving.size(0);
    const bool in_place = sums.factors == nullptr && pairs.padded_d == d;
    const at::Tensor result = in_place ? sums.rows.narrow(0, 0, count) : at::empty({count, d}, sums.rows.options());
    const T* from = sums.rows.template const_data_ptr<T>();
    T* out = result.template mutable_data_ptr<T>();
    const double alpha = options.form == Form::Paper ? options.alpha.value_or(0.5) : 0.5;
    for_images([&](int64_t, int64_t first, int64_t last) {
      std::vector<double> g(d);
      for (int64_t b = first; b < last; ++b)
        for (int64_t v = alone ? mover : 0; v < (alone ? mover + 1 : views); ++v) {
          const int64_t at = place(v, b);
          const double factor = scale * (sums.factors ? sums.factors[at] : 1);
          for (int64_t k = 0; k < d; ++k) g[k] = factor * from[at * pairs.padded_d + k];
          const bool kind = v == adversarial;
          double ends[2] = {1, 1};  // of pairs with clean and with adversarial rows
          ends[!kind] = 2 * (kind ? 1 - alpha : alpha);
          common.add(at, scale, ends, d, g.data());
          for (int64_t w = 0; w < views; ++w) {
            const double end = ends[w == adversarial];
            double by = -end * common.weight(at, place(w, b));
            const int64_t there = (b * views + v) * views + w, back = (b * views + w) * views + v;
            if (w != v) by += end * (by_full[there] + by_full[back]) + by_detached[there];
            if (by != 0) rows.add(scale * by, rows.rows[w * batch + b], g.data());
          }
          rows.back(rows.rows[v * batch + b], g.data(), by_loss, out + (alone ? b : v * batch + b) * d);
        }
    });
    return {result};
  }

 private:
  double mean_similarity() const {
    std::vector<double> total(d);
    for (const auto& row : rows.rows) rows.add(1, row, total.data());
    double square = 0;
    for (double sum : total) square += sum * sum;
    for (double s : similarity) square -= s / scale;
    return scale * square / static_cast<double>(std::max<int64_t>(1, n * (n - views)));
  }
  /// The released code takes rows of length 1 for granted.
  void check_lengths() const {
    double error = 0;
    for (const auto& row : rows.rows) error = std::max(error, std::abs(row.length - 1));
    objective::check_lengths(error, alone ? "adversaries" : "features");
  }
};

}  // namespace a_infonce::objective

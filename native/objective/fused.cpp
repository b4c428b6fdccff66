#include "objective/fused.h"
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scalar_tensor.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>
#include <cmath>
#include <limits>
#include "error.h"
#include "objective/algebra.h"
#include "objective/terms.h"
#include "ops/pairs.h"
#include "ops/similarity.h"

namespace a_infonce::objective {

using at::Tensor;

namespace {

constexpr int64_t chunk_images = 32;
constexpr double bf16_rounding = 2.8e-3, bf16_error = 1e-3;  // of a product of two rounded numbers, root mean square; of an exponential, at most

/// What backward needs of forward, and the loss.
struct Evaluation : torch::CustomClassHolder {
  double loss = 0;
  /// by_loss * d loss / d (features or adversaries).
  virtual Tensor gradient(const std::vector<Tensor>& features, double by_loss) = 0;
};

template <typename T>
class Fused final : public Evaluation {
  using Kernels = kernels::SimilarityKernels<T>;
  Options options;
  Weights weights;
  int64_t views, batch, n, d, adversarial;  // adversarial -1: none
  bool alone;                               // only one view moves, the adversarial one or the first: its blocks come first
  int64_t mover;
  double scale;
  ops::Pairs<T> pairs;
  int64_t moving;                           // blocks whose rows move
  std::vector<int64_t> start;               // of each view in the order of the kernels
  std::vector<double> inverse, length;      // z = x * inverse, [views * batch]
  std::vector<double> similarity, by_full, by_detached;  // [batch, views, views]
  std::vector<double> powers;
  double largest_square = 0, bound = 0, reference = 0;  // of a row of z; of |s|; of the exponents
  bool bounded = true, attracted = false, bf16 = false;
  std::vector<T> own[2], other[2], logs[2], sums_gradient;
  std::vector<T> relative, weight, ones;  // of the released hard negatives
  // With bf16, the kernels weigh a pair (i, j) as if its exponential were less by what is about their mean, so that what they round is small. What that leaves out,
  // value (own(i) weights(j) + weights(i) other(j)) times the factor across kinds, is of rank two: `common_part` adds it from sums over rows.
  struct Centre {
    double value;
    const T *own, *other, *weights;
  };
  std::vector<Centre> centres;
  double mean = 0;                        // of s over pairs of different images
  std::vector<double> row_sums;  // [parts, kinds, centres, 2, d]: of weights(j) z_j and other(j) z_j

  static std::vector<int64_t> segments(int64_t batch, int64_t views, bool alone) {
    return alone ? std::vector<int64_t>{batch, (views - 1) * batch} : std::vector<int64_t>{views * batch};
  }
  bool hard() const { return options.hard_negative && options.form != Form::Paper; }
  int64_t row(int64_t view, int64_t image) const { return start[view] + image; }
  const T* features_of(const std::vector<const T*>& features, int64_t view, int64_t image) const {
    if (!alone) return features[0] + (view * batch + image) * d;
    return view == mover ? features[0] + image * d : features[1] + ((view - (view > mover)) * batch + image) * d;
  }
  template <typename Body>
  void for_images(const Body& body) const {  // body(chunk, first, last)
    ops::for_blocks((batch + chunk_images - 1) / chunk_images, n * d, [&](int64_t chunk) { body(chunk, chunk * chunk_images, std::min(batch, (chunk + 1) * chunk_images)); });
  }

  /// For rows of at most this square: a similarity is a sum of d rounded products.
  void use_bf16(double square) {
    pairs.table = &kernels::similarity<T>(), bf16 = false;
    if constexpr (sizeof(T) == 4)
      if (options.bf16 && scale * square * (hard() ? 1 + options.hard_negative->beta : powers.back()) * bf16_rounding <= bf16_error * std::sqrt(d))
        if (const auto* table = kernels::similarity_bf16()) pairs.table = table, bf16 = true;
  }

  void normalize_and_pack(const std::vector<const T*>& features) {
    const bool normalize = options.normalize.value_or(options.form != Form::AdvCL);
    std::vector<double> squares(pairs.blocks);
    ops::for_blocks(pairs.blocks, n * d, [&](int64_t block) {
      const ops::Buffer<T> z(pairs.sizes[block] * d);
      double largest = 0;
      for (int64_t r = 0; r < pairs.sizes[block]; ++r) {
        const int64_t at = block * kernels::block_rows + r;
        int64_t view = 0;
        while (!(at >= start[view] && at < start[view] + batch)) ++view;
        const int64_t image = at - start[view], index = view * batch + image;
        const T* x = features_of(features, view, image);
        const double square = pairs.table->dot(x, x, d), size = length[index] = std::sqrt(square);
        // RoCL's own constant; elsewhere a row of zeros stays one.
        const double factor = inverse[index] = !normalize ? 1 : 1 / (options.form == Form::RoCL ? size + 1e-8 : std::max(size, 1e-12));
        for (int64_t k = 0; k < d; ++k) z[r * d + k] = static_cast<T>(x[k] * factor);
        const double whole = square * factor * factor;
        largest = std::isfinite(whole) ? std::max(largest, whole) : INFINITY;
        pairs.codes[at] = static_cast<int32_t>(2 * image + (view == adversarial));
      }
      squares[block] = largest;
      pairs.pack(block, z);
    });
    largest_square = (1 + 1e-6) * *std::max_element(squares.begin(), squares.end());  // rows were rounded
    bound = scale * largest_square;
  }
  void check_rows(const std::vector<Tensor>& tensors) const {
    if (!std::isfinite(largest_square))
      for (const Tensor& tensor : tensors) ops::require_finite_rows(tensor, tensors.size() == 1 ? "features" : &tensor == &tensors[0] ? "adversaries" : "clean");
    check_precision(largest_square, tensors[0].scalar_type(), options);
  }

  void check_lengths() const {
    if (options.form != Form::AdvCL || options.normalize.value_or(false)) return;
    double error = 0;
    for (double size : length) error = std::max(error, std::abs(size - 1));
    char text[32];
    std::snprintf(text, sizeof text, "%.10g", error);
    require_range(error <= 1e-3, alone ? "adversaries" : "features", "rows of length 1 in form 'advcl' (pass normalize: true to normalise them here)",
                  "a row " + std::string(text) + " off");
  }

  void similarities(const std::vector<const T*>& features) {
    similarity.resize(batch * views * views);
    for_images([&](int64_t, int64_t first, int64_t last) {
      for (int64_t b = first; b < last; ++b)
        for (int64_t v = 0; v < views; ++v)
          for (int64_t w = v; w < views; ++w)
            similarity[(b * views + v) * views + w] = similarity[(b * views + w) * views + v] =
                scale * inverse[v * batch + b] * inverse[w * batch + b] * pairs.table->dot(features_of(features, v, b), features_of(features, w, b), d);
    });
  }

  double mean_similarity(const std::vector<const T*>& features) {  // leaves `ones`
    ones.assign(pairs.rows, 1);
    centres.assign(1, {1, nullptr, ones.data(), ones.data()});
    sum_rows(features);
    double square = 0;
    for (int64_t k = 0; k < d; ++k) {
      const double sum = row_sums[k] + row_sums[2 * d + k];
      square += sum * sum;
    }
    for (double s : similarity) square -= s / scale;
    centres.clear();
    return scale * square / static_cast<double>(std::max<int64_t>(1, n * (n - views)));
  }
  void sum_rows(const std::vector<const T*>& features) {
    constexpr int64_t parts = 16;
    const int64_t count = static_cast<int64_t>(centres.size()), width = 4 * count * d;
    row_sums.assign(parts * width, 0);
    ops::for_blocks(parts, n * d, [&](int64_t part) {
      for (int64_t b = batch * part / parts; b < batch * (part + 1) / parts; ++b)
        for (int64_t v = 0; v < views; ++v) {
          double* to = &row_sums[part * width + (v == adversarial) * width / 2];
          for (const Centre& centre : centres)
            for (const T* by : {centre.weights, centre.other}) pairs.table->add(inverse[v * batch + b] * by[row(v, b)], features_of(features, v, b), d, to), to += d;
        }
    });
    for (int64_t part = 1; part < parts; ++part)
      for (int64_t k = 0; k < width; ++k) row_sums[k] += row_sums[part * width + k];
    row_sums.resize(width);
  }
  /// g += what the centres leave out of row (v, b), as if its own image were among its pairs; end[kind]: the factor of pairs with rows of that kind.
  void common_part(int64_t v, int64_t b, const double* end, double* g) const {
    const double* sums = row_sums.data();
    for (int kind = 0; kind < 2; ++kind)
      for (const Centre& centre : centres)
        for (const T* by : {centre.own, centre.weights}) {
          const double factor = scale * end[kind] * centre.value * by[row(v, b)];
          for (int64_t k = 0; k < d; ++k) g[k] += factor * sums[k];
          sums += d;
        }
  }
  double common_weight(int64_t i, int64_t j) const {
    double weight = 0;
    for (const Centre& centre : centres) weight += centre.value * (centre.own[i] * centre.weights[j] + centre.weights[i] * centre.other[j]);
    return weight;
  }

  // The ends of a pair of blocks whose rows need sums (all those of a pair that holds moving ones) or gradients.
  int sum_ends(int64_t I, int64_t) const { return I < moving ? kernels::BothEnds : 0; }
  int gradient_ends(int64_t I, int64_t J) const { return (I < moving ? kernels::First : 0) | (J < moving ? kernels::Second : 0); }

  /// sums [moments, rows] of the pairs visited, on top of those of the clean rows; log sums where they leave the range (`bounded` false).
  std::vector<double> moments(const std::vector<const T*>& features, bool differentiable, const double* clean) {
    const int count = static_cast<int>(powers.size());
    std::vector<double> sums(count * pairs.rows);
    reference = ops::reference_of<T>(bound, powers);
    if (clean)
      for (int p = 0; p < count; ++p)
        for (int64_t r = 0; r < (views - 1) * batch; ++r)
          sums[p * pairs.rows + moving * kernels::block_rows + r] = std::exp(clean[p * (views - 1) * batch + r] - powers[p] * reference);
    attracted = differentiable && !weights.any_full && count == 1;
    if (attracted) sums_gradient.assign(moving * kernels::block_rows * pairs.padded_d, 0);
    kernels::LogMoments<T> task{kernels::Negatives, count, {}, reference, sums.data(), attracted ? sums_gradient.data() : nullptr, attracted ? moving : 0};
    if (bf16) task.centre = std::exp(mean - reference);
    std::copy(powers.begin(), powers.end(), task.powers);
    pairs.run(&Kernels::log_moments, task, [this](int64_t I, int64_t J) { return sum_ends(I, J); });
    bounded = ops::in_range<T>(sums.data(), count * pairs.rows, n);
    if (bounded) return sums;
    if (bf16) use_bf16(INFINITY), normalize_and_pack(features);
    attracted = false;
    sums_gradient.clear();
    kernels::RunningLogMoments<T> running{kernels::Negatives, count, {}, sums.data()};
    std::copy(powers.begin(), powers.end(), running.powers);
    pairs.run_rows(&Kernels::running_log_moments, running, pairs.blocks);
    return sums;
  }

  void plain(const std::vector<const T*>& features, bool differentiable, const double* clean) {
    const auto sums = moments(features, differentiable, clean);
    const int64_t count = static_cast<int64_t>(powers.size()), cells = views * views;
    if (differentiable) {
      by_full.assign(batch * cells, 0), by_detached.assign(batch * cells, 0);
      for (int64_t p = 0; p < count; ++p) own[p].assign(pairs.rows, 0), other[p].assign(pairs.rows, 0), logs[p].assign(bounded ? 0 : pairs.rows, 0);
    }
    std::vector<double> losses((batch + chunk_images - 1) / chunk_images);
    for_images([&](int64_t chunk, int64_t first, int64_t last) {
      std::vector<double> scratch(3 * views * count + 2 * cells);
      double *log_sums = scratch.data(), *d_full = log_sums + views * count, *d_detached = d_full + views * count, *unused = d_detached + views * count;
      for (int64_t b = first; b < last; ++b) {
        for (int64_t v = 0; v < views; ++v)
          for (int64_t p = 0; p < count; ++p) {
            const double sum = sums[p * pairs.rows + row(v, b)];
            log_sums[v * count + p] = bounded ? powers[p] * reference + std::log(sum) : sum;
          }
        std::fill(d_full, unused, 0.0);
        const Derivatives ds = differentiable ? Derivatives{&by_full[b * cells], &by_detached[b * cells]} : Derivatives{unused, unused + cells};
        losses[chunk] += plain_terms(options, weights, n, &similarity[b * cells], log_sums, ds, d_full, d_detached);
        if (!differentiable) continue;
        for (int64_t v = 0; v < views; ++v)
          for (int64_t p = 0; p < count; ++p) {
            const int64_t r = row(v, b);
            const double sum = sums[p * pairs.rows + r];
            if (bounded ? sum == 0 : std::isinf(sum)) continue;  // no negatives
            const double factor = powers[p] / (bounded ? sum : 1), full = d_full[v * count + p];
            own[p][r] = static_cast<T>(factor * (full + d_detached[v * count + p])), other[p][r] = static_cast<T>(factor * full);
            if (!bounded) logs[p][r] = static_cast<T>(sum);
          }
      }
    });
    for (double part : losses) loss += part;
  }

  kernels::HardExponential<T> exponential() const {
    const bool uniform = std::all_of(relative.begin(), relative.end(), [](T x) { return x == 1; });
    const double epsilon = importance_epsilon * std::exp(log_unit(options));
    return {options.hard_negative->beta, std::max<double>(epsilon, std::numeric_limits<T>::min()), reference, uniform, relative.data()};
  }
  /// Of a term of the kernels at the mean similarity.
  double hard_derivative(bool times_e) const {
    const double e = std::exp(mean - reference), x = e + exponential().epsilon, power = std::pow(x, options.hard_negative->beta), ratio = options.hard_negative->beta * e / x;
    return power * (times_e ? e * (ratio + 1) : ratio);
  }
  void hard_sums(bool times_e, bool transposed, int count, const T* a, const T* b, double* sums, T* maximum) const {
    pairs.run(&Kernels::hard_moments, kernels::HardMoments<T>{exponential(), times_e, transposed, count, {a, b}, sums, maximum});
  }
  void hard_negatives(bool differentiable) {
    const int64_t cells = views * views;
    const bool subtract_maximum = options.form == Form::AdvCL;
    std::vector<double> shift(pairs.rows, scale);
    if (subtract_maximum)
      for (int64_t b = 0; b < batch; ++b)
        for (int64_t v = 0; v < views; ++v) {
          const double* s = &similarity[b * cells + v * views];
          shift[row(v, b)] = *std::max_element(s, s + views);
        }
    const auto shifted = [&] {
      reference = *std::max_element(shift.begin(), shift.begin() + n);
      relative.assign(pairs.rows, 1);
      for (int64_t r = 0; r < n; ++r) relative[r] = static_cast<T>(std::exp(reference - shift[r]));
    };
    shifted();
    ones.assign(pairs.rows, 1);
    std::vector<T> maximum(subtract_maximum ? pairs.rows : 0, -std::numeric_limits<T>::infinity());
    std::vector<double> importance(pairs.rows), sums(pairs.rows);
    hard_sums(false, false, 1, ones.data(), nullptr, importance.data(), subtract_maximum ? maximum.data() : nullptr);
    if (subtract_maximum) {  // the diagonal is the maximum unless an image appears twice, or a row is a little longer than another
      bool larger = false;
      for (int64_t r = 0; r < n; ++r)
        if (scale * maximum[r] > shift[r]) shift[r] = scale * maximum[r], larger = true;
      if (larger) {
        shifted();
        std::fill(importance.begin(), importance.end(), 0.0);
        hard_sums(false, false, 1, ones.data(), nullptr, importance.data(), nullptr);
      }
    }
    const double beta = options.hard_negative->beta, unit_epsilon = importance_epsilon * std::exp(log_unit(options));
    // q = 1 / m, m the mean over all columns: the positives and the row itself have En = 0.
    std::vector<double> q(n);
    weight.assign(pairs.rows, 0);
    for (int64_t r = 0; r < n; ++r) weight[r] = static_cast<T>(q[r] = static_cast<double>(n) / (importance[r] + static_cast<double>(views) * std::pow(unit_epsilon, beta)));
    hard_sums(true, false, 1, weight.data(), nullptr, sums.data(), nullptr);

    std::vector<double> d_full(n), d_detached(n), losses((batch + chunk_images - 1) / chunk_images);
    by_full.assign(batch * cells, 0), by_detached.assign(batch * cells, 0);
    for_images([&](int64_t chunk, int64_t first, int64_t last) {
      std::vector<double> scratch(4 * views);
      double *shifts = scratch.data(), *totals = shifts + views, *full = totals + views, *detached = full + views;
      for (int64_t b = first; b < last; ++b) {
        for (int64_t v = 0; v < views; ++v) shifts[v] = shift[row(v, b)], totals[v] = sums[row(v, b)], full[v] = detached[v] = 0;
        losses[chunk] += hard_terms(options, weights, n, &similarity[b * cells], shifts, totals, {&by_full[b * cells], &by_detached[b * cells]}, full, detached);
        for (int64_t v = 0; v < views; ++v) d_full[row(v, b)] = full[v], d_detached[row(v, b)] = detached[v];
      }
    });
    for (double part : losses) loss += part;
    if (!differentiable) return;
    // Through the sums' weights q back to the importances' sums: what the weighed negatives of every row ask of q, by both kinds of derivative.
    for (int t = 0; t < 2; ++t) own[t].assign(pairs.rows, 0), other[t].assign(pairs.rows, 0);
    std::vector<T>&full = other[1], detached(pairs.rows);
    for (int64_t r = 0; r < n; ++r) full[r] = static_cast<T>(d_full[r]), detached[r] = static_cast<T>(d_detached[r]), own[1][r] = static_cast<T>(d_full[r] + d_detached[r]);
    std::vector<double> by_q(2 * pairs.rows);
    const int first = weights.any_full ? 0 : 1, count = weights.any_full && weights.any_detached ? 2 : 1;
    hard_sums(true, true, count, first == 0 ? full.data() : detached.data(), detached.data(), by_q.data() + first * pairs.rows, nullptr);
    for (int64_t r = 0; r < n; ++r) {
      const double slope = -q[r] * q[r] / static_cast<double>(n), by_full_sum = slope * by_q[r], by_detached_sum = slope * by_q[pairs.rows + r];
      other[0][r] = static_cast<T>(by_full_sum), own[0][r] = static_cast<T>(by_full_sum + by_detached_sum);
    }
  }

  /// [rows that move, padded_d]: what the sums give the kernels' rows, up to `scale`.
  void gradient_of_sums(const std::vector<const T*>& features) {
    if (bf16) {
      centres.clear();
      for (size_t p = 0; p < (hard() ? 2 : powers.size()); ++p)
        centres.push_back({hard() ? hard_derivative(p == 1) : std::exp(powers[p] * (mean - reference)), own[p].data(), other[p].data(), (hard() && p == 1 ? weight : ones).data()});
      sum_rows(features);
    }
    if (attracted) return;
    sums_gradient.assign(moving * kernels::block_rows * pairs.padded_d, 0);
    const auto ends_of = [this](int64_t I, int64_t J) { return gradient_ends(I, J); };
    if (hard()) {
      pairs.run(&Kernels::hard_moments_gradient,
                kernels::HardMomentsGradient<T>{exponential(), 2, {{false, ones.data(), own[0].data(), other[0].data(), bf16 ? centres[0].value : 0}, {true, weight.data(), own[1].data(), other[1].data(), bf16 ? centres[1].value : 0}}, sums_gradient.data()}, ends_of);
      return;
    }
    const double alpha = options.form == Form::Paper ? options.alpha.value_or(0.5) : 0.5;
    const auto fill = [&](auto& task) {
      task.selection = kernels::Negatives, task.count = static_cast<int>(powers.size());
      task.factor[0] = static_cast<T>(2 * alpha), task.factor[1] = static_cast<T>(2 * (1 - alpha));
      task.gradient = sums_gradient.data();
      for (size_t p = 0; p < powers.size(); ++p) task.powers[p] = powers[p], task.own[p] = own[p].data(), task.other[p] = other[p].data();
    };
    if (bounded) {
      kernels::LogMomentsGradient<T> task{};
      fill(task);
      task.reference = reference;
      for (size_t p = 0; p < centres.size(); ++p) task.centres[p] = centres[p].value;
      pairs.run(&Kernels::log_moments_gradient, task, ends_of);
    } else {
      kernels::RunningLogMomentsGradient<T> task{};
      fill(task);
      for (size_t p = 0; p < powers.size(); ++p) task.log_sums[p] = logs[p].data();
      pairs.run_rows(&Kernels::running_log_moments_gradient, task, moving);
    }
  }

 public:
  Fused(const std::vector<Tensor>& tensors, const Options& options, bool alone, bool differentiable, const double* clean)
      : options(options), weights(weights_of(options, options.views * tensors[0].size(0) / (alone ? 1 : options.views))), views(options.views),
        batch(alone ? tensors[0].size(0) : tensors[0].size(0) / views), n(views * batch), d(tensors[0].size(1)), adversarial(adversarial_view(options)), alone(alone), mover(std::max<int64_t>(adversarial, 0)),
        scale(1 / options.temperature), pairs(segments(batch, views, alone), d, scale),
        moving(alone ? (batch + kernels::block_rows - 1) / kernels::block_rows : pairs.blocks), start(views), inverse(n), length(n), powers(powers_of(options)) {
    for (int64_t v = 0; v < views; ++v)
      start[v] = !alone ? v * batch : v == mover ? 0 : moving * kernels::block_rows + (v - (v > mover)) * batch;
    const auto features = data_of(tensors);
    use_bf16(1);
    normalize_and_pack(features);
    if (bf16) {
      use_bf16(largest_square);
      if (!bf16) normalize_and_pack(features);
    }
    check_rows(tensors);
    check_lengths();
    similarities(features);
    if (bf16) mean = mean_similarity(features);
    hard() ? hard_negatives(differentiable) : plain(features, differentiable, clean);
  }
  static std::vector<const T*> data_of(const std::vector<Tensor>& tensors) {
    std::vector<const T*> data;
    for (const Tensor& tensor : tensors) data.push_back(tensor.const_data_ptr<T>());
    return data;
  }

  Tensor gradient(const std::vector<Tensor>& tensors, double by_loss) override {
    const auto features = data_of(tensors);
    gradient_of_sums(features);
    const Tensor result = at::empty(tensors[0].sizes(), tensors[0].options());
    T* out = result.template mutable_data_ptr<T>();
    const double alpha = options.form == Form::Paper ? options.alpha.value_or(0.5) : 0.5;
    const bool normalize = options.normalize.value_or(options.form != Form::AdvCL);
    for_images([&](int64_t, int64_t first, int64_t last) {
      std::vector<double> g(d);
      for (int64_t b = first; b < last; ++b)
        for (int64_t v = alone ? mover : 0; v < (alone ? mover + 1 : views); ++v) {
          const double factor = attracted ? scale * own[0][row(v, b)] : scale;
          const T* sums = &sums_gradient[row(v, b) * pairs.padded_d];
          for (int64_t k = 0; k < d; ++k) g[k] = factor * sums[k];
          const bool kind = v == adversarial;
          double ends[2] = {1, 1};  // of pairs with clean and with adversarial rows
          ends[!kind] = 2 * (kind ? 1 - alpha : alpha);
          common_part(v, b, ends, g.data());
          for (int64_t w = 0; w < views; ++w) {
            const double end = ends[w == adversarial];
            double by = -end * common_weight(row(v, b), row(w, b));
            const int64_t there = (b * views + v) * views + w, back = (b * views + w) * views + v;
            if (w != v) by += end * (by_full[there] + by_full[back]) + by_detached[there];
            if (by != 0) pairs.table->add(scale * inverse[w * batch + b] * by, features_of(features, w, b), d, g.data());
          }
          const int64_t index = v * batch + b;
          const double inv = inverse[index], size = length[index];
          const T* x = features_of(features, v, b);
          double along = 0;  // g moves a row's direction alone: |z| is 1 (of RoCL, nearly)
          if (normalize && (options.form == Form::RoCL ? size > 0 : size > 1e-12)) {
            for (int64_t k = 0; k < d; ++k) along += g[k] * x[k];
            along *= inv * inv / size;
          }
          T* to = out + (alone ? b : index) * d;
          for (int64_t k = 0; k < d; ++k) to[k] = static_cast<T>(by_loss * (inv * g[k] - along * x[k]));
        }
    });
    if (!attracted) std::vector<T>().swap(sums_gradient);
    return result;
  }

  static int64_t adversarial_view(const Options& options) {
    if (options.form == Form::Paper) return options.adversarial_view.value_or(-1);
    return options.form == Form::AdvCL ? 0 : options.views == 3 ? 2 : -1;
  }
};

struct FusedFunction : torch::autograd::Function<FusedFunction> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& features, const std::optional<Tensor>& clean, const std::optional<Tensor>& sums, const Options& options,
                        bool differentiable) {
    std::vector<Tensor> tensors{features.contiguous()};
    if (clean) tensors.push_back(clean->contiguous());
    const Tensor known = sums ? sums->contiguous() : Tensor();
    const double* data = sums ? known.const_data_ptr<double>() : nullptr;
    // The released hard negatives cannot start again with a running maximum: float64 has their range.
    const bool released = options.hard_negative && options.form != Form::Paper;
    if (released && hard_depth(options, features.size(0)) > hard_range_float)
      for (Tensor& tensor : tensors) tensor = tensor.to(at::kDouble);
    c10::intrusive_ptr<Evaluation> evaluation;
    if (tensors[0].scalar_type() == at::kFloat) evaluation = c10::make_intrusive<Fused<float>>(tensors, options, clean.has_value(), differentiable, data);
    else evaluation = c10::make_intrusive<Fused<double>>(tensors, options, clean.has_value(), differentiable, data);
    const Tensor loss = at::scalar_tensor(evaluation->loss, features.options().dtype(at::kDouble));
    if (differentiable) {
      context->saved_data["evaluation"] = at::IValue::make_capsule(evaluation);
      context->saved_data["dtype"] = static_cast<int64_t>(features.scalar_type());
      context->save_for_backward(tensors);
    }
    return loss;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    ops::require_first_order();
    const auto tensors = context->get_saved_variables();
    auto& evaluation = *c10::static_intrusive_pointer_cast<Evaluation>(context->saved_data["evaluation"].toCapsule());
    const auto dtype = static_cast<at::ScalarType>(context->saved_data["dtype"].toInt());
    return {evaluation.gradient(tensors, gradients[0].item<double>()).to(dtype), {}, {}, {}, {}};
  }
};

Tensor apply(const Tensor& features, const std::optional<Tensor>& clean, const std::optional<Tensor>& sums, const Options& options) {
  return FusedFunction::apply(features, clean, sums, options, at::GradMode::is_enabled() && features.requires_grad());
}

}  // namespace

Tensor fused(const Tensor& features, const Options& options) { return apply(features, {}, {}, options); }

Tensor fused_adversaries(const Tensor& adversaries, const Tensor& clean, const Tensor& sums, const Options& options) {
  return apply(adversaries, clean.detach(), sums.detach(), options);
}

Tensor fused_clean_sums(const Tensor& clean, const Options& options) {
  const at::NoGradGuard no_grad;
  const Rows rows = rows_of(clean, options);
  check_precision(rows, options);
  const int64_t views = options.views - 1;
  return std::get<0>(ops::log_moments(rows.z, row_codes(clean.size(0) / views, views, -1), 1 / options.temperature, powers_of(options), kernels::Negatives));
}

}  // namespace a_infonce::objective

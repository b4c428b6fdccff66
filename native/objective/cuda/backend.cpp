// The objective on a CUDA device: the kernels of rooms rows, terms and similarity one after the other, and nothing that waits for the device but one read at the end (DeferredChecks).
#include "objective/backend.h"
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include "kernels/similarity/similarity_cuda.h"
#include "kernels/terms/terms_cuda.h"
#include "objective/algebra.h"
#include "objective/deferred.h"
#include "objective/terms.h"
#include "ops/cuda/device.h"
#include "ops/similarity.h"

namespace a_infonce::objective {
namespace {

using at::Tensor;
namespace cuda = kernels::cuda;
using cuda::Numbers, cuda::Products, cuda::Stream, cuda::Visits;

/// Rows measured and packed.
template <typename T>
class Rows {
 public:
  const Tensor first, second;  // undefined: all rows are the first ones
  const int64_t d, blocks, rows;
  const double scale;
  const Products products;
  cuda::ViewRows<T> z;
  Tensor numbers;

  /// products: of similarities; those of float64 rows are of float64.
  Rows(const Tensor& first, const Tensor& second, cuda::Places places, const Options& options, Products products, Stream stream)
      : first(first), second(second), d(first.size(1)), blocks(blocks_of(first.size(0)) + (second.defined() ? blocks_of(second.size(0)) : 0)), rows(blocks * kernels::block_rows),
        scale(1 / options.temperature), products(products), numbers(at::zeros({sizeof(Numbers) / sizeof(double)}, of(at::kDouble))) {
    if (second.defined()) places.second_place = blocks_of(first.size(0)) * kernels::block_rows;
    lengths = at::empty({2, rows}, of(at::kDouble)), codes = at::empty({rows}, of(at::kInt));
    z = {places, first.const_data_ptr<T>(), second.defined() ? second.const_data_ptr<T>() : nullptr, first.size(0), second.defined() ? second.size(0) : 0, d, rows,
         options.normalize.value_or(options.form != Form::AdvCL), options.form == Form::RoCL, lengths.mutable_data_ptr<double>(), lengths.mutable_data_ptr<double>() + rows, codes.mutable_data_ptr<int32_t>()};
    cuda::measure(z, known(), stream);
    strips = at::empty({rows / cuda::chunk_rows, static_cast<int64_t>(sizeof(cuda::Strip))}, of(at::kByte));
    cuda::describe_codes(z.codes, rows, reinterpret_cast<cuda::Strip*>(strips.mutable_data_ptr()), stream);
    packed = at::zeros({cuda::packed_bytes(products, blocks, d)}, of(at::kByte));
    char* const to = static_cast<char*>(packed.mutable_data_ptr());
    const int64_t row_bytes = cuda::packed_bytes(products, 1, d) / cuda::parts_of(products) / kernels::block_rows;
    table.pack(z.first, z.first_count, d, z.inverses, nullptr, blocks, to, stream);
    if (z.second) table.pack(z.second, z.second_count, d, z.inverses + places.second_place, nullptr, blocks, to + places.second_place * row_bytes, stream);
  }
  static int64_t blocks_of(int64_t rows) { return (rows + kernels::block_rows - 1) / kernels::block_rows; }
  at::TensorOptions of(at::ScalarType type) const { return first.options().dtype(type).requires_grad(false); }
  at::TensorOptions numbers_of_kernels() const { return of(at::CppTypeToScalarType<T>::value); }
  Numbers* known() const { return reinterpret_cast<Numbers*>(numbers.mutable_data_ptr()); }
  Visits first_blocks(int64_t count) const { return {count, nullptr, nullptr, cuda::splits_of(count, blocks)}; }

  /// One of the similarity kernels; with a flag, where *flag == value.
  template <typename Task>
  void run(void (*cuda::DeviceSimilarity<T>::*kernel)(const cuda::DeviceMatrix&, const Task&, const Visits&, const cuda::Context&), const Task& task, const Visits& visits, Stream stream,
           const int32_t* flag = nullptr, int32_t value = 0) const {
    constexpr bool log_moments = std::is_same_v<Task, cuda::DeviceLogMoments<T>> || std::is_same_v<Task, cuda::DeviceLogMomentsGradient<T>>;
    const Tensor workspace = at::empty({cuda::workspace_bytes(products, d, visits, log_moments)}, of(at::kByte));
    (table.*kernel)({products, blocks, d, packed.const_data_ptr(), z.codes, static_cast<const cuda::Strip*>(strips.const_data_ptr()), scale}, task, visits,
                    {stream, workspace.mutable_data_ptr(), flag, value});
  }
  /// Throws where rows, options or the loss are not as they must be: now, or as the thread's DeferredChecks say. `names` of the first and of the second rows. Nobody looks
  /// while somebody else captures a graph.
  void check(const Options& options, const std::array<const char*, 2>& names) const {
    const bool later = DeferredChecks::active();
    if (!later && ops::stream_captures(first)) return;
    const auto require_finite = [names, first = later ? Tensor() : first, second = later ? Tensor() : second] {
      if (!first.defined()) throw Error(ErrorKind::NonFinite, std::string(names[0]) + ": expected finite rows, got one whose square is NaN or infinite");
      ops::require_finite_rows(first, names[0]);
      if (second.defined()) ops::require_finite_rows(second, names[1]);
    };
    DeferredChecks::add(numbers, [=, dtype = first.scalar_type(), normalize = z.normalize](const Tensor& here) {
      Numbers seen;
      std::memcpy(&seen, here.const_data_ptr(), sizeof seen);
      const double largest_square = (1 + 1e-6) * seen.largest_square;
      if (!std::isfinite(largest_square)) require_finite();
      check_precision(largest_square, dtype, options);
      if (options.form == Form::AdvCL && !normalize) check_lengths(seen.largest_error, names[0]);
      check_sums(!seen.wrong_sums);
      require_finite_loss(!seen.infinite_loss);
    });
  }
  void release() { packed.reset(); }

 private:
  Tensor lengths, codes, strips, packed;
  const cuda::DeviceSimilarity<T> table = cuda::device_similarity<T>(products);
};

/// Of |z|^2 of rows that are not refused later.
double bound_of(const Options& options) {
  if (options.normalize.value_or(options.form != Form::AdvCL)) return 1 + 1e-6;
  return options.form == Form::AdvCL ? (1 + 1e-6) * (1 + length_error) * (1 + length_error) : INFINITY;
}
/// Whether sums of exponentials of rows of this square have their range at any rate (ops::Moments::in_range).
template <typename T>
bool surely_in_range(double square, const Options& options) {
  const double power = powers_of(options).back(), bound = square / options.temperature, reference = ops::reference_of<T>(bound, {power});
  return power * (bound + reference) + std::log(2.0) <= (sizeof(T) == 4 ? 100 : 960) * std::log(2.0);  // half of the rows, or more, are negatives
}
template <typename T>
Products products_of(const Options& options, int64_t d) {
  if (sizeof(T) == 8) return Products::Float64;
  const double square = bound_of(options);
  if (options.precision == kernels::Precision::Full || !bf16_suffices(options, d, square) || !surely_in_range<T>(square, options)) return Products::Float32;
  return options.precision == kernels::Precision::Bf16 ? Products::Bf16 : Products::Bf16x3;
}
bool centred(Products products) { return products == Products::Bf16 || products == Products::Bf16x3; }

/// Sums of e^{p (s - reference)} over negatives, or their logs.
template <typename T>
struct LogMoments {
  const Rows<T>& rows;
  const std::vector<double> powers;
  const bool bounded;  // surely
  Tensor sums;         // [count, rows]; logs where numbers->out_of_range
  LogMoments(const Rows<T>& rows, const Options& options, Stream stream)
      : rows(rows), powers(powers_of(options)), bounded(surely_in_range<T>(bound_of(options), options)), sums(at::zeros({count(), rows.rows}, rows.of(at::kDouble))) {
    cuda::find_reference<T>(rows.scale, powers.back(), rows.known(), stream);
  }
  int64_t count() const { return static_cast<int64_t>(powers.size()); }
  void add(const Visits& visits, T* attraction, int64_t attracted, const double* centre, Stream stream) {
    const cuda::DeviceLogMoments<T> task{kernels::Negatives, static_cast<int>(count()), {powers[0], powers.back()}, &rows.known()->reference, sums.template mutable_data_ptr<double>(), attraction, attracted, centre};
    rows.run(&cuda::DeviceSimilarity<T>::log_moments, task, visits, stream);
  }
  /// With running maxima, where it must be.
  void settle(int64_t n, Stream stream) {
    if (bounded) return;
    double* const out = sums.template mutable_data_ptr<double>();
    cuda::find_out_of_range<T>(out, count() * rows.rows, n, &rows.known()->out_of_range, stream);
    rows.run(&cuda::DeviceSimilarity<T>::running_log_moments, cuda::DeviceRunningLogMoments{kernels::Negatives, static_cast<int>(count()), {powers[0], powers.back()}, out},
             rows.first_blocks(rows.blocks), stream, &rows.known()->out_of_range, 1);
  }
};

/// What the forms have in common, as in objective/images.h.
template <typename T>
class DeviceImages : public Evaluation {
 protected:
  const Options options;
  const bool alone;
  const int64_t views, batch, n, d, moving;  // blocks whose rows move
  const Features features;
  Weights weights;
  const Products products;
  std::optional<Rows<T>> rows;
  kernels::Terms terms;
  Tensor table, similarity, by_full, by_detached, losses, scratch;
  double scale() const { return rows->scale; }
  const cuda::Places& places() const { return rows->z.places; }
  Tensor images(int64_t cells) const { return at::empty({batch, cells}, rows->of(at::kDouble)); }

  DeviceImages(const Features& given, const Options& options)
      : options(options), alone(given.fixed.has_value()), views(options.views), batch(given.moving.size(0) / (alone ? 1 : views)), n(views * batch), d(given.moving.size(1)),
        moving(Rows<T>::blocks_of(given.moving.size(0))), features(given), weights(weights_of(options, n)), products(products_of<T>(options, d)) {}

  void prepare(Stream stream) {
    const int64_t adversarial = adversarial_view(options);
    rows.emplace(features.moving, features.fixed.value_or(Tensor()), cuda::Places{batch, views, alone ? std::max<int64_t>(adversarial, 0) : -1, 0, adversarial}, options, products, stream);
    table = at::empty({3, views * views}, rows->of(at::kDouble));
    double* const full = table.mutable_data_ptr<double>();
    terms = weights.terms(options, n);
    terms.full = full, terms.detached = full + views * views, terms.log_positive = full + 2 * views * views;
    cuda::fill_weights(weighing_of(options, n), full, full + views * views, full + 2 * views * views, stream);
    similarity = images(views * views);
    const Tensor partials = centred(products) ? at::empty({cuda::partial_sums(batch)}, rows->of(at::kDouble)) : Tensor();
    cuda::similarities_within(rows->z, scale(), similarity.mutable_data_ptr<double>(), partials.defined() ? partials.mutable_data_ptr<double>() : nullptr, stream);
    losses = at::empty({cuda::terms_blocks(batch)}, rows->of(at::kDouble));
    scratch = at::empty({cuda::terms_workspace(batch, views)}, rows->of(at::kDouble));
    if (!centred(products)) return;
    const Tensor sums = at::empty({2, d}, rows->of(at::kDouble));
    const T* const ones = nullptr;
    sum_rows(1, &ones, sums, stream);
    cuda::find_mean(sums.const_data_ptr<double>(), d, partials.const_data_ptr<double>(), places(), scale(), rows->known(), stream);
  }
  void sum_rows(int count, const T* const* by, const Tensor& sums, Stream stream) const {
    const Tensor workspace = at::empty({cuda::row_sums_workspace(count, d)}, rows->of(at::kDouble));
    cuda::sum_rows(rows->z, count, by, workspace.mutable_data_ptr<double>(), sums.mutable_data_ptr<double>(), stream);
  }
  /// After the terms.
  void finish(Stream stream) {
    cuda::find_loss(losses.const_data_ptr<double>(), losses.size(0), rows->known(), stream);
    rows->check(options, {alone ? "adversaries" : "features", "clean"});
    losses.reset(), scratch.reset();
  }
  Tensor no_gradient() const { return at::zeros({moving * kernels::block_rows, cuda::padded_dimensions(d)}, rows->numbers_of_kernels()); }
  double alpha() const { return options.form == Form::Paper ? options.alpha.value_or(0.5) : 0.5; }

  /// What the loss sends to the kernels' rows through their sums; `centres`, own, other and weights as in cuda::RowGradient, where products leave something out.
  struct BySums {
    Tensor rows;
    const T* factors;  // of the rows, if they are to be kept as they are
    int centres;
    const T *own[2], *other[2], *weights[2];
  };
  virtual BySums by_sums(Stream stream) = 0;

 public:
  Tensor value(at::ScalarType dtype) const override { return rows->numbers.select(0, offsetof(Numbers, loss) / sizeof(double)).to(dtype, false, true); }

  std::vector<Tensor> gradients(const Tensor& factor) override {
    Tensor result;
    ops::on_device_of(features.moving, [&](Stream stream) {
      const BySums sums = by_sums(stream);
      const Tensor by_loss = factor.to(at::kDouble).contiguous(), common = at::empty({2, sums.centres, 2, d}, rows->of(at::kDouble));
      if (sums.centres > 0) {
        const T* by[4] = {};
        for (int c = 0; c < sums.centres; ++c) by[2 * c] = sums.weights[c], by[2 * c + 1] = sums.other[c];
        sum_rows(2 * sums.centres, by, common, stream);
      }
      const int64_t count = features.moving.size(0), stride = sums.rows.size(1);
      result = !sums.factors && stride == d ? sums.rows.narrow(0, 0, count) : at::empty({count, d}, sums.rows.options());
      cuda::finish_gradient(rows->z, {sums.rows.template const_data_ptr<T>(), stride, sums.factors, by_full.template const_data_ptr<double>(), by_detached.template const_data_ptr<double>(), scale(), alpha(),
                                      sums.centres, {sums.own[0], sums.own[1]}, {sums.other[0], sums.other[1]}, {sums.weights[0], sums.weights[1]}, common.template const_data_ptr<double>(), rows->known(),
                                      by_loss.template const_data_ptr<double>(), result.template mutable_data_ptr<T>()}, stream);
    });
    return {result};
  }
};

template <typename T>
class DeviceLogMomentForm final : public DeviceImages<T> {
  using Base = DeviceImages<T>;
  using Base::alone, Base::batch, Base::moving, Base::n, Base::options, Base::products, Base::rows, Base::terms, Base::views;
  std::optional<LogMoments<T>> negatives;
  Tensor derivatives;  // own, other and logs, [3, count, rows]
  Tensor attraction;   // where the columns are detached: sum_j e^{s_ij} z_j of the rows that move

  T* derivative(int which, int64_t p) const { return derivatives.template mutable_data_ptr<T>() + (which * negatives->count() + p) * rows->rows; }

 public:
  DeviceLogMomentForm(const Features& features, const Options& options, bool differentiable, const std::optional<Tensor>& known) : Base(features, options) {
    ops::on_device_of(features.moving, [&](Stream stream) {
      this->prepare(stream);
      negatives.emplace(*rows, options, stream);
      const int64_t count = negatives->count();
      const double* const powers = negatives->powers.data();
      if (centred(products)) cuda::find_centres(static_cast<int>(count), powers, rows->known(), stream);
      if (differentiable && !terms.any_full && count == 1 && negatives->bounded) attraction = this->no_gradient();
      Visits visits = rows->first_blocks(rows->blocks);
      const Tensor ranges = alone ? at::empty({3 * rows->blocks + 1}, rows->of(at::kInt)) : Tensor();
      if (alone) {
        int32_t* const offsets = ranges.mutable_data_ptr<int32_t>();
        cuda::visit_moving(rows->blocks, moving, offsets, offsets + rows->blocks + 1, stream);
        visits.offsets = offsets, visits.ranges = offsets + rows->blocks + 1;
      }
      negatives->add(visits, attraction.defined() ? attraction.mutable_data_ptr<T>() : nullptr, attraction.defined() ? moving : 0, centred(products) ? rows->known()->centres : nullptr, stream);
      if (known) {
        const double* const sums = known->const_data_ptr<double>();
        const Tensor similarities = at::empty({n - batch}, rows->of(at::kDouble));
        cuda::similarities_of_first(rows->z, this->scale(), similarities.mutable_data_ptr<double>(), stream);
        cuda::check_known_sums(sums, static_cast<int>(count), powers, similarities.const_data_ptr<double>(), n - batch, this->scale(), std::numeric_limits<T>::epsilon(), rows->known(), stream);
        cuda::add_known_sums(sums, static_cast<int>(count), powers, this->places(), negatives->sums.template mutable_data_ptr<double>(), rows->rows, rows->known(), stream);
      }
      negatives->settle(n, stream);
      if (attraction.defined() || !differentiable) rows->release();

      cuda::LogMomentTerms<T> task{terms, this->places(), static_cast<int>(count), {powers[0], negatives->powers.back()}, this->similarity.template const_data_ptr<double>(),
                                   negatives->sums.template const_data_ptr<double>(), rows->rows, nullptr, nullptr, {}, {}, {}};
      if (differentiable) {
        this->by_full = this->images(views * views), this->by_detached = this->images(views * views);
        task.full = this->by_full.template mutable_data_ptr<double>(), task.detached = this->by_detached.template mutable_data_ptr<double>();
        derivatives = at::zeros({negatives->bounded ? 2 : 3, count, rows->rows}, rows->numbers_of_kernels());
      }
      for (int64_t p = 0; differentiable && p < count; ++p) task.own[p] = derivative(0, p), task.other[p] = derivative(1, p), task.logs[p] = negatives->bounded ? nullptr : derivative(2, p);
      cuda::log_moment_terms(task, this->scratch.template mutable_data_ptr<double>(), this->losses.template mutable_data_ptr<double>(), rows->known(), stream);
      this->finish(stream);
      negatives->sums.reset();
    });
  }

  typename Base::BySums by_sums(Stream stream) override {
    const int64_t count = negatives->count();
    typename Base::BySums result{attraction, nullptr, centred(products) ? static_cast<int>(count) : 0, {}, {}, {}};
    for (int64_t p = 0; p < count; ++p) result.own[p] = derivative(0, p), result.other[p] = derivative(1, p);
    if (attraction.defined()) {
      result.factors = derivative(0, 0);
      return result;
    }
    result.rows = this->no_gradient();
    const Visits visits = rows->first_blocks(moving);
    const auto task = [&](auto task) {
      task.selection = kernels::Negatives, task.count = static_cast<int>(count), task.gradient = result.rows.template mutable_data_ptr<T>();
      task.factor[0] = static_cast<T>(2 * this->alpha()), task.factor[1] = static_cast<T>(2 * (1 - this->alpha()));
      for (int64_t p = 0; p < count; ++p) task.powers[p] = negatives->powers[p], task.own[p] = result.own[p], task.other[p] = result.other[p];
      return task;
    };
    auto bounded = task(cuda::DeviceLogMomentsGradient<T>{});
    bounded.reference = &rows->known()->reference, bounded.centres = centred(products) ? rows->known()->centres : nullptr;
    const int32_t* const flag = negatives->bounded ? nullptr : &rows->known()->out_of_range;
    rows->run(&cuda::DeviceSimilarity<T>::log_moments_gradient, bounded, visits, stream, flag, 0);
    if (!flag) return result;
    auto running = task(cuda::DeviceRunningLogMomentsGradient<T>{});
    for (int64_t p = 0; p < count; ++p) running.log_sums[p] = derivative(2, p);
    rows->run(&cuda::DeviceSimilarity<T>::running_log_moments_gradient, running, visits, stream, flag, 1);
    return result;
  }
};

template <typename T>
class DeviceHardNegatives final : public DeviceImages<T> {
  using Base = DeviceImages<T>;
  using Base::batch, Base::options, Base::products, Base::rows, Base::terms, Base::views;
  Tensor wide, narrow, ones;  // numbers a row, of float64 and of the kernels
  cuda::HardTerms<T> task{};

  cuda::DeviceHardExponential<T> exponential() const { return {options.hard_negative->beta, task.least_epsilon, &rows->known()->reference, task.relative}; }
  void sums(bool times_e, bool transposed, int count, const T* a, const T* b, double* sums, T* maximum, Stream stream, const int32_t* flag = nullptr) const {
    rows->run(&cuda::DeviceSimilarity<T>::hard_moments, cuda::DeviceHardMoments<T>{exponential(), times_e, transposed, count, {a, b}, sums, maximum}, rows->first_blocks(rows->blocks), stream, flag, 1);
  }

 public:
  DeviceHardNegatives(const Features& features, const Options& options, bool differentiable) : Base(features, options) {
    ops::on_device_of(features.moving, [&](Stream stream) {
      this->prepare(stream);
      const int64_t R = rows->rows;
      const bool subtract_maximum = options.form == Form::AdvCL;
      wide = at::zeros({7, R}, rows->of(at::kDouble)), narrow = at::zeros({8, R}, rows->numbers_of_kernels()), ones = at::ones({R}, rows->numbers_of_kernels());
      this->by_full = this->images(views * views), this->by_detached = this->images(views * views);
      double* numbers = wide.mutable_data_ptr<double>();
      T* factors = narrow.template mutable_data_ptr<T>();
      const auto next = [R](auto*& at) { return std::exchange(at, at + R); };
      const double epsilon = importance_epsilon * std::exp(log_unit(options));
      task = {terms, this->places(), R, this->scale(), epsilon, std::max<double>(epsilon, std::numeric_limits<T>::min()), this->similarity.template const_data_ptr<double>(), {}, {}, {}, {}, {}, {}, {}, {},
              this->by_full.template mutable_data_ptr<double>(), this->by_detached.template mutable_data_ptr<double>(), {}, {}, {}, {}};
      task.by_q = numbers, numbers += 2 * R;
      for (double** to : {&task.shift, &task.importance, &task.q, &task.sums}) *to = next(numbers);
      for (T** to : {&task.weight, &task.by_detached, &task.own[0], &task.own[1], &task.other[0], &task.other[1]}) *to = next(factors);
      if (subtract_maximum) task.again = next(numbers), task.relative = next(factors), task.maximum = next(factors);
      const T* const one = ones.template const_data_ptr<T>();

      cuda::hard_shifts(task, rows->known(), stream);
      sums(false, false, 1, one, nullptr, task.importance, task.maximum, stream);
      if (subtract_maximum) {  // the diagonal is the maximum unless an image appears twice, or a row is a little longer than another
        cuda::hard_raised(task, rows->known(), stream);
        sums(false, false, 1, one, nullptr, task.again, nullptr, stream, &rows->known()->larger);
      }
      cuda::hard_weights(task, rows->known(), stream);
      sums(true, false, 1, task.weight, nullptr, task.sums, nullptr, stream);
      cuda::hard_terms(task, this->scratch.template mutable_data_ptr<double>(), this->losses.template mutable_data_ptr<double>(), stream);
      if (differentiable) {
        // Through the sums' weights q back to the importances' sums: what the weighed negatives of every row ask of q, by both kinds of derivative.
        const int first = terms.any_full ? 0 : 1, count = terms.any_full && terms.any_detached ? 2 : 1;
        sums(true, true, count, first == 0 ? task.other[1] : task.by_detached, task.by_detached, task.by_q + first * R, nullptr, stream);
        cuda::hard_slopes(task, stream);
        if (centred(products)) cuda::hard_centres(task, rows->known(), stream);
      }
      this->finish(stream);
    });
  }

  typename Base::BySums by_sums(Stream stream) override {
    const bool centred = objective::centred(products);
    const typename Base::BySums result{this->no_gradient(), nullptr, centred ? 2 : 0, {task.own[0], task.own[1]}, {task.other[0], task.other[1]}, {nullptr, task.weight}};
    const auto term = [&](int t) -> typename cuda::DeviceHardMomentsGradient<T>::Term {
      return {t == 1, t == 0 ? ones.template const_data_ptr<T>() : task.weight, task.own[t], task.other[t], centred ? rows->known()->centres + t : nullptr};
    };
    rows->run(&cuda::DeviceSimilarity<T>::hard_moments_gradient, cuda::DeviceHardMomentsGradient<T>{exponential(), 2, {term(0), term(1)}, result.rows.template mutable_data_ptr<T>()},
              rows->first_blocks(rows->blocks), stream);
    return result;
  }
};

template <typename T>
Tensor clean_sums_of(const Tensor& clean, const Options& options) {
  Tensor result;
  ops::on_device_of(clean, [&](Stream stream) {
    const int64_t n = clean.size(0);
    const cuda::Places places{n / (options.views - 1), options.views - 1};
    const Rows<T> rows(clean, {}, places, options, sizeof(T) == 8 ? Products::Float64 : Products::Float32, stream);
    LogMoments<T> moments(rows, options, stream);
    moments.add(rows.first_blocks(rows.blocks), nullptr, 0, nullptr, stream);
    moments.settle(n, stream);
    result = at::empty({moments.count(), n}, rows.of(at::kDouble));
    cuda::log_sums(moments.sums.template const_data_ptr<double>(), rows.rows, static_cast<int>(moments.count()), moments.powers.data(), places, rows.known(), result.template mutable_data_ptr<double>(), stream);
    rows.check(options, {"clean", "clean"});
  });
  return result;
}

struct DeviceBackend final : Backend {
  c10::intrusive_ptr<Evaluation> log_moment_form(const Features& features, const Options& options, bool differentiable, const std::optional<Tensor>& sums) const override {
    if (features.moving.scalar_type() == at::kFloat) return c10::make_intrusive<DeviceLogMomentForm<float>>(features, options, differentiable, sums);
    return c10::make_intrusive<DeviceLogMomentForm<double>>(features, options, differentiable, sums);
  }
  c10::intrusive_ptr<Evaluation> released_hard_negatives(const Features& features, const Options& options, bool differentiable) const override {
    if (features.moving.scalar_type() == at::kFloat) return c10::make_intrusive<DeviceHardNegatives<float>>(features, options, differentiable);
    return c10::make_intrusive<DeviceHardNegatives<double>>(features, options, differentiable);
  }
  Tensor clean_sums(const Tensor& clean, const Options& options) const override {
    return clean.scalar_type() == at::kFloat ? clean_sums_of<float>(clean, options) : clean_sums_of<double>(clean, options);
  }
};

const DeviceBackend device_backend;
[[maybe_unused]] const bool registered = (register_backend(ops::device_type, &device_backend), true);

}  // namespace
}  // namespace a_infonce::objective

// Rows packed on a device, and row moments of e^{s} over them and the way back: what the operators and the objective share there, as pairs.h and moments.h are for the CPU.
#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>
#include "error.h"
#include "kernels/similarity/similarity_cuda.h"
#include "kernels/terms/terms_cuda.h"
#include "ops/cuda/device.h"
#include "ops/deferred.h"
#include "ops/moments.h"
#include "ops/similarity.h"

namespace a_infonce::ops {

/// Rows measured and packed. Nothing here waits for the device but `check`.
template <typename T>
class DeviceRows {
 public:
  using Numbers = kernels::cuda::Numbers;
  using Places = kernels::cuda::Places;
  using Products = kernels::cuda::Products;
  using Stream = kernels::cuda::Stream;
  using Visits = kernels::cuda::Visits;

  /// How rows x become z, and similarities.
  struct Form {
    double scale;
    bool normalize, released;
    Products products;  // those of float64 rows are of float64
  };

  at::Tensor first, second;  // contiguous; `second` undefined: all rows are the first ones
  const int64_t d, blocks, rows;
  const double scale;
  const Products products;
  kernels::cuda::ViewRows<T> z;
  const at::Tensor numbers;

  /// given: codes int32 [rows of both]; undefined: by `places`. numbers: of `no_numbers`.
  DeviceRows(const at::Tensor& first, const at::Tensor& second, Places places, const Form& form, Stream stream, const at::Tensor& given, const at::Tensor& numbers)
      : first(first), second(second), d(first.size(1)), blocks(blocks_of(first.size(0)) + (second.defined() ? blocks_of(second.size(0)) : 0)), rows(blocks * kernels::block_rows),
        scale(form.scale), products(form.products), numbers(numbers) {
    if (second.defined()) places.second_place = blocks_of(first.size(0)) * kernels::block_rows;
    lengths = at::empty({2, rows}, of(at::kDouble)), codes = at::empty({rows}, of(at::kInt));
    double* const length = lengths.mutable_data_ptr<double>();
    z = {places, first.const_data_ptr<T>(), second.defined() ? second.const_data_ptr<T>() : nullptr, first.size(0), second.defined() ? second.size(0) : 0, d, rows,
         form.normalize, form.released, length, length + rows, codes.mutable_data_ptr<int32_t>(), given.defined() ? given.const_data_ptr<int32_t>() : nullptr};
    kernels::cuda::measure(z, known(), stream);
    strips = at::empty({rows / kernels::cuda::chunk_rows, static_cast<int64_t>(sizeof(kernels::cuda::Strip))}, of(at::kByte));
    kernels::cuda::describe_codes(z.codes, rows, reinterpret_cast<kernels::cuda::Strip*>(strips.mutable_data_ptr()), stream);
    packed = at::zeros({kernels::cuda::packed_bytes(products, blocks, d)}, of(at::kByte));
    char* const to = static_cast<char*>(packed.mutable_data_ptr());
    const int64_t row_bytes = kernels::cuda::packed_bytes(products, 1, d) / kernels::cuda::parts_of(products) / kernels::block_rows;
    table.pack(z.first, z.first_count, d, z.inverses, nullptr, blocks, to, stream);
    if (z.second) table.pack(z.second, z.second_count, d, z.inverses + places.second_place, nullptr, blocks, to + places.second_place * row_bytes, stream);
  }
  static int64_t blocks_of(int64_t rows) { return (rows + kernels::block_rows - 1) / kernels::block_rows; }
  static at::Tensor no_numbers(const at::Tensor& first) { return at::zeros({sizeof(Numbers) / sizeof(double)}, first.options().dtype(at::kDouble).requires_grad(false)); }
  at::TensorOptions of(at::ScalarType type) const { return numbers.options().dtype(type); }
  at::TensorOptions numbers_of_kernels() const { return of(at::CppTypeToScalarType<T>::value); }
  /// Of a gradient of the first blocks.
  at::Tensor no_gradient(int64_t blocks) const { return at::zeros({blocks * kernels::block_rows, kernels::cuda::padded_dimensions(d)}, numbers_of_kernels()); }
  Numbers* known() const { return reinterpret_cast<Numbers*>(numbers.mutable_data_ptr()); }
  Visits first_blocks(int64_t count) const { return {count, nullptr, nullptr, kernels::cuda::splits_of(count, blocks)}; }

  /// One of the similarity kernels; with a flag, where *flag == value.
  template <typename Task>
  void run(void (*kernels::cuda::DeviceSimilarity<T>::*kernel)(const kernels::cuda::DeviceMatrix&, const Task&, const Visits&, const kernels::cuda::Context&), const Task& task, const Visits& visits,
           Stream stream, const int32_t* flag = nullptr, int32_t value = 0) const {
    constexpr bool log_moments = std::is_same_v<Task, kernels::cuda::DeviceLogMoments<T>> || std::is_same_v<Task, kernels::cuda::DeviceLogMomentsGradient<T>>;
    const at::Tensor workspace = at::empty({kernels::cuda::workspace_bytes(products, d, visits, log_moments)}, of(at::kByte));
    (table.*kernel)({products, blocks, d, packed.const_data_ptr(), z.codes, static_cast<const kernels::cuda::Strip*>(strips.const_data_ptr()), scale}, task, visits,
                    {stream, workspace.mutable_data_ptr(), flag, value});
  }
  /// Throws where rows are not finite, or as `found` does: now, or as the thread's DeferredChecks say. Nobody looks while somebody else captures a graph. given: the rows as
  /// they were, by name.
  void check(const std::vector<std::pair<std::string, at::Tensor>>& given, std::function<void(const Numbers& seen)> found) const {
    const bool later = DeferredChecks::active();
    if (!later && stream_captures(numbers)) return;
    std::string names;
    std::vector<std::pair<std::string, at::Tensor>> shown;
    for (const auto& each : given) {
      if (!names.empty()) names += ", ";
      names += each.first;
      if (!later) shown.push_back(each);
    }
    DeferredChecks::add(numbers, [names, shown, found](const at::Tensor& here) {
      Numbers seen;
      std::memcpy(&seen, here.const_data_ptr(), sizeof seen);
      if (!std::isfinite(seen.largest_square)) {
        for (const auto& [name, rows] : shown) require_finite_rows(rows, name.c_str());
        if (shown.empty()) throw Error(ErrorKind::NonFinite, names + ": expected finite rows, got one whose square is NaN or infinite");
      }
      found(seen);
    });
  }
  /// What was given: nothing but similarities is asked from here on.
  void forget() { first.reset(), second.reset(); }
  /// What the similarity kernels read.
  void release() { packed.reset(); }

 private:
  at::Tensor lengths, codes, strips, packed;
  const kernels::cuda::DeviceSimilarity<T> table = kernels::cuda::device_similarity<T>(products);
};

/// Sums of e^{p (s - reference)} over selected pairs of rows, which outlive this. Where they would leave their range they are found again, as logs, with a running maximum a
/// row: what the host cannot know is in *stage, which kernels look at.
template <typename T>
class DeviceMoments {
 public:
  using Stream = kernels::cuda::Stream;
  using Visits = kernels::cuda::Visits;
  /// The first stage is of sums, the next one of logs; at any other stage nobody wants them. Kernels wait for no stage but one after 0.
  struct Stage {
    double* reference;
    int32_t* stage;
    int32_t first = 0;
  };

  const std::vector<double> powers;
  at::Tensor sums;  // [count, rows]

  /// bounded: sums keep their range at any rate.
  DeviceMoments(const DeviceRows<T>& rows, int32_t selection, std::vector<double> powers, bool bounded, Stream stream, const Stage& stage)
      : powers(std::move(powers)), sums(at::zeros({count(), rows.rows}, rows.of(at::kDouble))), rows(&rows), selection(selection), bounded(bounded), stage(stage) {
    kernels::cuda::find_reference<T>(rows.scale, *std::max_element(this->powers.begin(), this->powers.end()), rows.known(), stage.reference, stream);
  }
  DeviceMoments(const DeviceRows<T>& rows, int32_t selection, std::vector<double> powers, bool bounded, Stream stream)
      : DeviceMoments(rows, selection, std::move(powers), bounded, stream, {&rows.known()->reference, &rows.known()->out_of_range}) {}
  int64_t count() const { return static_cast<int64_t>(powers.size()); }
  bool surely_bounded() const { return bounded; }

  void add(const Visits& visits, Stream stream, T* attraction = nullptr, int64_t attracted = 0, const double* centre = nullptr) {
    const kernels::cuda::DeviceLogMoments<T> task{selection, static_cast<int>(count()), {powers[0], powers.back()}, stage.reference, sums.mutable_data_ptr<double>(), attraction, attracted, centre};
    rows->run(&kernels::cuda::DeviceSimilarity<T>::log_moments, task, visits, stream, stage.first > 0 ? stage.stage : nullptr, stage.first);
  }
  /// The next stage where sums over up to n pairs are out of range.
  void look(int64_t n, Stream stream) const {
    if (!bounded) kernels::cuda::find_out_of_range<T>(sums.const_data_ptr<double>(), count() * rows->rows, n, stage.stage, stage.first + 1, stream);
  }
  /// At the next stage, with running maxima.
  void run(const Visits& visits, Stream stream) {
    if (bounded) return;
    const kernels::cuda::DeviceRunningLogMoments task{selection, static_cast<int>(count()), {powers[0], powers.back()}, sums.mutable_data_ptr<double>()};
    rows->run(&kernels::cuda::DeviceSimilarity<T>::running_log_moments, task, visits, stream, stage.stage, stage.first + 1);
    runs = true;
  }
  /// From here on sums have derivatives.
  void differentiate() {
    by_sums = at::zeros({2, count(), rows->rows}, rows->numbers_of_kernels());
    if (runs) logs = at::full({count(), rows->rows}, kernels::cuda::no_log, rows->numbers_of_kernels());
  }
  T* derivative(int end, int64_t p) const { return by_sums.template mutable_data_ptr<T>() + (end * count() + p) * rows->rows; }
  T* own(int64_t p) const { return derivative(0, p); }
  T* other(int64_t p) const { return derivative(1, p); }
  /// For kernels.
  kernels::cuda::MomentSums<T> task() const {
    kernels::cuda::MomentSums<T> task{static_cast<int>(count()), {powers[0], powers.back()}, sums.const_data_ptr<double>(), rows->rows, stage.reference, runs ? stage.stage : nullptr, stage.first + 1, {}, {}, {}};
    for (int64_t p = 0; by_sums.defined() && p < count(); ++p) task.own[p] = own(p), task.other[p] = other(p), task.logs[p] = log(p);
    return task;
  }
  /// gradient += that of the loss by the packed rows over `scale`. Centres as the sums have them.
  void add_gradient(const Visits& visits, CrossFactors factors, T* gradient, Stream stream, const double* centres = nullptr) const {
    const auto fill = [&](auto task) {
      task.selection = selection, task.count = static_cast<int>(count()), task.gradient = gradient;
      task.factor[0] = static_cast<T>(factors.clean), task.factor[1] = static_cast<T>(factors.adversarial);
      for (int64_t p = 0; p < count(); ++p) task.powers[p] = powers[p], task.own[p] = own(p), task.other[p] = other(p);
      return task;
    };
    auto direct = fill(kernels::cuda::DeviceLogMomentsGradient<T>{});
    direct.reference = stage.reference, direct.centres = centres;
    rows->run(&kernels::cuda::DeviceSimilarity<T>::log_moments_gradient, direct, visits, stream, bounded ? nullptr : stage.stage, stage.first);
    if (!runs) return;
    auto running = fill(kernels::cuda::DeviceRunningLogMomentsGradient<T>{});
    for (int64_t p = 0; p < count(); ++p) running.log_sums[p] = log(p);
    rows->run(&kernels::cuda::DeviceSimilarity<T>::running_log_moments_gradient, running, visits, stream, stage.stage, stage.first + 1);
  }

 private:
  const DeviceRows<T>* rows;
  int32_t selection;
  bool bounded, runs = false;
  Stage stage;
  at::Tensor by_sums;  // own and other, [2, count, rows]
  at::Tensor logs;     // [count, rows], where sums may be logs
  T* log(int64_t p) const { return logs.defined() ? logs.template mutable_data_ptr<T>() + p * rows->rows : nullptr; }
};

}  // namespace a_infonce::ops

// Row moments of e^{s} over packed rows, and the way back: what the operators and the objective share.
#pragma once
#include <algorithm>
#include <cmath>
#include <span>
#include <vector>
#include "ops/pairs.h"

namespace a_infonce::ops {

/// Exponentials of p (s - reference) with one reference for all rows, chosen so that those of the largest similarity, `bound`, leave room for sums over any number
/// of rows, and so that small temperatures use as much of the other side of the range as there is.
template <typename T>
double reference_of(double bound, const std::vector<double>& powers) {
  constexpr double room = sizeof(T) == 4 ? 40 : 300;
  return std::max(0.0, bound - room / *std::max_element(powers.begin(), powers.end()));
}

/// Pairs of a clean and an adversarial row send their gradient to each end times that end's factor.
struct CrossFactors {
  double clean = 1, adversarial = 1;
};

/// log sum_{j selected} e^{p s_ij} of every row, for one or two powers p. One reference serves all rows as long as their sums stay in the range of T (`bounded`);
/// else every row has a running maximum.
template <typename T>
struct Moments {
  int32_t selection;
  std::vector<double> powers;
  int64_t rows;                                // of the kernels
  double reference;
  double centres[2] = {};                      // that the attraction and the gradient leave out
  bool bounded = true;
  std::vector<double> sums;                    // [powers, rows]: in units of e^{p reference}; logs where they are not bounded
  std::vector<T> own[2], other[2], logs[2];    // of the gradient

  /// bound: of |s|.
  Moments(int32_t selection, std::vector<double> powers, int64_t rows, double bound)
      : selection(selection), powers(std::move(powers)), rows(rows), reference(reference_of<T>(bound, this->powers)), sums(count() * rows) {}
  int64_t count() const { return static_cast<int64_t>(powers.size()); }

  /// Adds e^{p s_ij} of the pairs of blocks that ends_of names; attraction as in kernels::LogMoments. more: moments over other pairs, found in the same pass.
  template <typename EndsOf>
  void add(const Pairs<T>& pairs, const EndsOf& ends_of, T* attraction = nullptr, int64_t attracted = 0, std::span<Moments> more = {}) {
    std::vector<kernels::LogMoments<T>> tasks;
    const auto enter = [&](Moments& moments) {
      auto& task = tasks.emplace_back(kernels::LogMoments<T>{moments.selection, static_cast<int>(moments.count()), {}, moments.reference, moments.sums.data(), attraction, attracted, moments.centres[0]});
      std::copy(moments.powers.begin(), moments.powers.end(), task.powers);
    };
    enter(*this);
    std::for_each(more.begin(), more.end(), enter);
    pairs.run(&kernels::SimilarityKernels<T>::log_moments, linked(tasks), ends_of);
  }
  /// Whether sums of up to n terms hold their precision although exponentials below 2^-125 (2^-1021) counted as that. A sum of 0 is one over no pair.
  bool in_range(int64_t n) const {
    const double least = static_cast<double>(n) * (sizeof(T) == 4 ? 0x1p-100 : 0x1p-960);
    return std::all_of(sums.begin(), sums.end(), [&](double sum) { return sum == 0 || (sum >= least && sum < INFINITY); });
  }
  /// All pairs of the rows of the first blocks, at any temperature.
  void run(const Pairs<T>& pairs, int64_t first_blocks) {
    bounded = false;
    kernels::RunningLogMoments<T> task{selection, static_cast<int>(count()), {}, sums.data()};
    std::copy(powers.begin(), powers.end(), task.powers);
    pairs.run_rows(&kernels::SimilarityKernels<T>::running_log_moments, task, first_blocks);
  }

  /// -infinity for a row without a selected pair.
  double log_sum(int64_t p, int64_t row) const {
    const double sum = sums[p * rows + row];
    return bounded ? powers[p] * reference + std::log(sum) : sum;
  }
  /// Before derivatives are set.
  void clear_derivatives() {
    for (int64_t p = 0; p < count(); ++p) own[p].assign(rows, 0), other[p].assign(rows, 0), logs[p].assign(bounded ? 0 : rows, 0);
  }
  /// The derivative of a loss by log_sum(p, row) through both ends of its pairs (full) and through the row's own end (detached).
  void set_derivative(int64_t p, int64_t row, double full, double detached) {
    const double sum = sums[p * rows + row];
    if (bounded ? sum == 0 : std::isinf(sum)) return;
    const double factor = powers[p] / (bounded ? sum : 1);
    own[p][row] = static_cast<T>(factor * (full + detached)), other[p][row] = static_cast<T>(factor * full);
    if (!bounded) logs[p][row] = static_cast<T>(sum);
  }
  /// gradient [rows, padded_d] += that of the loss by the packed rows over `scale`, for the ends that are named; those of the first blocks where it is not bounded.
  template <typename EndsOf>
  void add_gradient(const Pairs<T>& pairs, CrossFactors factors, const EndsOf& ends_of, int64_t first_blocks, T* gradient, std::span<const Moments> more = {}) const {
    std::vector<kernels::LogMomentsGradient<T>> tasks;
    const auto enter = [&](const Moments& moments) {
      const auto fill = [&](auto& task) {
        task.selection = moments.selection, task.count = static_cast<int>(moments.count()), task.gradient = gradient;
        task.factor[0] = static_cast<T>(factors.clean), task.factor[1] = static_cast<T>(factors.adversarial);
        for (int64_t p = 0; p < moments.count(); ++p) task.powers[p] = moments.powers[p], task.own[p] = moments.own[p].data(), task.other[p] = moments.other[p].data();
      };
      if (moments.bounded) {
        auto& task = tasks.emplace_back();
        fill(task);
        task.reference = moments.reference;
        std::copy_n(moments.centres, 2, task.centres);
      } else {
        kernels::RunningLogMomentsGradient<T> task{};
        fill(task);
        for (int64_t p = 0; p < moments.count(); ++p) task.log_sums[p] = moments.logs[p].data();
        pairs.run_rows(&kernels::SimilarityKernels<T>::running_log_moments_gradient, task, first_blocks);
      }
    };
    enter(*this);
    std::for_each(more.begin(), more.end(), enter);
    if (!tasks.empty()) pairs.run(&kernels::SimilarityKernels<T>::log_moments_gradient, linked(tasks), ends_of);
  }

 private:
  template <typename Task>
  static const Task& linked(std::vector<Task>& tasks) {
    for (size_t k = 1; k < tasks.size(); ++k) tasks[k - 1].more = &tasks[k];
    return tasks.front();
  }
};

/// Every pair of blocks, for both ends.
constexpr auto every_pair = [](int64_t, int64_t) { return kernels::BothEnds; };

}  // namespace a_infonce::ops

// The similarity kernels against the double loop that their contract (kernels/similarity/similarity.h) stands for.
#include "kernels/similarity/similarity.h"
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>
#include "check.h"
#include "kernels/cpu/instruction_set.h"
#include "kernels/random.h"

using namespace a_infonce::kernels;

namespace a_infonce::kernels {
#define DECLARE(set) \
  namespace set { extern const SimilarityKernels<float> similarity_float; }
DECLARE(emulated_1)
DECLARE(emulated_2)
DECLARE(emulated_avx512_1)
DECLARE(emulated_avx512_2)
}  // namespace a_infonce::kernels

namespace {

struct Shape {
  std::vector<int64_t> sizes;  // of the blocks
  int64_t d;
};

template <typename T>
class Problem {
  const SimilarityKernels<T>& kernels;
  std::string name;
  double tolerance;
  std::vector<int32_t> sizes, codes;
  int64_t n = 0, d, padded_d, R;
  std::vector<int64_t> place;       // of row i among the padded ones
  std::vector<double> z;            // [n, d], as T
  std::vector<T> panels, rows, workspace;
  Matrix<T> matrix{};
  uint64_t drawn = 0;

  std::vector<T> numbers(double low, double high) {  // [R], 0 for padding
    std::vector<T> result(R);
    for (int64_t i = 0; i < n; ++i) result[place[i]] = static_cast<T>(low + (high - low) * a_infonce::random::uniform(2, 0, drawn++));
    return result;
  }
  double s(int64_t i, int64_t j) const {
    double sum = 0;
    for (int64_t k = 0; k < d; ++k) sum += z[i * d + k] * z[j * d + k];
    return matrix.scale * sum;
  }
  int32_t code(int64_t i) const { return codes[place[i]]; }
  bool selected(int64_t i, int64_t j, int32_t selection) const {
    const bool positive = code(i) >> 1 == code(j) >> 1, cross = (code(i) ^ code(j)) & 1;
    return i != j && (selection & (positive ? (cross ? PositiveCrossKind : PositiveSameKind) : (cross ? NegativeCrossKind : NegativeSameKind)));
  }
  /// |got - expected| <= tolerance |expected| over all rows; `width` numbers each, `stride` apart.
  template <typename U>
  void compare(const char* what, const U* got, const std::vector<double>& expected, int64_t width, int64_t stride, int64_t first_blocks) const {
    double error = 0, size = 0;
    for (int64_t i = 0; i < n; ++i)
      for (int64_t k = 0; k < width && place[i] < first_blocks * block_rows; ++k) {
        const double difference = got[place[i] * stride + k] - expected[i * width + k];
        error += difference * difference, size += expected[i * width + k] * expected[i * width + k];
      }
    CHECK(std::isfinite(error) && std::sqrt(error) <= tolerance * std::sqrt(size) + 1e-30, "%s, %s, n = %ld, d = %ld: %g of %g", name.c_str(), what, long(n), long(d), std::sqrt(error), std::sqrt(size));
  }
  template <typename Task>
  void run(void (*kernel)(const Matrix<T>&, const Task&, int64_t, int64_t, Ends, T*), const Task& task, int64_t moving = 1 << 30) {
    for (int64_t I = 0; I < matrix.blocks; ++I)
      for (int64_t J = I; J < matrix.blocks; ++J)
        if (const int ends = (I < moving ? First : 0) | (J < moving ? Second : 0)) kernel(matrix, task, I, J, static_cast<Ends>(ends), workspace.data());
  }

 public:
  Problem(const SimilarityKernels<T>& kernels, std::string name, double tolerance, const Shape& shape, double scale)
      : kernels(kernels), name(std::move(name)), tolerance(tolerance), d(shape.d), padded_d(round_up(d, lane_multiple)), R(static_cast<int64_t>(shape.sizes.size()) * block_rows), workspace(workspace_elements) {
    codes.assign(R, -1);
    for (size_t block = 0; block < shape.sizes.size(); ++block) {
      sizes.push_back(static_cast<int32_t>(shape.sizes[block]));
      for (int64_t i = 0; i < shape.sizes[block]; ++i) place.push_back(static_cast<int64_t>(block) * block_rows + i);
    }
    n = static_cast<int64_t>(place.size());
    const int64_t batch = (n + 2) / 3;  // three views, the last adversarial
    for (int64_t i = 0; i < n; ++i) codes[place[i]] = static_cast<int32_t>(2 * (i % batch) + (i / batch == 2));
    for (int64_t i = 0; i < n * d; ++i) z.push_back(static_cast<T>(a_infonce::random::normal(1, 0, i) / std::sqrt(static_cast<double>(d))));
    panels.resize(R * kernels.panel_width(d)), rows.resize(R * kernels.row_width(d));
    for (int64_t block = 0, row = 0; block < static_cast<int64_t>(sizes.size()); row += sizes[block++]) {
      const std::vector<T> own(z.begin() + row * d, z.begin() + (row + sizes[block]) * d);
      kernels.pack(own.data(), sizes[block], d, panels.data() + block * block_rows * kernels.panel_width(d), rows.data() + block * block_rows * kernels.row_width(d));
    }
    matrix = {static_cast<int64_t>(sizes.size()), d, padded_d, panels.data(), rows.data(), codes.data(), sizes.data(), scale};
  }

  struct Part {
    int32_t selection;
    std::vector<double> powers;
  };
  /// Of several parts, each is `more` of the one before.
  void log_moments(const std::vector<Part>& parts, double reference, bool attract) {
    std::vector<LogMoments<T>> tasks(parts.size());
    std::vector<std::vector<double>> sums;
    std::vector<double> expected(n * d);
    std::vector<T> attraction(attract ? block_rows * padded_d : 0);
    const double centre = 0.7;
    for (size_t k = 0; k < parts.size(); ++k) {
      const auto& [selection, powers] = parts[k];
      tasks[k] = {selection, static_cast<int>(powers.size()), {}, reference, sums.emplace_back(powers.size() * R).data(), attract ? attraction.data() : nullptr, attract ? 1 : 0, centre};
      std::copy(powers.begin(), powers.end(), tasks[k].powers);
      if (k > 0) tasks[k - 1].more = &tasks[k];
    }
    run(kernels.log_moments, tasks[0]);
    for (size_t k = 0; k < parts.size(); ++k)
      for (size_t p = 0; p < parts[k].powers.size(); ++p) {
        std::vector<double> moments(n);
        for (int64_t i = 0; i < n; ++i)
          for (int64_t j = 0; j < n; ++j)
            if (selected(i, j, parts[k].selection)) {
              const double e = std::exp(parts[k].powers[p] * (s(i, j) - reference));
              moments[i] += e;
              for (int64_t c = 0; attract && c < d; ++c) expected[i * d + c] += (e - centre) * z[j * d + c];
            }
        compare("sums", sums[k].data() + p * R, moments, 1, 1, matrix.blocks);
      }
    if (attract) compare("attraction", attraction.data(), expected, d, padded_d, 1);
  }

  /// `plain`: own = other and no factors, where one matrix of weights does for both ends.
  void log_moments_gradient(const std::vector<Part>& parts, bool plain, int64_t moving) {
    struct Coefficients {
      std::vector<T> own[2], other[2];
    };
    std::vector<Coefficients> coefficients(parts.size());
    std::vector<LogMomentsGradient<T>> tasks(parts.size());
    std::vector<T> gradient(R * padded_d);
    for (size_t k = 0; k < parts.size(); ++k) {
      auto& task = tasks[k];
      auto& [own, other] = coefficients[k];
      task.selection = parts[k].selection, task.count = static_cast<int>(parts[k].powers.size()), task.reference = 0.5, task.gradient = gradient.data();
      task.factor[0] = plain ? 1 : T(0.5), task.factor[1] = plain ? 1 : T(1.5);
      for (int p = 0; p < task.count; ++p) {
        own[p] = numbers(0.5, 1.5), other[p] = plain ? own[p] : numbers(0.5, 1.5);
        task.powers[p] = parts[k].powers[p], task.own[p] = own[p].data(), task.other[p] = other[p].data(), task.centres[p] = p ? 0 : 0.6;
      }
      if (k > 0) tasks[k - 1].more = &task;
    }
    run(kernels.log_moments_gradient, tasks[0], moving);
    std::vector<double> expected(n * d);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j) {
        double w = 0;
        for (size_t k = 0; k < parts.size(); ++k)
          for (size_t p = 0; p < parts[k].powers.size(); ++p)
            if (selected(i, j, parts[k].selection))
              w += (coefficients[k].own[p][place[i]] + coefficients[k].other[p][place[j]]) * (std::exp(parts[k].powers[p] * (s(i, j) - 0.5)) - tasks[k].centres[p]);
        if ((code(i) ^ code(j)) & 1) w *= tasks[0].factor[code(i) & 1];
        for (int64_t c = 0; c < d; ++c) expected[i * d + c] += w * z[j * d + c];
      }
    compare("gradient", gradient.data(), expected, d, padded_d, moving);
  }

  void running(std::vector<double> powers) {
    if (!kernels.running_log_moments) return;
    const int count = static_cast<int>(powers.size());
    std::vector<double> log_sums(count * R);
    RunningLogMoments<T> task{Negatives, count, {}, log_sums.data()};
    std::vector<T> own[2], other[2], logs[2], gradient(R * padded_d);
    RunningLogMomentsGradient<T> back{};
    back.selection = Negatives, back.count = count, back.gradient = gradient.data(), back.factor[0] = T(0.5), back.factor[1] = T(1.5);
    for (int p = 0; p < count; ++p) task.powers[p] = back.powers[p] = powers[p];
    for (int64_t block = 0; block < matrix.blocks; ++block) kernels.running_log_moments(matrix, task, block, workspace.data());
    std::vector<std::vector<double>> moments(count, std::vector<double>(n));
    for (int p = 0; p < count; ++p) {
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < n; ++j)
          if (selected(i, j, Negatives)) moments[p][i] += std::exp(powers[p] * s(i, j));
        if (moments[p][i] == 0) {
          CHECK(log_sums[p * R + place[i]] == -INFINITY, "%s, a sum over no pair", name.c_str());
          log_sums[p * R + place[i]] = moments[p][i] = 0;
        } else moments[p][i] = std::log(moments[p][i]);
      }
      compare("log sums", log_sums.data() + p * R, moments[p], 1, 1, matrix.blocks);
      logs[p].resize(R), own[p] = numbers(0.5, 1.5), other[p] = numbers(0.5, 1.5);
      for (int64_t i = 0; i < n; ++i) logs[p][place[i]] = static_cast<T>(moments[p][i]);
      back.own[p] = own[p].data(), back.other[p] = other[p].data(), back.log_sums[p] = logs[p].data();
    }
    for (int64_t block = 0; block < matrix.blocks; ++block) kernels.running_log_moments_gradient(matrix, back, block, workspace.data());
    std::vector<double> expected(n * d);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j)
        if (selected(i, j, Negatives)) {
          double w = 0;
          for (int p = 0; p < count; ++p)
            w += own[p][place[i]] * std::exp(powers[p] * s(i, j) - moments[p][i]) + other[p][place[j]] * std::exp(powers[p] * s(i, j) - moments[p][j]);
          if ((code(i) ^ code(j)) & 1) w *= back.factor[code(i) & 1];
          for (int64_t k = 0; k < d; ++k) expected[i * d + k] += w * z[j * d + k];
        }
    compare("running gradient", gradient.data(), expected, d, padded_d, matrix.blocks);
  }

  void hard(double exponent, bool uniform, bool times_e, bool transposed, int count) {
    const double epsilon = 1e-4, reference = 0.5;
    std::vector<T> relative = uniform ? std::vector<T>(R, 1) : numbers(0.5, 1), weights[2] = {numbers(0.5, 1.5), numbers(0.5, 1.5)}, maximum(R, -INFINITY);
    for (T& x : relative) x = x == 0 ? 1 : x;  // padding
    const HardExponential<T> exponential{exponent, epsilon, reference, uniform, relative.data()};
    std::vector<double> sums(count * R);
    HardMoments<T> task{exponential, times_e, transposed, count, {weights[0].data(), weights[1].data()}, sums.data(), maximum.data()};
    run(kernels.hard_moments, task);
    const auto e = [&](int64_t i, int64_t j) { return relative[place[i]] * std::exp(s(i, j) - reference); };
    for (int k = 0; k < count; ++k) {
      std::vector<double> expected(n), top(n);
      for (int64_t i = 0; i < n; ++i) {
        double highest = -INFINITY;
        for (int64_t j = 0; j < n; ++j)
          if (selected(i, j, Negatives)) {
            const double x = transposed ? e(j, i) : e(i, j);
            expected[i] += std::pow(x + epsilon, exponent) * (times_e ? x : 1) * weights[k][place[j]];
            highest = std::max(highest, s(i, j) / matrix.scale);
          }
        if (std::isinf(highest)) CHECK(std::isinf(maximum[place[i]]), "%s, the maximum over no pair", name.c_str());
        else top[i] = std::isinf(maximum[place[i]]) ? INFINITY : highest - maximum[place[i]];
      }
      compare("hard sums", sums.data() + k * R, expected, 1, 1, matrix.blocks);
      for (double difference : top) CHECK(std::abs(difference) <= tolerance * 2, "%s, a maximum is %g off", name.c_str(), difference);
    }
    std::vector<T> own[2] = {numbers(0.5, 1.5), numbers(0.5, 1.5)}, other[2] = {numbers(0.5, 1.5), numbers(0.5, 1.5)}, gradient(R * padded_d);
    HardMomentsGradient<T> back{exponential, count, {}, gradient.data()};
    for (int t = 0; t < count; ++t) back.terms[t] = {times_e == (t == 0), weights[t].data(), own[t].data(), other[t].data(), t ? 0 : 0.3};
    run(kernels.hard_moments_gradient, back);
    std::vector<double> expected(n * d);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j)
        if (selected(i, j, Negatives)) {
          double w = 0;
          for (int t = 0; t < count; ++t) {
            const auto derivative = [&](double x) {
              const double power = std::pow(x + epsilon, exponent), slope = exponent * x / (x + epsilon) * power;
              return (back.terms[t].times_e ? x * (slope + power) : slope) - back.terms[t].centre;
            };
            w += own[t][place[i]] * weights[t][place[j]] * derivative(e(i, j)) + other[t][place[j]] * weights[t][place[i]] * derivative(e(j, i));
          }
          for (int64_t k = 0; k < d; ++k) expected[i * d + k] += w * z[j * d + k];
        }
    compare("hard gradient", gradient.data(), expected, d, padded_d, matrix.blocks);
  }

  void by_rows() {
    const std::vector<T> x(z.begin(), z.begin() + d), y(z.begin() + d, z.begin() + 2 * d);
    std::vector<double> sum(x.begin(), x.end());
    double product = 0;
    for (int64_t k = 0; k < d; ++k) product += static_cast<double>(x[k]) * y[k];
    CHECK(std::abs(kernels.dot(x.data(), y.data(), d) - product) <= 1e-14 * d, "%s, dot", name.c_str());
    kernels.add(0.3, y.data(), d, sum.data());
    for (int64_t k = 0; k < d; ++k) CHECK(std::abs(sum[k] - (x[k] + 0.3 * y[k])) <= 1e-15, "%s, add", name.c_str());
    std::vector<T> result(d);
    kernels.multiply(0.3, x.data(), d, result.data());
    for (int64_t k = 0; k < d; ++k) CHECK(result[k] == static_cast<T>(0.3 * x[k]), "%s, multiply", name.c_str());
    const std::vector<double> g(x.begin(), x.end());
    kernels.project(0.7, g.data(), 0.4, y.data(), d, result.data());
    for (int64_t k = 0; k < d; ++k) CHECK(std::abs(result[k] - (0.7 * g[k] - 0.4 * product * y[k])) <= tolerance, "%s, project", name.c_str());
  }

  /// Rows in the order of three classes of unequal size, clean ones first: tiles of positives, of negatives and of both, and blocks without a positive.
  void in_classes() {
    const std::vector<int32_t> before = codes;
    for (int64_t i = 0; i < n; ++i) {
      const bool kind = i >= 2 * n / 3;
      const double part = kind ? (i - 2 * n / 3) / (n - static_cast<double>(2 * n / 3)) : i / (2 * n / 3.0);
      codes[place[i]] = 2 * static_cast<int32_t>(3 * part * part) + kind;
    }
    const Part same{PositiveSameKind, {1}}, cross{PositiveCrossKind, {1}}, either{PositiveSameKind | PositiveCrossKind, {1}};
    log_moments({either}, 0.5, false), log_moments({{Negatives, {1, 2}}, either}, 0.5, false), log_moments({{Negatives, {0.6, 1.6}}, same, cross}, 0.5, false);
    log_moments_gradient({either}, true, matrix.blocks), log_moments_gradient({{Negatives, {1}}, either}, true, matrix.blocks);
    log_moments_gradient({{Negatives, {1, 2}}, same, cross}, false, matrix.blocks), log_moments_gradient({{Negatives | PositiveSameKind, {1}}, cross}, false, 1);
    codes = before;
  }

  void check() {
    by_rows();
    const int32_t everything = Negatives | PositiveSameKind | PositiveCrossKind;
    log_moments({{Negatives, {1}}}, 0, true), log_moments({{Negatives, {1, 2}}}, 0.5, false), log_moments({{NegativeSameKind, {0.6, 1.6}}}, 0.5, false);
    log_moments({{NegativeCrossKind | PositiveSameKind, {1}}}, 0, true), log_moments({{everything, {1}}}, 0, false);
    log_moments_gradient({{Negatives, {1}}}, true, matrix.blocks), log_moments_gradient({{Negatives, {1, 2}}}, false, matrix.blocks);
    log_moments_gradient({{NegativeCrossKind, {0.6, 1.6}}}, false, 1), log_moments_gradient({{everything, {1}}}, false, matrix.blocks);
    running({1}), running({0.6, 1.6});
    in_classes();
    hard(1, true, false, false, 1), hard(1, false, true, true, 2), hard(0.6, true, true, false, 2), hard(0.6, false, false, true, 1);
  }
};

template <typename T>
void check(const SimilarityKernels<T>& kernels, const std::string& name, double tolerance, bool quick) {
  std::vector<Shape> shapes{{{2}, 2}, {{3}, 5}, {{33}, 37}, {{192, 1}, 16}, {{100, 65}, 70}};
  if (!quick) shapes.insert(shapes.end(), {{{7}, 130}, {{64}, 1}, {{191}, 31}, {{192}, 64}, {{192, 192, 17}, 33}, {{5, 180, 192}, 48}, {{20}, 301}});
  for (const Shape& shape : shapes) Problem<T>(kernels, name, tolerance, shape, 1.7).check();
  std::printf("similarity: %s\n", name.c_str());
}

}  // namespace

void check_similarity() {
  constexpr double in_float = 1e-5, in_double = 1e-13, in_bf16 = 2e-2, in_bf16x3 = 5e-5;
  bool avx512 = false;
  for (const auto set : available()) {
    force(name(set));
    check(similarity<float>(), std::string("float, ") + name(set), in_float, false);
    check(similarity<double>(), std::string("double, ") + name(set), in_double, false);
    if (const auto* kernels = similarity_bf16(Precision::Bf16)) check(*kernels, std::string("bf16, ") + name(set), in_bf16, false);
    if (const auto* kernels = similarity_bf16(Precision::Bf16x3)) check(*kernels, std::string("bf16x3, ") + name(set), in_bf16x3, false);
    avx512 = avx512 || set == InstructionSet::Avx512;
  }
  check(emulated_1::similarity_float, "bf16, tiles in software", in_bf16, true);
  check(emulated_2::similarity_float, "bf16x3, tiles in software", in_bf16x3, true);
  if (!avx512) return;
  check(emulated_avx512_1::similarity_float, "bf16, tiles in software and AVX-512", in_bf16, true);
  check(emulated_avx512_2::similarity_float, "bf16x3, tiles in software and AVX-512", in_bf16x3, true);
}

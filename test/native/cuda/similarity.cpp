// The similarity kernels for CUDA devices against the double loops that their contract (kernels/similarity/similarity_cuda.h) stands for.
#include "kernels/similarity/similarity_cuda.h"
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>
#include "../check.h"
#include "kernels/cuda/instructions.h"
#include "kernels/random.h"
#include "kernels/similarity/similarity_sm90a.h"

using namespace a_infonce;
using namespace a_infonce::kernels;
using namespace a_infonce::kernels::cuda;

namespace {

using emulator::looks_for_races;  // which takes long: in few problems, whose threads run in a random order

uint64_t drawn = 0;
double draw(double low, double high) { return low + (high - low) * random::uniform(2, 0, drawn++); }

/// Which blocks of columns each block of rows visits.
struct Plan {
  const char* name;
  std::function<std::vector<std::pair<int, int>>(int row_block, int blocks)> ranges;  // null: all
  int splits = 1;
};
const Plan everything{"everything", nullptr, 1}, shared{"everything in three", nullptr, 3};
const Plan some{"some", [](int block, int blocks) -> std::vector<std::pair<int, int>> {
                  if (block == 1) return {};
                  return {{blocks, blocks}, {0, 1}, {1, 1}, {std::min(2, blocks), blocks}};
                }};
const Plan some_shared{"some in three", some.ranges, 3};

enum class Codes { Views, Labels, Single, Runs };  // images of three views, the last one adversarial; or few labels, any order; images of one view; or long runs of a label and kind

template <typename T>
class Problem {
  const Products products;
  const DeviceSimilarity<T> kernels;
  std::string name;
  const Plan& plan;
  int64_t n = 0, d, width, R;
  int blocks = 0, row_blocks;
  std::vector<int32_t> places, codes, offsets, ranges;
  std::vector<Strip> strips;
  std::vector<double> z;  // [R, d], what the kernels are to see
  struct Freed {
    void operator()(char* p) const { std::free(p); }
  };
  std::unique_ptr<char, Freed> rows, workspace;
  DeviceMatrix matrix{};
  Visits visits{};

  std::unique_ptr<char, Freed> bytes(int64_t size) const {
    auto* const p = static_cast<char*>(std::malloc(static_cast<size_t>(std::max<int64_t>(size, 1))));
    std::memset(p, 0xff, static_cast<size_t>(std::max<int64_t>(size, 1)));
    return std::unique_ptr<char, Freed>(p);
  }
  std::vector<T> numbers(double low, double high, T padding = 0) const {
    std::vector<T> result(R, padding);
    for (const int32_t place : places) result[place] = static_cast<T>(draw(low, high));
    return result;
  }
  double s(int64_t i, int64_t j) const {
    double sum = 0;
    for (int64_t k = 0; k < d; ++k) sum += z[i * d + k] * z[j * d + k];
    return matrix.scale * sum;
  }
  bool cross(int64_t i, int64_t j) const { return (codes[i] ^ codes[j]) & 1; }
  bool selected(int64_t i, int64_t j, int32_t selection) const {
    if (i == j || codes[i] < 0 || codes[j] < 0) return false;
    const bool positive = codes[i] >> 1 == codes[j] >> 1;
    return selection & (positive ? (cross(i, j) ? PositiveCrossKind : PositiveSameKind) : (cross(i, j) ? NegativeCrossKind : NegativeSameKind));
  }
  /// f(i, j, s_ij) for every selected pair of the plan.
  template <typename F>
  void each_pair(int32_t selection, const F& f) const {
    for (int block = 0; block < row_blocks; ++block) {
      const auto visited = plan.ranges ? plan.ranges(block, blocks) : std::vector<std::pair<int, int>>{{0, blocks}};
      for (int64_t i = block * block_rows; i < (block + 1) * block_rows; ++i)
        for (const auto& [first, last] : visited)
          for (int64_t j = first * block_rows; j < last * block_rows; ++j)
            if (selected(i, j, selection)) f(i, j, s(i, j));
    }
  }

  // Relative errors: of an exponential (and what is made of its products), and of a weight that is rounded before the second product.
  double by_exponential() const { return products == Products::Float64 ? 1e-13 : products == Products::Bf16x3 ? 2e-5 : 3e-6; }
  double by_weight() const { return products == Products::Float64 ? 1e-13 : products == Products::Bf16x3 ? 0x1p-15 : products == Products::Float32 ? 1e-6 : 0x1p-8; }

  /// Sums over pairs with what bounds their error, and what the kernel adds them to.
  struct Sums {
    std::vector<double> value, error;
    explicit Sums(int64_t size, double start = 0) : value(size, start), error(size) {}
    void add(int64_t at, double x, double by) { value[at] += x, error[at] += std::abs(x) * by; }
  };
  /// gradient_i += weight z_j, where `size` bounds the numbers that the weight is a difference of.
  void pull(Sums& gradient, int64_t i, int64_t j, double weight, double size) const {
    for (int64_t k = 0; k < d; ++k) {
      gradient.value[i * width + k] += weight * z[j * d + k];
      gradient.error[i * width + k] += (std::abs(weight) * by_weight() + size * by_exponential()) * std::abs(z[j * d + k]);
    }
  }
  template <typename U>
  void close(const char* what, const std::vector<U>& got, const Sums& expected, double rounding) const {
    for (size_t k = 0; k < got.size(); ++k) {
      const double limit = expected.error[k] + rounding * std::abs(expected.value[k]);
      CHECK(std::abs(got[k] - expected.value[k]) <= limit, "%s, %s at %zu of %zu: %.17g for %.17g, error %g beyond %g", name.c_str(), what, k, got.size(), double(got[k]), expected.value[k],
            std::abs(got[k] - expected.value[k]), limit);
      if (limit > 0) worst = std::max(worst, std::abs(got[k] - expected.value[k]) / limit);
    }
  }

  /// As large as a kernel says that it must be.
  void allocate(bool log_moments) { workspace = bytes(workspace_bytes(products, d, visits, log_moments)); }
  /// Runs a kernel: the same bits with any order of threads; nothing at all where the flag says so.
  template <typename... Outputs>
  void run(const char* what, const std::function<void(const Context&)>& kernel, Outputs&... outputs) {
    int32_t flag = 5;
    const auto initial = std::make_tuple(outputs...);
    const auto differs = [&](const auto& a, const auto& b) { return std::memcmp(a.data(), b.data(), a.size() * sizeof a[0]) != 0; };
    kernel({nullptr, workspace.get(), &flag, 6});
    std::apply([&](const auto&... before) { CHECK(!(differs(before, outputs) || ...), "%s, %s: ran although the flag is not set", name.c_str(), what); }, initial);
    emulator::order = looks_for_races ? emulator::Order::Random : emulator::Order::Backward;
    kernel({nullptr, workspace.get(), &flag, 5});
    if (looks_for_races) return;
    const auto backward = std::make_tuple(outputs...);
    std::tie(outputs...) = initial;
    emulator::order = emulator::Order::Forward;
    kernel({nullptr, workspace.get(), nullptr, 0});
    std::apply([&](const auto&... before) { CHECK(!(differs(before, outputs) || ...), "%s, %s: depends on the order of threads", name.c_str(), what); }, backward);
  }

 public:
  mutable double worst = 0;  // share of the allowed error

  Problem(Products products, const std::vector<int64_t>& segments, int64_t d, Codes kind, const Plan& plan, double scale)
      : products(products), kernels(device_similarity<T>(products)), plan(plan), d(d), width(padded_dimensions(d)) {
    name = "products " + std::to_string(static_cast<int>(products)) + ", rows";
    for (const int64_t size : segments) {
      name += " " + std::to_string(size);
      for (int64_t i = 0; i < size; ++i) places.push_back(static_cast<int32_t>(blocks * block_rows + i));
      n += size, blocks += static_cast<int>((size + block_rows - 1) / block_rows);
    }
    name += ", d " + std::to_string(d) + ", " + plan.name + (kind == Codes::Single ? ", single views" : kind == Codes::Views ? ", views" : kind == Codes::Runs ? ", runs" : ", labels");
    R = blocks * block_rows, row_blocks = std::max(1, blocks - (plan.ranges ? 1 : 0));
    codes.assign(R, -1);
    const int64_t batch = std::max<int64_t>(1, n / 3);
    for (int64_t i = 0; i < n; ++i)
      codes[places[i]] = static_cast<int32_t>(kind == Codes::Single ? 2 * i : kind == Codes::Views ? 2 * (i % batch) + (i / batch >= 2) : kind == Codes::Runs ? 2 * (i >= 150) + (i >= 100) : 2 * static_cast<int>(draw(0, 5)) + (draw(0, 1) < 0.4));
    strips.resize(R / chunk_rows);
    describe_codes(codes.data(), R, strips.data(), nullptr);

    std::vector<T> given(n * d);
    std::vector<double> inverse(n);
    z.assign(R * d, 0);
    for (int64_t i = 0; i < n; ++i) {
      double square = 0;
      for (int64_t k = 0; k < d; ++k) square += std::pow(given[i * d + k] = static_cast<T>(draw(-1, 1) + (k == i % 3 ? 1 : 0)), 2);
      inverse[i] = 1 / std::sqrt(square);
      for (int64_t k = 0; k < d; ++k) {
        const T x = static_cast<T>(given[i * d + k] * inverse[i]);
        z[places[i] * d + k] = products != Products::Bf16 ? x : bf16_low(bf16_pair(static_cast<float>(x), 0));
      }
    }
    rows = bytes(packed_bytes(products, blocks, d));
    std::memset(rows.get(), 0, packed_bytes(products, blocks, d));
    kernels.pack(given.data(), n, d, inverse.data(), places.data(), blocks, rows.get(), nullptr);
    matrix = {products, blocks, d, rows.get(), codes.data(), strips.data(), scale};

    visits.row_blocks = row_blocks, visits.splits = plan.splits;
    if (plan.ranges) {
      offsets.push_back(0);
      for (int block = 0; block < row_blocks; ++block) {
        for (const auto& [first, last] : plan.ranges(block, blocks)) ranges.push_back(first), ranges.push_back(last);
        offsets.push_back(static_cast<int32_t>(ranges.size() / 2));
      }
      visits.offsets = offsets.data(), visits.ranges = ranges.data();
    }
  }

  void log_moments(int32_t selection, std::vector<double> powers) {
    allocate(true);
    const int64_t count = static_cast<int64_t>(powers.size());
    const double reference = 0.6 * matrix.scale, centres[2] = {0.2, 0.1};
    std::vector<double> sums(count * R);
    Sums expected(count * R);
    for (const int32_t place : places)
      for (int64_t p = 0; p < count; ++p) sums[p * R + place] = expected.value[p * R + place] = draw(0, 0.1);
    each_pair(selection, [&](int64_t i, int64_t, double s) {
      for (int64_t p = 0; p < count; ++p) expected.add(p * R + i, std::exp(powers[p] * (s - reference)), powers[p] * by_exponential());
    });
    powers.resize(2, 1);
    const DeviceLogMoments<T> task{selection, static_cast<int>(count), {powers[0], powers[1]}, &reference, sums.data()};
    run("log_moments", [&](const Context& context) { kernels.log_moments(matrix, task, visits, context); }, sums);
    close("log_moments", sums, expected, 1e-14);
    if (count != 1 || powers[0] != 1) return;
    std::vector<T> attraction(R * width);
    Sums attracted(R * width);
    const int64_t first = std::min<int64_t>(row_blocks, 2);
    for (const int32_t place : places) sums[place] = 0;
    for (double& value : expected.value) value = 0;
    each_pair(selection, [&](int64_t i, int64_t j, double s) {
      const double e = std::exp(s - reference);
      expected.value[i] += e;
      if (i < first * block_rows) pull(attracted, i, j, e - centres[0], e + centres[0]);
    });
    DeviceLogMoments<T> with = task;
    with.attraction = attraction.data(), with.attracted = first, with.centre = centres;
    run("attraction", [&](const Context& context) { kernels.log_moments(matrix, with, visits, context); }, sums, attraction);
    close("log_moments with attraction", sums, expected, 1e-14), close("attraction", attraction, attracted, 0);
  }

  void log_moments_gradient(int32_t selection, std::vector<double> powers, double clean, double adversarial, bool centred) {
    allocate(true);
    const int count = static_cast<int>(powers.size());
    const double reference = 0.6 * matrix.scale, centres[2] = {0.2, 0.1};
    const std::vector<T> own[2] = {numbers(-1, 1), numbers(-1, 1)}, other[2] = {numbers(-1, 1), numbers(-1, 1)};
    std::vector<T> gradient(R * width);
    Sums expected(R * width);
    each_pair(selection, [&](int64_t i, int64_t j, double s) {
      double weight = 0, size = 0;
      for (int p = 0; p < count; ++p) {
        const double e = std::exp(powers[p] * (s - reference)), centre = centred ? centres[p] : 0;
        weight += (double(own[p][i]) + other[p][j]) * (e - centre), size += (std::abs(own[p][i]) + std::abs(other[p][j])) * (powers[p] * e + centre);
      }
      const double factor = cross(i, j) ? (codes[i] & 1 ? adversarial : clean) : 1;
      pull(expected, i, j, factor * weight, factor * size);
    });
    powers.resize(2, 1);
    const DeviceLogMomentsGradient<T> task{selection, count, {powers[0], powers[1]}, &reference, {own[0].data(), own[1].data()}, {other[0].data(), other[1].data()},
                                           {static_cast<T>(clean), static_cast<T>(adversarial)}, gradient.data(), centred ? centres : nullptr};
    run("log_moments_gradient", [&](const Context& context) { kernels.log_moments_gradient(matrix, task, visits, context); }, gradient);
    close("log_moments_gradient", gradient, expected, 0);
  }

  void running(int32_t selection, std::vector<double> powers) {
    allocate(false);
    const int count = static_cast<int>(powers.size());
    const double largest = *std::max_element(powers.begin(), powers.end());
    std::vector<double> log_sums(count * R, 7), top(count * R, -INFINITY);
    Sums expected(count * R, 7);
    std::vector<T> logs[2] = {std::vector<T>(R), std::vector<T>(R)};
    each_pair(selection, [&](int64_t i, int64_t, double s) {
      for (int p = 0; p < count; ++p) top[p * R + i] = std::max(top[p * R + i], powers[p] * s);
    });
    std::vector<double> sums(count * R);
    each_pair(selection, [&](int64_t i, int64_t, double s) {
      for (int p = 0; p < count; ++p) sums[p * R + i] += std::exp(powers[p] * s - top[p * R + i]);
    });
    for (const int32_t i : places)
      for (int p = 0; p < count && i < row_blocks * block_rows; ++p) {
        expected.value[p * R + i] = top[p * R + i] + std::log(sums[p * R + i]);
        expected.error[p * R + i] = matrix.scale * largest * by_exponential();
        logs[p][i] = static_cast<T>(expected.value[p * R + i]);
      }
    powers.resize(2, 1);
    const DeviceRunningLogMoments task{selection, count, {powers[0], powers[1]}, log_sums.data()};
    run("running_log_moments", [&](const Context& context) { kernels.running_log_moments(matrix, task, visits, context); }, log_sums);
    for (size_t k = 0; k < log_sums.size(); ++k)
      if (std::isinf(expected.value[k])) {
        CHECK(log_sums[k] == expected.value[k], "%s, running_log_moments: %g for %g", name.c_str(), log_sums[k], expected.value[k]);
        log_sums[k] = expected.value[k] = expected.error[k] = 0;
      }
    close("running_log_moments", log_sums, expected, 1e-14);
    for (int p = 0; p < count; ++p)
      for (T& log : logs[p])
        if (std::isinf(log)) log = 0;

    const std::vector<T> own[2] = {numbers(0, 1), numbers(0, 1)}, other[2] = {numbers(0, 1), numbers(0, 1)};
    std::vector<T> gradient(R * width);
    Sums pulled(R * width);
    each_pair(selection, [&](int64_t i, int64_t j, double s) {
      double weight = 0;
      for (int p = 0; p < count; ++p) weight += own[p][i] * std::exp(powers[p] * s - logs[p][i]) + other[p][j] * std::exp(powers[p] * s - logs[p][j]);
      if (cross(i, j)) weight *= codes[i] & 1 ? 0.5 : 1.5;
      pull(pulled, i, j, weight, matrix.scale * largest * weight);
    });
    const DeviceRunningLogMomentsGradient<T> back{selection, count, {powers[0], powers[1]}, {own[0].data(), own[1].data()}, {other[0].data(), other[1].data()},
                                                  {logs[0].data(), logs[1].data()}, {T(1.5), T(0.5)}, gradient.data()};
    run("running_log_moments_gradient", [&](const Context& context) { kernels.running_log_moments_gradient(matrix, back, visits, context); }, gradient);
    close("running_log_moments_gradient", gradient, pulled, 0);
  }

  void hard(double exponent, bool uniform, int count) {
    allocate(false);
    const double reference = 0.8 * matrix.scale, epsilon = 1e-3;
    const std::vector<T> relative = numbers(0.5, 1.5, 1), weights[2] = {numbers(0, 1), numbers(-1, 1)}, own[2] = {numbers(-1, 1), numbers(-1, 1)}, other[2] = {numbers(-1, 1), numbers(-1, 1)};
    const DeviceHardExponential<T> exponential{exponent, epsilon, &reference, uniform ? nullptr : relative.data()};
    const auto e_of = [&](int64_t i, double s) { return (uniform ? 1 : double(relative[i])) * std::exp(s - reference); };
    const double by_phi = (exponent + 2) * by_exponential();
    for (const bool times_e : {false, true})
      for (const bool transposed : {false, true}) {
        std::vector<double> sums(count * R);
        Sums expected(count * R);
        std::vector<T> maximum(R, static_cast<T>(-INFINITY)), none(R);
        Sums top(R, -INFINITY);
        for (const int32_t i : places) maximum[i] = static_cast<T>(top.value[i] = -0.25);
        each_pair(Negatives, [&](int64_t i, int64_t j, double s) {
          const double e = e_of(transposed ? j : i, s), phi = std::pow(e + epsilon, exponent) * (times_e ? e : 1);
          for (int k = 0; k < count; ++k) expected.add(k * R + i, phi * weights[k][j], by_phi);
          top.value[i] = std::max(top.value[i], s / matrix.scale);
          top.error[i] = by_exponential();
        });
        const bool asked = !times_e && !transposed;
        const DeviceHardMoments<T> task{exponential, times_e, transposed, count, {weights[0].data(), count == 2 ? weights[1].data() : nullptr}, sums.data(), asked ? maximum.data() : nullptr};
        run("hard_moments", [&](const Context& context) { kernels.hard_moments(matrix, task, visits, context); }, sums, maximum);
        close("hard_moments", sums, expected, 1e-14);
        for (int64_t i = 0; asked && i < R; ++i)
          if (codes[i] < 0) {
            CHECK(std::isinf(maximum[i]), "%s: the maximum of padding is %g", name.c_str(), double(maximum[i]));
            maximum[i] = static_cast<T>(top.value[i] = 0);
          }
        if (asked) close("maximum", maximum, top, 0);
      }
    const double centres[2] = {0.05, 0.02};
    std::vector<T> gradient(R * width);
    Sums expected(R * width);
    each_pair(Negatives, [&](int64_t i, int64_t j, double s) {
      const auto derivative = [&](int64_t row, bool times_e) {
        const double e = e_of(row, s), x = e + epsilon;
        return times_e ? e * std::pow(x, exponent) + exponent * e * e * std::pow(x, exponent - 1) : exponent * e * std::pow(x, exponent - 1);
      };
      double weight = 0, size = 0;
      for (int t = 0; t < count; ++t) {
        const double here = derivative(i, t == 1), there = derivative(j, t == 1);
        weight += own[t][i] * double(weights[t][j]) * (here - centres[t]) + other[t][j] * double(weights[t][i]) * (there - centres[t]);
        size += std::abs(own[t][i] * weights[t][j]) * (here + centres[t]) + std::abs(other[t][j] * weights[t][i]) * (there + centres[t]);
      }
      pull(expected, i, j, weight, (exponent + 2) * size);
    });
    const DeviceHardMomentsGradient<T> task{exponential, count, {{false, weights[0].data(), own[0].data(), other[0].data(), centres}, {true, weights[1].data(), own[1].data(), other[1].data(), centres + 1}}, gradient.data()};
    run("hard_moments_gradient", [&](const Context& context) { kernels.hard_moments_gradient(matrix, task, visits, context); }, gradient);
    close("hard_moments_gradient", gradient, expected, 0);
  }

  /// Sums below the range count as its end, and those over no pair are 0.
  void range() {
    const double reference = 1e4;
    std::vector<double> sums(R);
    const DeviceLogMoments<T> task{Negatives, 1, {1, 1}, &reference, sums.data()};
    run("log_moments", [&](const Context& context) { kernels.log_moments(matrix, task, visits, context); }, sums);
    std::vector<bool> has(R);
    each_pair(Negatives, [&](int64_t i, int64_t, double) { has[i] = true; });
    for (int64_t i = 0; i < R; ++i) CHECK((sums[i] > 0) == has[i], "%s: the sum of row %ld is %g", name.c_str(), long(i), sums[i]);
    int32_t flag = 0;
    find_out_of_range<T>(sums.data(), R, n, &flag, 1, nullptr);
    CHECK(flag == (std::find(has.begin(), has.end(), true) != has.end()), "%s: the flag is %d", name.c_str(), flag);
    for (const int32_t i : places) sums[i] = 1;
    flag = 0, find_out_of_range<T>(sums.data(), R, n, &flag, 1, nullptr);
    CHECK(flag == 0, "%s: the flag is %d", name.c_str(), flag);
    sums[places[0]] = INFINITY, find_out_of_range<T>(sums.data(), R, n, &flag, 1, nullptr);
    CHECK(flag == 1, "%s: the flag is %d", name.c_str(), flag);
  }
};

/// Gradients and sums of exponentials of so many blocks of copies of one row lose the same with every sum that is rounded towards zero: no more than these limits, relatively.
void long_sums(Products products, int capability, int64_t blocks, double gradient_limit, double sum_limit) {
  emulator::device.capability = capability;
  const int64_t d = 64, R = blocks * block_rows;
  std::vector<float> row(d), z;
  double square = 0;
  for (float& x : row) {
    const float whole = static_cast<float>(draw(0.05, 0.2)), high = bf16_low(bf16_pair(whole, 0)), low = bf16_low(bf16_pair(whole - high, 0));
    x = products == Products::Bf16 ? high : products == Products::Bf16x3 ? high + low : whole;
    square += double(x) * x;
  }
  for (int64_t i = 0; i < R; ++i) z.insert(z.end(), row.begin(), row.end());
  std::vector<int32_t> codes(R);
  for (int64_t i = 0; i < R; ++i) codes[i] = static_cast<int32_t>(2 * i);
  std::vector<Strip> strips(R / chunk_rows);
  describe_codes(codes.data(), R, strips.data(), nullptr);
  const DeviceSimilarity<float> kernels = device_similarity<float>(products);
  std::vector<uint4> packed(packed_bytes(products, R / block_rows, d) / sizeof(uint4));
  kernels.pack(z.data(), R, d, nullptr, nullptr, R / block_rows, packed.data(), nullptr);
  const DeviceMatrix matrix{products, R / block_rows, d, packed.data(), codes.data(), strips.data(), 1};
  const std::vector<float> factors(R, 201.0f / 512);  // of which twice as much is a bfloat16 number
  std::vector<float> gradient(block_rows * d);
  std::vector<double> sums(R);
  const Visits visits{1};
  std::vector<double> workspace(workspace_bytes(products, d, visits, true) / sizeof(double));
  kernels.log_moments_gradient(matrix, {Negatives, 1, {1, 1}, &square, {factors.data()}, {factors.data()}, {1, 1}, gradient.data()}, visits, {nullptr, workspace.data()});
  kernels.log_moments(matrix, {Negatives, 1, {1, 1}, &square, sums.data()}, visits, {nullptr, workspace.data()});
  double of_gradient = 0, of_sums = 0;
  for (int64_t k = 0; k < block_rows * d; ++k) of_gradient = std::max(of_gradient, std::abs(1 - gradient[k] / (201.0 / 256 * static_cast<double>(R - 1) * row[k % d])));
  for (int64_t i = 0; i < block_rows; ++i) of_sums = std::max(of_sums, std::abs(1 - sums[i] / static_cast<double>(R - 1)));
  CHECK(of_gradient <= gradient_limit && of_sums <= sum_limit, "products %d, compute capability %d: gradients of %ld blocks lose %g, sums %g", static_cast<int>(products), capability, long(blocks), of_gradient, of_sums);
  std::printf("products %d, compute capability %d: of %ld rows that are alike, gradients lose %.1e, sums %.1e\n", static_cast<int>(products), capability, long(R), of_gradient, of_sums);
}
void long_sums() {
  long_sums(Products::Bf16, 80, 8, 2e-7, 5e-7), long_sums(Products::Bf16x3, 80, 8, 6e-6, 6e-6), long_sums(Products::Float32, 80, 8, 3e-6, 1e-6);
  long_sums(Products::Bf16, 90, 32, 2e-7, 5e-7);
  const auto columns = sm90a::columns_between_sums;
  const auto before = emulator::device;
  sm90a::columns_between_sums = sm90a::chip_columns_between_sums, emulator::device.multiprocessors = 1;  // as on a chip; one thread block sums up all
  long_sums(Products::Bf16, 90, sm90a::chip_columns_between_sums, 4e-4, 5e-7);  // 0.4 of the 1e-3 that aInfoNCE promises of bf16's gradients (1.5e-3 with tauPlus)
  sm90a::columns_between_sums = columns, emulator::device = before;
}

/// What splits need does not grow with the rows beyond what the device can use.
void splits() {
  const auto before = emulator::device;
  emulator::device = {80, 132};
  CHECK(splits_of(1, 1) == 1 && splits_of(1, 100) == 16 && splits_of(132, 132) == 1 && splits_of(133, 133) > 1, "splits");
  for (int64_t blocks = 1; blocks < 6000; ++blocks) {
    Visits visits{blocks};
    visits.splits = splits_of(blocks, blocks);
    CHECK(workspace_bytes(Products::Float32, 128, visits, true) < int64_t{1} << 29, "%ld blocks of rows in %d splits", long(blocks), visits.splits);
  }
  emulator::device = before;
}

template <typename T>
void check(Products products, int capability = 80) {
  emulator::device.capability = capability;
  const bool hopper = capability == 90;  // which has some kernels of its own
  double worst = 0;
  const auto problem = [&](std::vector<int64_t> segments, int64_t d, Codes codes, const Plan& plan, const auto& body) {
    Problem<T> p(products, segments, d, codes, plan, 5);
    body(p);
    worst = std::max(worst, p.worst);
  };
  const auto all = [=](auto& p) {
    p.log_moments(Negatives, {1}), p.log_moments(Negatives, {1, 2});
    p.log_moments_gradient(Negatives, {1}, 1, 1, true), p.log_moments_gradient(Negatives, {1, 2}, 0.5, 1.5, false);
    p.range();
    if (!hopper && has_running(products)) p.running(Negatives, {1});
    if (!hopper) p.hard(1, true, 1);
  };
  const auto selections = [](auto& p) {
    for (int32_t selection = 1; selection < 16; ++selection) p.log_moments(selection, {1}), p.log_moments_gradient(selection, {1}, 0.5, 1.5, true);
    p.log_moments(15, {1, 1.7}), p.log_moments(15, {0.7}), p.log_moments_gradient(15, {1, 1.7}, 1, 1, true);
  };
  const auto untested = [](auto& p) { p.log_moments(Negatives, {1, 2}), p.range(); };  // a row all of whose pairs need no test
  if (looks_for_races) {
    if (hopper) problem({10, 1, 10, 190, 9, 60, 3}, 100, Codes::Views, everything, all);  // stages are used again and again
    else problem({65}, 40, Codes::Views, everything, all);
    problem({10, 1, 3, 70}, hopper ? 64 : 130, Codes::Labels, some_shared, all);
  } else if (hopper) {
    problem({1, 64}, 16, Codes::Single, everything, untested);
    problem({3}, 160, Codes::Labels, shared, all);
    problem({65}, 100, Codes::Views, everything, all);
    problem({100, 70}, 16, Codes::Labels, shared, all);
    problem({10, 1, 10, 190, 9, 60, 3}, 64, Codes::Views, everything, all);  // more blocks of rows than multiprocessors
    problem({10, 10, 3, 9, 193}, 128, Codes::Labels, some, all);
    problem({70}, 33, Codes::Labels, everything, selections);
    problem({200}, 33, Codes::Runs, everything, selections);  // tiles of one group
  } else {
    problem({1, 64}, 16, Codes::Single, everything, untested);
    problem({1}, 1, Codes::Views, everything, all);
    problem({2}, 16, Codes::Labels, shared, all);
    problem({65}, 100, Codes::Views, everything, all);
    problem({70, 3, 65}, 160, Codes::Views, some, all);
    problem({100, 70}, 70, Codes::Labels, shared, all);
    const auto moments = [](auto& p) { p.log_moments(Negatives, {1}), p.log_moments_gradient(Negatives, {1}, 1, 1, true); };
    problem({193}, 128, Codes::Views, everything, moments);
    problem({400}, 64, Codes::Views, some_shared, moments);
    problem({70}, 33, Codes::Labels, everything, [=](auto& p) {
      selections(p);
      for (const int32_t selection : {1, 6, 12})
        if (has_running(products)) p.running(selection, {1, 1.7});
      for (const double exponent : {0.7, 1.0, 2.0})
        for (const bool uniform : {false, true}) p.hard(exponent, uniform, 2);
    });
  }
  std::printf("products %d, compute capability %d: at most %.2f of the allowed error\n", static_cast<int>(products), capability, worst);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string only = argc > 1 ? argv[1] : "";
  splits();
  if (!looks_for_races && (only.empty() || only == "long")) long_sums();
  if (only.empty() || only == "bf16") check<float>(Products::Bf16);
  if (only.empty() || only == "hopper") check<float>(Products::Bf16, 90);
  if (only.empty() || only == "bf16x3") check<float>(Products::Bf16x3);
  if (only.empty() || only == "float32") check<float>(Products::Float32);
  if (only.empty() || only == "float64") check<double>(Products::Float64);
  std::puts("passed");
}

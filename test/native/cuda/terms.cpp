// The check of known sums against its definition: of fewer rows than a warp and of more than the blocks take at once, wherever the largest similarity is.
#include <cmath>
#include <cstdint>
#include <vector>
#include "../check.h"
#include "emulator.h"
#include "kernels/random.h"
#include "kernels/terms/terms_cuda.h"

using namespace a_infonce;
using namespace a_infonce::kernels;

namespace {

template <typename T>
int32_t wrong(const std::vector<T>& x, int64_t batch, int64_t views, int64_t d, double scale, const std::vector<double>& known) {
  const int64_t rows = (views - 1) * batch;
  std::vector<double> inverses(static_cast<size_t>(rows), 1);
  std::vector<cuda::FirstRowPart> parts(cuda::first_row_parts);
  cuda::Numbers numbers{};
  numbers.largest_square = 1;
  cuda::ViewRows<T> z{};
  z.places = {batch, views, 0, 0}, z.second = x.data(), z.second_count = rows, z.d = d, z.inverses = inverses.data();
  const double powers[] = {1, 1.5};
  cuda::check_known_sums<T>(z, known.data(), 2, powers, scale, parts.data(), &numbers, nullptr);
  return numbers.wrong_sums;
}

template <typename T>
void check_known_sums(int64_t batch, int64_t views, int64_t nearest) {
  const int64_t rows = (views - 1) * batch, d = 3;
  std::vector<T> x(static_cast<size_t>(rows * d));
  random::fill_uniform(x.data(), rows * d, 7, 1, static_cast<T>(-0.5), static_cast<T>(1));
  for (int64_t k = 0; k < d; ++k) x[static_cast<size_t>(nearest * d + k)] = 2 * x[static_cast<size_t>(k)];
  const double scale = 20;
  std::vector<double> known(static_cast<size_t>(2 * rows));
  for (const int p : {0, 1}) {
    long double sum = 0;
    for (int64_t i = 0; i < rows; ++i) {
      double s = 0;
      for (int64_t k = 0; k < d; ++k) s += scale * x[static_cast<size_t>(k)] * x[static_cast<size_t>(i * d + k)];
      if (i % batch != 0) sum += std::exp((p == 0 ? 1 : 1.5L) * s);
    }
    known[static_cast<size_t>(p * rows)] = static_cast<double>(std::log(sum));
  }
  CHECK(wrong(x, batch, views, d, scale, known) == 0, "%ld rows, the nearest at %ld", long(rows), long(nearest));
  for (const int p : {0, 1})
    for (const double off : {0.01, -0.01, static_cast<double>(NAN)}) {
      if (batch == 1) continue;  // no negatives
      auto others = known;
      others[static_cast<size_t>(p * rows)] += off;
      CHECK(wrong(x, batch, views, d, scale, others) == 1, "%ld rows, sum %d off by %g", long(rows), p, off);
    }
}

}  // namespace

int main() {
  emulator::in_each_order(true, [] {
    check_known_sums<float>(1, 4, 2);
    check_known_sums<double>(2, 2, 1);
    for (const int64_t nearest : {1, 260, 299}) check_known_sums<float>(150, 3, nearest);
  });
  check_known_sums<double>(2 * cuda::first_row_parts, 4, 6 * cuda::first_row_parts - 1);
  std::puts("passed");
}

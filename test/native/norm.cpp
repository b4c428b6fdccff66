// BatchNorm of bfloat16 rows against its formulas.
#include "kernels/norm/norm.h"
#include <cmath>
#include <vector>
#include "check.h"
#include "kernels/random.h"

namespace kernels = a_infonce::kernels::avx512_bf16;

namespace {

float value(uint16_t h) { return __builtin_bit_cast(float, static_cast<uint32_t>(h) << 16); }
std::vector<uint16_t> normal_rows(int64_t n, uint64_t stream) {
  std::vector<uint16_t> x(n);
  for (int64_t i = 0; i < n; ++i) x[i] = static_cast<uint16_t>(__builtin_bit_cast(uint32_t, static_cast<float>(a_infonce::random::normal(3, stream, i))) >> 16);
  return x;
}
std::vector<float> normal_channels(int64_t n, uint64_t stream) {
  std::vector<float> x(n);
  a_infonce::random::fill_normal(x.data(), n, 3, stream);
  return x;
}
void close(const char* what, double got, double expected, double scale) { CHECK(std::abs(got - expected) <= scale, "%s: %g for %g", what, got, expected); }

}  // namespace

void check_norm() {
  constexpr double half = 1.0 / 128, sums = 1e-4;  // relative: of a rounded number; of a float32 sum over its terms
  for (const int64_t channels : {16, 48, 80})
    for (const int64_t n : {1, 2, 7, 33, 65}) {
      const auto x = normal_rows(n * channels, 0), residual = normal_rows(n * channels, 1), grad = normal_rows(n * channels, 2);
      const auto scale = normal_channels(channels, 3), shift = normal_channels(channels, 4), slope = normal_channels(channels, 5);
      std::vector<float> mean(channels), squares(channels), sum(channels), product(channels);
      kernels::norm_moments(x.data(), n, channels, mean.data(), squares.data());
      for (const bool relu : {false, true})
        for (const bool added : {false, true}) {
          std::vector<uint16_t> y(n * channels), by_x(n * channels), by_residual(n * channels);
          kernels::norm_apply(x.data(), scale.data(), shift.data(), added ? residual.data() : nullptr, relu, y.data(), n, channels);
          kernels::norm_sums(grad.data(), relu ? y.data() : nullptr, x.data(), mean.data(), sum.data(), product.data(), n, channels);
          kernels::norm_gradient(grad.data(), relu ? y.data() : nullptr, x.data(), scale.data(), slope.data(), shift.data(), by_x.data(), added ? by_residual.data() : nullptr, n, channels);
          for (int64_t c = 0; c < channels; ++c) {
            double total = 0, spread = 0, g_sum = 0, g_product = 0;
            for (int64_t i = 0; i < n; ++i) total += value(x[i * channels + c]);
            for (int64_t i = 0; i < n; ++i) {
              const int64_t at = i * channels + c;
              const double v = value(x[at]), from_mean = v - total / n, r = added ? value(residual[at]) : 0, out = v * scale[c] + shift[c] + r, g = relu && value(y[at]) <= 0 ? 0 : value(grad[at]);
              spread += from_mean * from_mean, g_sum += g, g_product += g * from_mean;
              close("norm_apply", value(y[at]), relu && out < 0 ? 0 : out, half * (std::abs(v * scale[c]) + std::abs(shift[c]) + std::abs(r)));
              close("norm_gradient", value(by_x[at]), g * scale[c] + v * slope[c] + shift[c], half * (std::abs(g * scale[c]) + std::abs(v * slope[c]) + std::abs(shift[c])));
              if (added) CHECK(value(by_residual[at]) == g, "the gradient of a residual: %g for %g", value(by_residual[at]), g);
            }
            close("mean", mean[c], total / n, sums), close("squares", squares[c], spread, sums * (1 + spread));
            close("sum", sum[c], g_sum, sums * n), close("product", product[c], g_product, sums * 4 * n);
          }
        }
    }
}

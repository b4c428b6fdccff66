#include "kernels/fab/fab.h"
#include <algorithm>
#include <cmath>
#include "kernels/fab/projection.h"

namespace a_infonce::kernels {
namespace {

constexpr int LANES = 8;

/// Sums of terms(i, sums) over i in [0, n), in fixed lanes that are added in order.
template <int COUNT, typename Terms>
inline void sum(int64_t n, double (&total)[COUNT], Terms terms) {
  double lane[COUNT][LANES] = {};
  const auto add = [&](int64_t i, int at) {
    double term[COUNT];
    terms(i, term);
    for (int k = 0; k < COUNT; ++k) lane[k][at] += term[k];
  };
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int at = 0; at < LANES; ++at) add(i + at, at);
  for (int at = 0; i < n; ++i, ++at) add(i, at);
  for (int k = 0; k < COUNT; ++k) {
    total[k] = 0;
    for (double value : lane[k]) total[k] += value;
  }
}

template <typename Scalar, FabNorm norm>
Projection<Scalar, norm> project(const Scalar* point, const Scalar* w, double value, int64_t n) {
  Projection<Scalar, norm> result{point, w, value};
  double saturated = -1, total[Projection<Scalar, norm>::sums];
  do sum(n, total, [&](int64_t i, auto& term) { result.terms(i, term); });
  while (result.step(total, saturated));
  for (int64_t i = 0; i < n; ++i) {
    const double d = result.move(i);
    result.size = norm == FabNorm::Linf ? std::max(result.size, std::abs(d)) : result.size + d * d;
  }
  if (norm == FabNorm::L2) result.size = std::sqrt(result.size);
  return result;
}

template <typename Scalar, FabNorm norm>
void step(Scalar* z, const Scalar* x, const Scalar* w, double f, int64_t n, double eta, double alpha_max) {
  double at_x[1];
  sum(n, at_x, [=](int64_t i, auto& term) { term[0] = double{w[i]} * (double{x[i]} - double{z[i]}); });
  const auto d1 = project<Scalar, norm>(z, w, f, n), d2 = project<Scalar, norm>(x, w, f + at_x[0], n);
  const double alpha = fab_alpha(d1.size, d2.size, alpha_max);
  for (int64_t i = 0; i < n; ++i) z[i] = fab_next(d1, d2, eta, alpha, i);
}

}  // namespace

template <typename Scalar>
bool fab_step(Scalar* z, const Scalar* x, const Scalar* w, double f, int64_t n, FabNorm norm, double eta, double alpha_max) {
  Scalar bad = static_cast<Scalar>(f - f);
  for (int64_t i = 0; i < n; ++i) bad += w[i] - w[i];
  if (!(bad == 0)) return false;
  (norm == FabNorm::Linf ? step<Scalar, FabNorm::Linf> : step<Scalar, FabNorm::L2>)(z, x, w, f, n, eta, alpha_max);
  return true;
}

template bool fab_step(float*, const float*, const float*, double, int64_t, FabNorm, double, double);
template bool fab_step(double*, const double*, const double*, double, int64_t, FabNorm, double, double);

}  // namespace a_infonce::kernels

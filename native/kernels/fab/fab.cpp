#include "kernels/fab/fab.h"
#include <algorithm>
#include <cmath>
#include <limits>

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

/// The projection of a point onto {y : value + w.(y - point) = 0} within the box: coordinate i moves by min(length * |w_i| (Linf: length), room_i)
/// against the sign of value * w_i. What the move takes off |value|, sum |w_i| min(...), is concave and piecewise linear in the length: Newton's
/// method from 0 climbs to the root without passing it and ends after finitely many pieces, without sorting the coordinates.
template <typename Scalar, FabNorm norm>
struct Projection {
  Projection(const Scalar* point, const Scalar* w, double value, int64_t n) : point(point), w(w), value(value) {
    double saturated = -1;
    for (;;) {
      double total[3];  // what the coordinates at the wall take off, the slope of the others, how many are at the wall
      sum(n, total, [this](int64_t i, double* term) {
        const double weight = std::abs(double{this->w[i]}), speed = norm == FabNorm::Linf ? 1 : weight, wall = room(i);
        const bool at_wall = wall <= length * speed;
        term[0] = at_wall ? weight * wall : 0;
        term[1] = at_wall ? 0 : weight * speed;
        term[2] = at_wall;
      });
      if (total[1] == 0) length = std::numeric_limits<double>::infinity();  // out of the box's reach, or no gradient at all
      if (total[1] == 0 || total[2] == saturated) break;
      saturated = total[2];
      length = std::max(length, (std::abs(value) - total[0]) / total[1]);
    }
    for (int64_t i = 0; i < n; ++i) {
      const double d = (*this)(i);
      size = norm == FabNorm::Linf ? std::max(size, std::abs(d)) : size + d * d;
    }
    if (norm == FabNorm::L2) size = std::sqrt(size);
  }

  double operator()(int64_t i) const {
    const double weight = std::abs(double{w[i]});
    if (weight == 0) return 0;
    const double d = std::min(length * (norm == FabNorm::Linf ? 1 : weight), room(i));
    return up(i) ? d : -d;
  }

  bool up(int64_t i) const { return (value >= 0) != (w[i] > 0); }
  double room(int64_t i) const { return up(i) ? 1 - double{point[i]} : double{point[i]}; }

  const Scalar *const point, *const w;
  const double value;
  double length = 0, size = 0;
};

template <typename Scalar, FabNorm norm>
void step(Scalar* z, const Scalar* x, const Scalar* w, double f, int64_t n, double eta, double alpha_max) {
  double at_x[1];
  sum(n, at_x, [=](int64_t i, double* term) { *term = double{w[i]} * (double{x[i]} - double{z[i]}); });
  const Projection<Scalar, norm> d1(z, w, f, n), d2(x, w, f + at_x[0], n);
  const double a1 = std::max(d1.size, 1e-8), a2 = std::max(d2.size, 1e-8), alpha = std::min(a1 / (a1 + a2), alpha_max);
  for (int64_t i = 0; i < n; ++i)
    z[i] = static_cast<Scalar>(std::clamp((z[i] + eta * d1(i)) * (1 - alpha) + (x[i] + eta * d2(i)) * alpha, 0.0, 1.0));
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

// The arithmetic of fab.h, for CPUs and CUDA alike.
#pragma once
#include <cmath>
#include "kernels/fab/fab.h"
#include "kernels/host_device.h"

namespace a_infonce::kernels {

/// The projection of a point onto {y : value + w.(y - point) = 0} within the box: coordinate i moves by min(length * |w_i| (Linf: length), room_i)
/// against the sign of value * w_i. What the move takes off |value|, sum |w_i| min(...), is concave and piecewise linear in the length: Newton's
/// method from 0 climbs to the root without passing it and ends after finitely many pieces, without sorting the coordinates.
template <typename Scalar, FabNorm norm>
struct Projection {
  const Scalar *point, *w;
  double value;
  double length = 0, size = 0;

  A_INFONCE_HOST_DEVICE bool up(int64_t i) const { return (value >= 0) != (w[i] > 0); }
  A_INFONCE_HOST_DEVICE double room(int64_t i) const { return up(i) ? 1 - double{point[i]} : double{point[i]}; }
  A_INFONCE_HOST_DEVICE double move(int64_t i) const {
    const double weight = std::fabs(double{w[i]});
    if (weight == 0) return 0;
    const double full = length * (norm == FabNorm::Linf ? 1 : weight), wall = room(i), d = wall < full ? wall : full;
    return up(i) ? d : -d;
  }

  /// Sums over the coordinates: what those at the wall take off, the slope of the others, how many are at the wall.
  static constexpr int sums = 3;
  A_INFONCE_HOST_DEVICE void terms(int64_t i, double (&term)[sums]) const {
    const double weight = std::fabs(double{w[i]}), speed = norm == FabNorm::Linf ? 1 : weight, wall = room(i);
    const bool at_wall = wall <= length * speed;
    term[0] = at_wall ? weight * wall : 0;
    term[1] = at_wall ? 0 : weight * speed;
    term[2] = at_wall;
  }
  /// A step of Newton's method from these sums, `saturated` at the wall before it (-1 at first). False when the length is found.
  A_INFONCE_HOST_DEVICE bool step(const double (&total)[sums], double& saturated) {
    if (total[1] == 0) length = HUGE_VAL;  // out of the box's reach, or no gradient at all
    if (total[1] == 0 || total[2] == saturated) return false;
    saturated = total[2];
    const double longer = (std::fabs(value) - total[0]) / total[1];
    length = length < longer ? longer : length;
    return true;
  }
};

/// The share of the image, from |d1| and |d2|.
A_INFONCE_HOST_DEVICE inline double fab_alpha(double size1, double size2, double alpha_max) {
  const double a1 = size1 < 1e-8 ? 1e-8 : size1, a2 = size2 < 1e-8 ? 1e-8 : size2, alpha = a1 / (a1 + a2);
  return alpha_max < alpha ? alpha_max : alpha;
}

/// Coordinate i of the next point.
template <typename Scalar, FabNorm norm>
A_INFONCE_HOST_DEVICE inline Scalar fab_next(const Projection<Scalar, norm>& d1, const Projection<Scalar, norm>& d2, double eta, double alpha, int64_t i) {
  const double next = (d1.point[i] + eta * d1.move(i)) * (1 - alpha) + (d2.point[i] + eta * d2.move(i)) * alpha;
  return static_cast<Scalar>(next < 0 ? 0.0 : 1 < next ? 1.0 : next);
}

}  // namespace a_infonce::kernels

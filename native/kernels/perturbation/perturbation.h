// Steps of projected gradient descent, fused: one pass over the batch in place of the six operators of the eager sequence.
// Linf: x' = clamp(project(x_adv + step * sign(grad))); L2: x' = clamp(project(x_adv + step * grad / |grad|)); the box is [0, 1].
//
// Containment is exact. In floating point x + epsilon may round up and leave the ball, so the bounds here are the largest and smallest
// numbers whose EXACT distance to x is at most epsilon (itself rounded down to the type); the difference computed in the type, or in double, is then
// at most epsilon too. In L2 every coordinate is rounded toward x, onto a radius smaller by 2^-20 (float) or 2^-32 (double), more than the
// rounding of anyone's norm.
//
// Order: for x in [0, 1] both orders give points in the ball and in the box, and for Linf the same bits (clamps onto two intervals that meet
// commute). For x outside [0, 1] only the later of the two constraints is certain to hold.
#pragma once
#include <cstdint>

namespace a_infonce::kernels {

enum class StepOrder { ProjectThenClamp, ClampThenProject };

/// x_adv, grad, x [n]; in place. sign(0) = 0. False, with x_adv then of no use, when a gradient is NaN or infinite.
template <typename Scalar>
bool linf_step(Scalar* x_adv, const Scalar* grad, const Scalar* x, int64_t n, double epsilon, double step_size, StepOrder order);

/// One sample: x_adv, grad, x [n]; in place. A zero gradient moves nothing. False, with x_adv unchanged, when a gradient is NaN or infinite.
template <typename Scalar>
bool l2_step(Scalar* x_adv, const Scalar* grad, const Scalar* x, int64_t n, double epsilon, double step_size, StepOrder order);

/// One sample's start for restart number `restart`: x_adv = x + uniform on the cube [-epsilon, epsilon]^n, `clamp` onto [0, 1].
template <typename Scalar>
void linf_start(Scalar* x_adv, const Scalar* x, int64_t n, double epsilon, uint64_t seed, uint64_t sample, uint64_t restart, bool clamp);

/// The same in L2: a uniform direction and a radius uniform on [0, epsilon], as Rice et al. (ICML 2020) and most attack libraries draw it
/// (not uniform in the ball, where nearly all of the volume lies at the surface).
template <typename Scalar>
void l2_start(Scalar* x_adv, const Scalar* x, int64_t n, double epsilon, uint64_t seed, uint64_t sample, uint64_t restart, bool clamp);

}  // namespace a_infonce::kernels

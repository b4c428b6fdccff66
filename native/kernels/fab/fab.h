// One iteration of the Fast Adaptive Boundary attack (Croce & Hein, ICML 2020) for one image, in double precision throughout.
#pragma once
#include <cstdint>

namespace a_infonce::kernels {

enum class FabNorm { Linf, L2 };

/// The classifier's difference of logits is linearised at z: f + w.(y - z). d1 and d2 are the shortest steps (in the norm) from z and from the image x
/// onto the hyperplane where it vanishes, within the box [0, 1] (to the nearest corner where the box does not reach it), and
///   z <- clamp((1 - a)(z + eta d1) + a (x + eta d2)),  a = min(|d1| / (|d1| + |d2|), alpha_max),  |d| at least 1e-8.
/// z, x, w [n]. False, with z unchanged, when f or w is NaN or infinite.
template <typename Scalar>
bool fab_step(Scalar* z, const Scalar* x, const Scalar* w, double f, int64_t n, FabNorm norm, double eta, double alpha_max);

}  // namespace a_infonce::kernels

// Augmentation, the high-frequency component and procedural images as operators of namespace a_infonce.
#pragma once
#include <ATen/core/Tensor.h>
#include <tuple>
#include "kernels/augment/augment.h"

namespace a_infonce::ops {

/// One view of the images pixels[indices]: uint8 [N, C, H, W] with C 1 or 3, int64 [n] on their device or the CPU -> float32 [n, C, size, size] in [0, 1],
/// there too. Indices on another device than the CPU are waited for.
/// The key of sample indices[k] is (seed, epoch, indices[k], view); neither the batch nor the thread count changes its bits.
at::Tensor augment(const at::Tensor& pixels, const at::Tensor& indices, const kernels::augment::Pipeline& pipeline, int64_t seed, int64_t epoch,
                   int64_t view);

/// Throws ArgumentRange for a pipeline that cannot work on images of height x width.
void check(const kernels::augment::Pipeline& pipeline, int64_t height, int64_t width);

/// images [..., S, S] less the disc sqrt(u^2 + v^2) < radius of their spectrum (u, v: frequencies of the centred spectrum), not clamped. Differentiable.
at::Tensor high_frequency(const at::Tensor& images, double radius);

/// Images first..first+count-1 of the procedural set (seed, split): uint8 [count, 3, size, size] and int64 [count].
std::tuple<at::Tensor, at::Tensor> procedural_images(int64_t seed, int64_t split, int64_t first, int64_t count, int64_t size);

}  // namespace a_infonce::ops

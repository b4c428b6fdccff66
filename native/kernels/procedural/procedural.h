// Procedural images: ten classes = five shapes x two textures, where everything else is chance (colors and their polarity, position, size,
// orientation, background, noise). The mean image of every class is the same gray, so a linear model on pixels learns next to nothing.
#pragma once
#include <cstdint>

namespace a_infonce::kernels::procedural {

constexpr int64_t classes = 10;   // label = shape + 5 * striped; shapes: disc, square, triangle, cross, ring
constexpr int64_t channels = 3;

/// The class of image `index`: every run of ten images holds each class once.
constexpr int64_t label(int64_t index) { return index % classes; }

/// Image `index` of the set (seed, split) as [3, side, side] bytes. Only + - * / and sqrt, without contraction: the same bytes on every machine.
void draw(uint8_t* out, int64_t side, uint64_t seed, uint32_t split, uint64_t index);

}  // namespace a_infonce::kernels::procedural

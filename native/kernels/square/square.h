// The proposals of Square Attack (Andriushchenko et al., ECCV 2020) for one image x [channels, height, width] in [0, 1], from uniform numbers
// u on [0, 1). Containment is exact, as in kernels/perturbation. A sign is + for u >= 1/2; a coordinate out of k is floor(k u).
#pragma once
#include <cstdint>
#include "kernels/host_device.h"

namespace a_infonce::kernels {

struct ImageShape {
  int64_t channels, height, width;
  A_INFONCE_HOST_DEVICE int64_t size() const { return channels * height * width; }
};

template <typename Scalar>
A_INFONCE_HOST_DEVICE inline Scalar square_sign(Scalar u) { return u >= Scalar{0.5} ? Scalar{1} : Scalar{-1}; }
template <typename Scalar>
A_INFONCE_HOST_DEVICE inline int64_t square_coordinate(Scalar u, int64_t count) { return static_cast<int64_t>(static_cast<double>(u) * static_cast<double>(count)); }

/// out = x + vertical stripes of +-epsilon; u [channels, width] holds their signs.
template <typename Scalar>
void square_start_linf(Scalar* out, const Scalar* x, const Scalar* u, ImageShape shape, double epsilon);

/// out = best, the square window of `side` pixels at (u[0], u[1]) changed by +-2 epsilon, projected onto ball and box; u[2 + c] is the sign of
/// channel c.
template <typename Scalar>
void square_step_linf(Scalar* out, const Scalar* best, const Scalar* x, const Scalar* u, ImageShape shape, double epsilon, int64_t side);

/// tile [side, side]: the paper's eta, upper half positive and lower half negative, decreasing from the centre of each; of length 1.
void square_tile(double* tile, int64_t side);

/// How far apart the tiles of a start lie, and how many there are.
struct TileGrid {
  A_INFONCE_HOST_DEVICE explicit TileGrid(ImageShape shape) : side(shape.height / 5), rows(shape.height / side), columns(shape.width / side) {}
  int64_t side, rows, columns;
};

/// out = x + a mosaic of tiles, scaled to length epsilon; u [rows, columns, 1 + channels] holds each tile's orientation (transposed for u > 1/2) and
/// signs. tile: square_tile of side height / 5.
template <typename Scalar>
void square_start_l2(Scalar* out, const Scalar* x, const Scalar* u, const double* tile, ImageShape shape, double epsilon);

/// out = best, the perturbation of the window at (u[2], u[3]) given to a tile in the window at (u[0], u[1]); u[4] is the tile's orientation,
/// u[5 + c] its sign in channel c.
template <typename Scalar>
void square_step_l2(Scalar* out, const Scalar* best, const Scalar* x, const Scalar* u, const double* tile, ImageShape shape, double epsilon, int64_t side);

}  // namespace a_infonce::kernels

#include "ops/square.h"
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>
#include <algorithm>
#include <vector>
#include "kernels/square/square.h"
#include "ops/image_checks.h"

namespace a_infonce::ops {
namespace {

kernels::ImageShape shape_of(const at::Tensor& x) {
  require_floating("x", x);
  require_range(x.dim() == 4, "x", "shape [N, C, H, W]", describe(x));
  return {x.size(1), x.size(2), x.size(3)};
}

kernels::ImageShape l2_shape_of(const at::Tensor& x) {
  const auto shape = shape_of(x);
  require_range(shape.height >= 5 && shape.width >= 5, "x", "images of at least 5 x 5 pixels", describe(x));
  return shape;
}

void require_side(int64_t side, kernels::ImageShape shape) {
  const int64_t most = std::min(shape.height, shape.width);
  require_range(side >= 1 && side <= most, "side", "an integer from 1 to " + std::to_string(most), std::to_string(side));
}

std::vector<double> tile_of(int64_t side) {
  std::vector<double> tile(static_cast<size_t>(side * side));
  kernels::square_tile(tile.data(), side);
  return tile;
}

/// launch(backend, out, best, x, u) for all images, or on the CPU run(out, best, x, u) for every one.
template <typename Launch, typename Run>
at::Tensor propose(const at::Tensor& best, const at::Tensor& x, const at::Tensor& u, int64_t count, double epsilon, Launch launch, Run run) {
  require_like("best", best, x);
  require_beside("u", u, x.scalar_type(), {x.size(0), count}, x);
  require_radius("epsilon", epsilon);
  const at::Tensor from = best.detach().contiguous(), images = x.detach().contiguous(), numbers = u.contiguous();
  at::Tensor result = at::empty_like(images);
  if (x.numel() == 0) return result;
  if (const Backend* const device = backend_of(x, "x")) {
    launch(*device, result, from, images, numbers);
    return result;
  }
  const int64_t rows = x.size(0), size = x.numel() / rows;
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "square", [&] {
    scalar_t* out = result.mutable_data_ptr<scalar_t>();
    const scalar_t *start = from.const_data_ptr<scalar_t>(), *image = images.const_data_ptr<scalar_t>(), *number = numbers.const_data_ptr<scalar_t>();
    at::parallel_for(0, rows, 1 + 16384 / size, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) run(out + row * size, start + row * size, image + row * size, number + row * count);
    });
  });
  return result;
}

}  // namespace

at::Tensor square_start_linf(const at::Tensor& x, const at::Tensor& u, double epsilon) {
  const auto shape = shape_of(x);
  return propose(x, x, u, shape.channels * shape.width, epsilon,
                 [=](const Backend& device, const auto& out, const auto&, const auto& images, const auto& numbers) { device.square_start_linf(out, images, numbers, epsilon); },
                 [=](auto* out, const auto*, const auto* image, const auto* number) { kernels::square_start_linf(out, image, number, shape, epsilon); });
}

at::Tensor square_step_linf(const at::Tensor& best, const at::Tensor& x, const at::Tensor& u, double epsilon, int64_t side) {
  const auto shape = shape_of(x);
  require_side(side, shape);
  return propose(best, x, u, 2 + shape.channels, epsilon, [=](const Backend& device, const auto& out, const auto& from, const auto& images, const auto& numbers) {
    device.square_step_linf(out, from, images, numbers, epsilon, side);
  }, [=](auto* out, const auto* from, const auto* image, const auto* number) {
    kernels::square_step_linf(out, from, image, number, shape, epsilon, side);
  });
}

int64_t square_start_l2_numbers(const at::Tensor& x) {
  const auto shape = l2_shape_of(x);
  const kernels::TileGrid grid(shape);
  return grid.rows * grid.columns * (1 + shape.channels);
}

at::Tensor square_start_l2(const at::Tensor& x, const at::Tensor& u, double epsilon) {
  const auto shape = l2_shape_of(x);
  const auto tile = tile_of(kernels::TileGrid(shape).side);
  return propose(x, x, u, square_start_l2_numbers(x), epsilon, [=, &tile](const Backend& device, const auto& out, const auto&, const auto& images, const auto& numbers) {
    device.square_start_l2(out, images, numbers, tile, epsilon);
  }, [=, &tile](auto* out, const auto*, const auto* image, const auto* number) {
    kernels::square_start_l2(out, image, number, tile.data(), shape, epsilon);
  });
}

at::Tensor square_step_l2(const at::Tensor& best, const at::Tensor& x, const at::Tensor& u, double epsilon, int64_t side) {
  const auto shape = shape_of(x);
  require_side(side, shape);
  const auto tile = tile_of(side);
  return propose(best, x, u, 5 + shape.channels, epsilon, [=, &tile](const Backend& device, const auto& out, const auto& from, const auto& images, const auto& numbers) {
    device.square_step_l2(out, from, images, numbers, tile, epsilon, side);
  }, [=, &tile](auto* out, const auto* from, const auto* image, const auto* number) {
    kernels::square_step_l2(out, from, image, number, tile.data(), shape, epsilon, side);
  });
}

}  // namespace a_infonce::ops

TORCH_LIBRARY_FRAGMENT(a_infonce, m) {
  m.def("square_start_linf(Tensor x, Tensor u, float epsilon) -> Tensor");
  m.def("square_step_linf(Tensor best, Tensor x, Tensor u, float epsilon, int side) -> Tensor");
  m.def("square_start_l2(Tensor x, Tensor u, float epsilon) -> Tensor");
  m.def("square_step_l2(Tensor best, Tensor x, Tensor u, float epsilon, int side) -> Tensor");
}

TORCH_LIBRARY_IMPL(a_infonce, CompositeExplicitAutograd, m) {
  m.impl("square_start_linf", a_infonce::ops::square_start_linf);
  m.impl("square_step_linf", a_infonce::ops::square_step_linf);
  m.impl("square_start_l2", a_infonce::ops::square_start_l2);
  m.impl("square_step_l2", a_infonce::ops::square_step_l2);
}

#include "ops/fab.h"
#include <ATen/Dispatch.h>
#include <ATen/MemoryOverlap.h>
#include <ATen/Parallel.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>
#include "kernels/fab/fab.h"
#include "ops/image_checks.h"

namespace a_infonce::ops {

void fab_step_(at::Tensor& z, const at::Tensor& x, const at::Tensor& w, const at::Tensor& f, bool l2, double eta, double alpha_max, at::Tensor& bad) {
  const Backend* const device = require_floating("z", z);
  require_like("x", x, z);
  require_like("w", w, z);
  require_beside("f", f, z.scalar_type(), z.sizes().slice(0, 1), z);
  require_range(std::isfinite(eta), "eta", "a finite number", std::to_string(eta));
  require_range(alpha_max >= 0 && alpha_max <= 1, "alpha_max", "a number from 0 to 1", std::to_string(alpha_max));
  require_range(z.is_contiguous() && !z.requires_grad(), "z", "a contiguous tensor outside of the autograd graph", describe(z));
  at::assert_no_partial_overlap(z, x);
  bad = at::zeros({z.size(0)}, z.options().dtype(at::kBool));
  if (z.numel() == 0) return;
  const at::Tensor images = x.contiguous(), weights = w.contiguous(), values = f.contiguous();
  const int64_t rows = z.size(0), size = z.numel() / rows;
  const auto norm = l2 ? kernels::FabNorm::L2 : kernels::FabNorm::Linf;
  if (device) return device->fab_step(z, images, weights, values, norm, eta, alpha_max, bad);
  AT_DISPATCH_FLOATING_TYPES(z.scalar_type(), "fab_step_", [&] {
    scalar_t* out = z.mutable_data_ptr<scalar_t>();
    const scalar_t *image = images.const_data_ptr<scalar_t>(), *weight = weights.const_data_ptr<scalar_t>(), *value = values.const_data_ptr<scalar_t>();
    bool* wrong = bad.mutable_data_ptr<bool>();
    at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t at = row * size;
        wrong[row] = !kernels::fab_step(out + at, image + at, weight + at, value[row], size, norm, eta, alpha_max);
      }
    });
  });
}

at::Tensor& fab_step_(at::Tensor& z, const at::Tensor& x, const at::Tensor& w, const at::Tensor& f, bool l2, double eta, double alpha_max) {
  at::Tensor bad;
  fab_step_(z, x, w, f, l2, eta, alpha_max, bad);
  const Backend* const device = backend_of(z, "z");
  if (!(device && device->capturing(z))) require_none(bad, "w: the gradient or value");
  return z;
}

}  // namespace a_infonce::ops

TORCH_LIBRARY_FRAGMENT(a_infonce, m) {
  m.def("fab_step_(Tensor(a!) z, Tensor x, Tensor w, Tensor f, bool l2, float eta=1.05, float alpha_max=0.1) -> Tensor(a!)");
}

TORCH_LIBRARY_IMPL(a_infonce, CompositeExplicitAutograd, m) { m.impl("fab_step_", static_cast<at::Tensor& (*)(at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, bool, double, double)>(a_infonce::ops::fab_step_)); }

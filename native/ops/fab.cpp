#include "ops/fab.h"
#include <ATen/Dispatch.h>
#include <ATen/MemoryOverlap.h>
#include <ATen/Parallel.h>
#include <torch/library.h>
#include <atomic>
#include "kernels/fab/fab.h"
#include "ops/image_checks.h"

namespace a_infonce::ops {

at::Tensor& fab_step_(at::Tensor& z, const at::Tensor& x, const at::Tensor& w, const at::Tensor& f, bool l2, double eta, double alpha_max) {
  require_floating_cpu("z", z);
  require_like("x", x, z);
  require_like("w", w, z);
  require_range(f.scalar_type() == z.scalar_type() && f.device().is_cpu() && f.sizes() == z.sizes().slice(0, 1), "f",
                dtype_name(z.scalar_type()) + " [" + std::to_string(z.size(0)) + "] on the CPU", describe(f));
  require_range(std::isfinite(eta), "eta", "a finite number", std::to_string(eta));
  require_range(alpha_max >= 0 && alpha_max <= 1, "alpha_max", "a number from 0 to 1", std::to_string(alpha_max));
  require_range(z.is_contiguous() && !z.requires_grad(), "z", "a contiguous tensor outside of the autograd graph", describe(z));
  at::assert_no_partial_overlap(z, x);
  if (z.numel() == 0) return z;
  const at::Tensor images = x.contiguous(), weights = w.contiguous(), values = f.contiguous();
  const int64_t rows = z.size(0), size = z.numel() / rows;
  std::atomic<int64_t> bad{rows};
  AT_DISPATCH_FLOATING_TYPES(z.scalar_type(), "fab_step_", [&] {
    scalar_t* out = z.mutable_data_ptr<scalar_t>();
    const scalar_t *image = images.const_data_ptr<scalar_t>(), *weight = weights.const_data_ptr<scalar_t>(), *value = values.const_data_ptr<scalar_t>();
    const auto norm = l2 ? kernels::FabNorm::L2 : kernels::FabNorm::Linf;
    at::parallel_for(0, rows, 1, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        if (const int64_t at = row * size; !kernels::fab_step(out + at, image + at, weight + at, value[row], size, norm, eta, alpha_max)) bad = row;
    });
  });
  if (bad < rows) throw Error(ErrorKind::NonFinite, "w: the gradient or value of sample " + std::to_string(bad.load()) + " is NaN or infinite");
  return z;
}

}  // namespace a_infonce::ops

TORCH_LIBRARY_FRAGMENT(a_infonce, m) {
  m.def("fab_step_(Tensor(a!) z, Tensor x, Tensor w, Tensor f, bool l2, float eta=1.05, float alpha_max=0.1) -> Tensor(a!)");
}

TORCH_LIBRARY_IMPL(a_infonce, CompositeExplicitAutograd, m) { m.impl("fab_step_", a_infonce::ops::fab_step_); }

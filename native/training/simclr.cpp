#include "simclr.h"
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include "../describe.h"
#include "../error.h"

namespace a_infonce::training {

void require_views(const at::Tensor& view1, const at::Tensor& view2, int64_t least) {
  require_range(view1.dim() == 4 && view1.size(0) >= least, "view1", "[B, C, H, W], B at least " + std::to_string(least), "shape " + shape_text(view1.sizes()));
  require_range(view2.sizes() == view1.sizes(), "view2", "shape " + shape_text(view1.sizes()) + ", as view1", "shape " + shape_text(view2.sizes()));
}

at::Tensor simclr_loss(nn::Network& network, const at::Tensor& view1, const at::Tensor& view2, const objective::Options& objective, double scale,
                       Values& values, const Check& check) {
  require_views(view1, view2);
  network.set_training(true);
  const at::Tensor contrastive = a_infonce(network.forward(at::cat({view1, view2}), "", nn::Network::Output::Projection), objective);
  check();
  values.emplace_back("contrastive", contrastive.detach());
  return contrastive * scale;
}

}  // namespace a_infonce::training

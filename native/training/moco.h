// MoCo (He et al., CVPR 2020; Chen et al., arXiv 2003.04297): keys from a network that follows the trained one slowly, negatives from a queue of old keys.
#pragma once
#include "../objective/options.h"
#include "trainer.h"

namespace a_infonce::training {

struct MocoOptions {
  objective::Options objective;  // temperature and hard negatives
  double momentum = 0.99;        // key weights <- momentum * key weights + (1 - momentum) * weights, before each step
  // BatchNorm sees one group of the batch at a time, and the keys are grouped otherwise than the queries: a key must not be told by its batch statistics.
  int64_t groups = 1;
  uint64_t seed = 0;             // of the keys' order
  int64_t pointer = 0;           // the row of the queue that the first key of this step replaces
};

/// The loss of one batch, views [B, C, H, W] in [0, 1]: queries from view 1 through the network, keys from view 2 through `keys` without gradients, both in
/// train mode and through their first BatchNorm branch; queue_loss against the queue [N, dim] as it was before; then the keys take the place of the oldest B
/// rows of the queue (B at most N). Changes the state of `keys` and the queue in place. Adds "contrastive" to the values.
at::Tensor moco_loss(nn::Network& network, nn::Network& keys, const at::Tensor& queue, const at::Tensor& view1, const at::Tensor& view2,
                     const MocoOptions& options, Values& values, const Check& check);

/// Rows of length 1 in directions drawn uniformly, float32 [rows, dim]: what the queue holds at first.
at::Tensor random_directions(int64_t rows, int64_t dim, uint64_t seed);

}  // namespace a_infonce::training

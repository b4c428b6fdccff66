// The objective with a queue of negatives: embeddings of earlier batches that are columns and never anchors (MoCo, He et al., CVPR 2020).
#pragma once
#include "objective/options.h"

namespace a_infonce {

/// Each query's only positive is its key, its negatives are the rows of the queue: the mean over i of
///   -log e^{s_i} / (e^{s_i} + Neg_i),   s_i = <q_i, k_i> / t,   Neg_i = sum_j e^{<q_i, queue_j> / t}, or with hard negatives as form `paper` has it.
/// queries and keys [B, dim], queue [N, dim], float32 or float64 of one dtype; rows are divided by their length first. A scalar of their dtype; the
/// gradient goes to whatever asks for it. Of the options, temperature and hard_negative count. The B x N similarities never exist.
at::Tensor queue_loss(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& queue, const objective::Options& options);

}  // namespace a_infonce

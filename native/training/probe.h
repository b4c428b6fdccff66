// Linear evaluation: softmax regression of labels on features that no longer change.
#pragma once
#include "trainer.h"

namespace a_infonce::training {

/// Features [N, D] of pixels (uint8 [N, C, H, W], read as k/255) in eval mode, without gradients; the mode is restored. Of a network through one
/// BatchNorm branch; of another model its output, `branch` being empty. `check` is called once a batch, before it.
at::Tensor encode(nn::Model& model, const at::Tensor& pixels, const std::string& branch, int64_t batch_size, const Check& check);

/// Whole train-mode passes over the same pixels without gradients, 64 batches or more: BatchNorm's running statistics become theirs, no weight moves, the
/// mode is restored.
void estimate_statistics(nn::Network& network, const at::Tensor& pixels, const std::string& branch, int64_t batch_size, const Check& check);

/// One pass over features [N, feature_dim] and labels [N] (int64, anywhere) in the order given ([N'] int64 rows, anywhere), in batches of `batch_size`, the last one
/// shorter; each is one step of cross-entropy on the network's head. Returns "loss" and "accuracy", the means over the rows visited.
/// Throws ArgumentRange on shapes, labels or rows that do not fit. An epoch that throws, Cancelled too, leaves head and momentum as they were.
Report probe_epoch(Trainer& trainer, const at::Tensor& features, const at::Tensor& labels, const at::Tensor& order, int64_t batch_size, double lr,
                   const Check& check);

}  // namespace a_infonce::training

// What the thread blocks that share a row's columns found, put together in a fixed order.
#pragma once
#include "kernels/similarity/similarity_cuda.h"

namespace a_infonce::kernels::cuda {

enum class Joining { Sums, Maxima, LogSums };  // added to what is there; the larger one with it; in its place

/// partials [splits, count, owned, numbers] to to[count, R, numbers], for the first `rows` but those of padding.
struct Splits {
  int splits, count;
  int64_t numbers, owned, R, rows;
  const int32_t* codes;
};
template <typename T>
void join_splits(Joining joining, const T* partials, T* to, const Splits& splits, const Context& context);

}  // namespace a_infonce::kernels::cuda

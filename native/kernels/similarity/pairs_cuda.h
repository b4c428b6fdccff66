// Which pairs of rows count, and how little one counts: of every kernel of similarity_cuda.h.
#pragma once
#include "kernels/cuda/launch.h"
#include "kernels/similarity/similarity_cuda.h"

namespace a_infonce::kernels::cuda {

constexpr double log2_e = 1.4426950408889634;
template <typename T> constexpr T least = sizeof(T) == 4 ? T(0x1p-125) : T(0x1p-1021);  // of an exponential of a selected pair, so that a sum of 0 is one over no pair

enum class Class { None, SameKind, CrossKind, BothKinds, Tested };  // of a tile's selected pairs; Tested: pair by pair
__device__ inline Class classify(const Strip& rows, const Strip& columns, int32_t selection, bool partial) {
  const bool meet = rows.first_group <= columns.last_group && columns.first_group <= rows.last_group;
  const bool one_group = meet && rows.first_group == rows.last_group && columns.first_group == columns.last_group;
  if (meet && !one_group) return Class::Tested;
  if (one_group) selection >>= 2;
  const bool same = rows.kinds & columns.kinds & 3, cross = ((rows.kinds & 1) && (columns.kinds & 2)) || ((rows.kinds & 2) && (columns.kinds & 1));
  const bool wanted_same = same && (selection & NegativeSameKind), wanted_cross = cross && (selection & NegativeCrossKind);
  if (!wanted_same && !wanted_cross) return Class::None;
  if (partial || wanted_same != same || wanted_cross != cross) return Class::Tested;
  return !cross ? Class::SameKind : !same ? Class::CrossKind : Class::BothKinds;
}
__device__ __forceinline__ bool selected(int32_t selection, int32_t row_code, int32_t column_code, int32_t row, int32_t column) {
  const int32_t difference = row_code ^ column_code;
  return (selection >> ((difference >> 1 == 0 ? 2 : 0) + (difference & 1)) & 1) && column_code >= 0 && row != column;
}

}  // namespace a_infonce::kernels::cuda

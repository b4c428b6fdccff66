// The order of samples: a function of (seed, stream) and nothing else.
#pragma once
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>
#include "../kernels/random.h"

namespace a_infonce::training {

/// A uniformly random permutation of 0..n-1 (Fisher-Yates on 64-bit words of the stream).
inline std::vector<int64_t> permutation(int64_t n, uint64_t seed, uint64_t stream) {
  std::vector<int64_t> result(n);
  std::iota(result.begin(), result.end(), int64_t{0});
  for (int64_t i = n - 1; i > 0; --i) {
    const auto words = random::block(seed, stream, static_cast<uint64_t>(i));
    const uint64_t word = uint64_t{words.word[0]} << 32 | words.word[1];
    // The high half of word * (i + 1): uniform on 0..i to within 2^-64 * (i + 1).
    std::swap(result[i], result[static_cast<uint64_t>((static_cast<unsigned __int128>(word) * static_cast<uint64_t>(i + 1)) >> 64)]);
  }
  return result;
}

}  // namespace a_infonce::training

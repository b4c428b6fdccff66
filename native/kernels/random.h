// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
// A value depends on (seed, stream, index) alone, so any thread count, tiling or resumption draws the same bits, and so does CUDA.
// Everything is `static`: a file compiled for AVX-512 must not lend its copy of a function to portable code.
#pragma once
#include <cmath>
#include <cstdint>
#include "kernels/host_device.h"

namespace a_infonce::random {

/// Four words of 32 random bits.
struct Block {
  uint32_t word[4];
  constexpr bool operator==(const Block&) const = default;
};

/// The cipher itself, in the word order of Random123.
A_INFONCE_HOST_DEVICE static constexpr Block philox4x32_10(Block counter, uint32_t key0, uint32_t key1) {
  auto [c0, c1, c2, c3] = counter.word;
  for (int round = 0; round < 10; ++round, key0 += 0x9E3779B9u, key1 += 0xBB67AE85u) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ key0, n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ key1;
    c1 = static_cast<uint32_t>(p1), c3 = static_cast<uint32_t>(p0), c0 = n0, c2 = n2;
  }
  return {{c0, c1, c2, c3}};
}

// Known answers, from Random123's kat_vectors.
static_assert(philox4x32_10({{0, 0, 0, 0}}, 0, 0) == Block{{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}});
static_assert(philox4x32_10({{~0u, ~0u, ~0u, ~0u}}, ~0u, ~0u) == Block{{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}});
static_assert(philox4x32_10({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0) ==
              Block{{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}});

/// Words 4*block to 4*block+3 of the stream.
A_INFONCE_HOST_DEVICE static constexpr Block block(uint64_t seed, uint64_t stream, uint64_t block) {
  return philox4x32_10({{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), static_cast<uint32_t>(stream),
                         static_cast<uint32_t>(stream >> 32)}},
                       static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

/// Word `index` of the stream: 32 random bits.
static constexpr uint32_t bits(uint64_t seed, uint64_t stream, uint64_t index) {
  return block(seed, stream, index >> 2).word[index & 3];
}

/// The seed of one purpose (augmentation, attack, ...) of a run, so that their streams of equal number do not share bits.
static constexpr uint64_t subseed(uint64_t seed, uint64_t purpose) {
  const Block words = block(seed, ~uint64_t{0}, purpose);
  return uint64_t{words.word[1]} << 32 | words.word[0];
}

/// Uniform on [0, 1): a multiple of 2^-24, exact in float32.
A_INFONCE_HOST_DEVICE static constexpr float to_uniform(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

/// Two independent standard normals from two words (Box-Muller, in double precision; |value| < 6.8).
A_INFONCE_HOST_DEVICE static inline void to_normal(uint32_t word0, uint32_t word1, double& first, double& second) {
  const double radius = std::sqrt(-2.0 * std::log((word0 + 0.5) * 0x1p-32)), angle = word1 * (0x1p-31 * 3.14159265358979323846);
  first = radius * std::cos(angle), second = radius * std::sin(angle);
}

/// Value `index` of the stream, uniform on [0, 1).
static constexpr float uniform(uint64_t seed, uint64_t stream, uint64_t index) { return to_uniform(bits(seed, stream, index)); }

/// Value `index` of the stream, standard normal.
static inline double normal(uint64_t seed, uint64_t stream, uint64_t index) {
  const Block words = block(seed, stream, index >> 2);
  const int pair = static_cast<int>(index & 2);
  double value[2];
  to_normal(words.word[pair], words.word[pair + 1], value[0], value[1]);
  return value[index & 1];
}

/// out[i] = offset + scale * uniform(seed, stream, i) for i in [0, n).
template <typename Scalar>
static inline void fill_uniform(Scalar* out, int64_t n, uint64_t seed, uint64_t stream, Scalar offset = 0, Scalar scale = 1) {
  for (int64_t i = 0; i < n; i += 4) {
    const Block words = block(seed, stream, static_cast<uint64_t>(i) >> 2);
    for (int64_t k = i; k < n && k < i + 4; ++k) out[k] = offset + scale * static_cast<Scalar>(to_uniform(words.word[k - i]));
  }
}

/// out[i] = normal(seed, stream, i) for i in [0, n).
template <typename Scalar>
static inline void fill_normal(Scalar* out, int64_t n, uint64_t seed, uint64_t stream) {
  for (int64_t i = 0; i < n; i += 4) {
    const Block words = block(seed, stream, static_cast<uint64_t>(i) >> 2);
    double value[4];
    to_normal(words.word[0], words.word[1], value[0], value[1]);
    to_normal(words.word[2], words.word[3], value[2], value[3]);
    for (int64_t k = i; k < n && k < i + 4; ++k) out[k] = static_cast<Scalar>(value[k - i]);
  }
}

}  // namespace a_infonce::random

// The instructions of hopper.h in the emulator: what they must do, and what must not pass.
#include "kernels/cuda/hopper.h"
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>
#include "../check.h"

using namespace a_infonce;
using namespace a_infonce::kernels::cuda;

namespace {

constexpr int rows = 64, chunk = rows * 128;
float value(int i, int k) { return static_cast<float>((i * 37 + k * 11 + i / 8 * 5) % 61 - 30); }

/// Chunks of 64 rows x 64 columns whose 16-byte pieces are swizzled.
std::vector<uint16_t> pack(int chunks) {
  std::vector<uint16_t> packed(chunks * chunk / 2);
  for (int c = 0; c < chunks; ++c)
    for (int r = 0; r < rows; ++r)
      for (int k = 0; k < 64; ++k) packed[(c * chunk + r * 128 + (k / 8 ^ r % 8) * 16) / 2 + k % 8] = static_cast<uint16_t>(bf16_pair(value(r, 64 * c + k), 0));
  return packed;
}

struct Tiles {
  unsigned char tile[2][chunk];
  Barrier full, empty;
};
enum class Mistake { None, NoFence, NoWait, NoBarrier, TooManyBytes, TooFewBytes, Overwritten, Written, Registers, Phase, BadSwizzle, Unpublished, Released, Stored, FencedByOne, FencedByBoth };

/// products [64, 64] = x x^T of the rows x [64, 128] with themselves, and weighted [64, 128] = w x with w(i, j) = i - j.
template <Mistake mistake>
void products_kernel(const uint16_t* packed, float* products, float* weighted) {
  Tiles& tiles = *shared_memory<Tiles>();
  const int t = static_cast<int>(threadIdx.x), row = t % 128 / 32 * 16 + lane() / 4, pair = lane() % 4;
  if (t == 0) tiles.full.initialise(1), tiles.empty.initialise(128);
  if (t == 0 && mistake != Mistake::Unpublished) publish_barriers();
  __syncthreads();
  if (t >= 128) {
    release_registers<32>();
    if (warp() != 4) return;
    if (lane() == 0) {
      tiles.full.arrive_and_expect(2 * chunk + (mistake == Mistake::TooFewBytes ? -16 : mistake == Mistake::TooManyBytes ? 16 : 0));
      for (int c = 0; c < 2; ++c) copy_bulk(tiles.tile[c], packed + c * chunk / 2, chunk, tiles.full);
      if (mistake != Mistake::Overwritten) tiles.empty.wait(mistake == Mistake::Phase ? 1 : 0);
    }
    if (mistake == Mistake::Overwritten) named_barrier(1, 160);
    if (lane() == 0) {
      tiles.full.arrive_and_expect(chunk);
      copy_bulk(tiles.tile[0], packed, chunk, tiles.full);
    }
    if (mistake == Mistake::Overwritten) named_barrier(1, 160);
    return;
  }
  claim_registers<160>();
  uint32_t a[8][4];
  for (int k = 0; k < 8; ++k)
    for (int part = 0; part < 4; ++part) {
      const int r = row + part % 2 * 8, at = 16 * k + part / 2 * 8 + 2 * pair;
      a[k][part] = bf16_pair(value(r, at), value(r, at + 1));
    }
  float s[32] = {}, o[64] = {};
  if (mistake != Mistake::NoBarrier) tiles.full.wait(0);
  if (mistake == Mistake::Stored || mistake == Mistake::FencedByOne || mistake == Mistake::FencedByBoth) {  // the same, by ordinary stores to one word
    if (t < 2) *const_cast<volatile unsigned char*>(tiles.tile[0] + t) = tiles.tile[0][t];
    (void)__shfl_sync(full_warp, 1, 0);  // both have stored, and neither knows of the other
    if (t < (mistake == Mistake::Stored ? 0 : mistake == Mistake::FencedByOne ? 1 : 2)) publish_barriers();
    named_barrier(2, 128);
  }
  const uint64_t along = matrix_descriptor(tiles.tile[0] + (mistake == Mistake::BadSwizzle ? 128 : 0), 1024, 0);
  if (mistake != Mistake::NoFence) fence_products();
  for (int k = 0; k < 8; ++k) multiply<Major::AlongK>(s, a[k], advance(along, k / 4 * chunk + k % 4 * 32), k > 0);
  commit_products();
  if (mistake == Mistake::Registers) a[3][1] ^= 1;
  if (mistake == Mistake::Written) s[5] = 0;
  const float early = s[7];
  uint32_t w[4][4];
  for (int k = 0; k < 4; ++k)
    for (int part = 0; part < 4; ++part) {
      const int i = row + part % 2 * 8, j = 16 * k + part / 2 * 8 + 2 * pair;
      w[k][part] = bf16_pair(static_cast<float>(i - j), static_cast<float>(i - j - 1));
    }
  const uint64_t across = matrix_descriptor(tiles.tile[0], 1024, chunk);
  for (int k = 0; k < 4; ++k) multiply<Major::Across>(o, w[k], advance(across, k * 16 * 128), true);
  commit_products();
  if (mistake == Mistake::Released) tiles.empty.arrive();
  for (int k = 0; mistake == Mistake::Overwritten && k < 2; ++k) named_barrier(1, 160);
  wait_products<1>(s);
  const bool pending = std::isnan(o[3]);
  if (mistake != Mistake::NoWait) wait_products<0>(o);
  for (int i = 0; i < 32; ++i) products[(row + i / 2 % 2 * 8) * 64 + i / 4 * 8 + 2 * pair + i % 2] = std::isnan(early) ? s[i] : 0;
  for (int i = 0; i < 64; ++i) weighted[(row + i / 2 % 2 * 8) * 128 + i / 4 * 8 + 2 * pair + i % 2] = pending ? o[i] : 0;
  if (mistake != Mistake::Released) tiles.empty.arrive();
  tiles.full.wait(1);
}

template <Mistake mistake>
bool right() {
  const auto packed = pack(2);
  std::vector<float> products(64 * 64), weighted(64 * 128);
  launch("wrong", products_kernel<mistake>, 1, 256, sizeof(Tiles), nullptr, packed.data(), products.data(), weighted.data());
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < rows; ++j) {
      float sum = 0;
      for (int k = 0; k < 128; ++k) sum += value(i, k) * value(j, k);
      if (products[i * 64 + j] != sum) return false;
    }
  for (int i = 0; i < rows; ++i)
    for (int k = 0; k < 128; ++k) {
      float sum = 0;
      for (int j = 0; j < rows; ++j) sum += static_cast<float>(i - j) * value(j, k);
      if (weighted[i * 128 + k] != sum) return false;
    }
  return true;
}
template <Mistake mistake>
void refuses(const char* part) {
  try {
    (void)right<mistake>();
  } catch (const Error& error) {
    CHECK(std::strstr(error.what(), part), "%s: expected %s", error.what(), part);
    return;
  }
  CHECK(false, "no error: %s", part);
}

}  // namespace

int main() {
  emulator::in_each_order(false, [] {
    CHECK(right<Mistake::None>(), "products");
    CHECK(!right<Mistake::NoWait>(), "products that are not waited for");
    refuses<Mistake::NoFence>("no fence");
    refuses<Mistake::TooManyBytes>("no thread makes progress");
    refuses<Mistake::TooFewBytes>("more bytes than the barrier expects");
    refuses<Mistake::Registers>("registers have changed");
    refuses<Mistake::Written>("sums have been written to");
    refuses<Mistake::BadSwizzle>("the matrix does not begin at a row");
    refuses<Mistake::Phase>("more arrivals than the phase counts");
#ifdef A_INFONCE_RACES
    refuses<Mistake::NoBarrier>("what a bulk copy has written");
    refuses<Mistake::Overwritten>("nothing orders the two");
    refuses<Mistake::Unpublished>("no fence.proxy.async between");
    refuses<Mistake::Released>("nothing orders the two");
    refuses<Mistake::Stored>("no fence.proxy.async between");
    refuses<Mistake::FencedByOne>("no fence.proxy.async between");
    CHECK(right<Mistake::FencedByBoth>(), "stores, each with its fence");
#else
    refuses<Mistake::NoBarrier>("more arrivals than the phase counts");
    refuses<Mistake::Overwritten>("shared memory has changed");
#endif
  });
  std::puts("passed");
}

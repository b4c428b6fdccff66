// Moments and their gradients on Hopper, for bfloat16 products of up to 128 dimensions: three warpgroups own 64 rows each, and a fourth one feeds them
// tiles of 64 columns that all three multiply with.
//
// What 64 rows x 64 columns cost a multiprocessor, in cycles, by count and not as measured, at d = 128 (64): their products 256 (128) of the tensor cores (2048 multiply-adds a cycle),
// and weights times columns as many again; 4096 exponentials 256 (16 a cycle); a scheduler's issue 96, or 184 with weights; shared memory 128 (64) for the
// one factor that products read there, and as many again for weights. L2 serves 21 bytes a cycle for sums, 11 for gradients. So sums are bound by the
// tensor cores and by the exponentials alike, 2^32 pairs by 1.03 ms at 1.98 GHz on 132 multiprocessors, and gradients by the tensor cores, 2.06 ms. What
// keeps both busy at once:
//   * the rows are in registers, as the left factor of the products (32 a thread at d = 128), so that shared memory serves one factor only;
//   * warpgroups take turns at the tensor cores, so that they are out of step: while one has its products, the exponentials of another are computed. For
//     sums a turn is two tiles, the exponentials of one of which overlap the products of the other (64 registers). For gradients a turn is a tile's
//     similarities (32 registers) or, when their exponentials are weights (16, in the place of the similarities), weights times columns, which add up in
//     64 registers. A thread has 160 registers;
//   * pairs are tested in those tiles only that have both, pairs that are selected and pairs that are not, and while the products are under way.
// The compiler keeps products asynchronous only where it can follow them to their wait. It does so over the end of a loop's body, where a gradient's next
// similarities are in flight; its sums of products with columns are waited for before. ptxas -v must report no spills and none of C7504 to C7519 (check:cuda).
//
// The grid is persistent, a thread block to a multiprocessor: it takes whole blocks of rows as long as there is one for everyone, and what remains is
// shared out evenly, column block by column block (342 blocks of rows would else be three rounds on 132 multiprocessors, the last for 78 of them). A block
// of rows that several have worked at is added up in their order by a second kernel. The upper triangle of tiles alone would save a quarter of a
// gradient's products, but read and write 32 KB of the columns' gradients with every 192 x 64 pairs, 28 bytes a cycle, in an order to be kept.
#include <type_traits>
#include "kernels/cuda/hopper.h"
#include "kernels/similarity/pairs_cuda.h"
#include "kernels/similarity/similarity_sm90a.h"

namespace a_infonce::kernels::cuda::sm90a {

#ifdef A_INFONCE_EMULATED
int columns_between_sums = 3;
#endif

namespace {

constexpr int row_groups = 3;  // warpgroups with rows
constexpr int threads = (row_groups + 1) * warpgroup_threads;
constexpr int stages = 6;
constexpr int most_thread_blocks = 256;
constexpr int tiles_of_block = static_cast<int>(block_rows / chunk_rows);
static_assert(tiles_of_block == row_groups);

struct Parameters {
  const unsigned char* rows;  // packed
  const int32_t* codes;
  const Strip* strips;
  const int32_t *offsets, *ranges;
  int column_blocks, first_block, row_blocks;  // rows: first_block .. first_block + row_blocks - 1
  int64_t all_rows;
  int32_t selection;
  double powers[2];
  float slopes[2];              // of the exponent of 2 by the product
  const double *reference, *centres;
  const float *own[2], *other[2];
  float factor[2];
  double* sums;
  float* gradient;              // or attraction
  unsigned char* partial;       // [2 thread blocks, partial_bytes]: sums [2, block_rows], columns [block_rows, width]
  const int32_t* flag;
  int32_t value;
};

constexpr int64_t partial_sums_bytes = 2 * block_rows * sizeof(double), partial_bytes = partial_sums_bytes + block_rows * most_dimensions * sizeof(float);

/// What a stage holds.
struct alignas(16) Message {
  static constexpr int end_of_piece = -1, end = -2;
  int column;   // the tile's first one, or one of these
  int tested;   // bits: warpgroups that have to test pairs
  int block;    // of rows
  int results;  // of the piece: 2 * Piece::partial + Piece::adds
};

template <int depth, int others>  // depth: chunks of a row; others: numbers a column
struct Shared {
  unsigned char tiles[stages][depth][chunk_bytes];
  int32_t codes[stages][chunk_rows];
  float other[stages][others ? others : 1][chunk_rows];
  Message messages[stages];
  Barrier full[stages], empty[stages];
  int first_unit[most_thread_blocks];
};

// ---- who does what ----------------------------------------------------------------------------------------------------------------------

/// Blocks of columns that a block of rows visits.
__device__ __forceinline__ int visited(const Parameters& p, int block) {
  if (!p.offsets) return p.column_blocks;
  int count = 0;
  for (int r = p.offsets[block]; r < p.offsets[block + 1]; ++r) count += p.ranges[2 * r + 1] - p.ranges[2 * r];
  return count;
}

/// Some of the visits of a block of rows, and where the results go.
struct Piece {
  int block, first, last;  // visits
  int partial;             // -1: the task's results
  bool adds;               // to what is there
};

/// Which pieces are whose: `rounds` whole blocks to everyone, then an even share of the visits ("units") of those that remain.
struct Shares {
  int everyone, rounds, rest;
  const int* first_unit;  // [rest + 1], of each block that remains

  /// By a warp; memory [everyone].
  __device__ Shares(const Parameters& p, int everyone, int* memory) : everyone(everyone), rounds(p.row_blocks / everyone), rest(p.row_blocks % everyone), first_unit(memory) {
    int before = 0;
    for (int first = 0; first <= rest; first += 32) {
      const int i = first + lane(), mine = i < rest ? visited(p, block(p, i)) : 0;
      int sum = mine;
      for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(full_warp, sum, step);
        if (lane() >= step) sum += other;
      }
      if (i <= rest) memory[i] = before + sum - mine;
      before += __shfl_sync(full_warp, sum, 31);
    }
    __syncwarp();
  }
  __device__ __forceinline__ int begin(int who) const { return static_cast<int>(static_cast<int64_t>(first_unit[rest]) * who / everyone); }
  __device__ __forceinline__ int block(const Parameters& p, int i) const { return p.first_block + rounds * everyone + i; }

  template <typename Body>
  __device__ __forceinline__ void for_pieces(const Parameters& p, int who, const Body& body) const {
    const int end = begin(who + 1);
    for (int round = 0, unit = begin(who), i = 0; round < rounds || unit < end;) {
      Piece whole{p.first_block + who + round * everyone, 0, 0, -1, true};
      if (round++ < rounds) whole.last = visited(p, whole.block);
      else {
        while (first_unit[i + 1] <= unit) ++i;
        const int first = first_unit[i], last = first_unit[i + 1];
        whole = {block(p, i), unit - first, min(last, end) - first, -1, true};
        if (unit > first || end < last) whole.partial = 2 * who + (unit == first), whole.adds = false;
        unit = min(last, end);
      }
      for (int first = whole.first; first < whole.last; first += columns_between_sums)
        body(Piece{whole.block, first, min(first + columns_between_sums, whole.last), whole.partial, whole.adds || first > whole.first});
    }
  }
};

/// A place in the ring of stages.
struct Place {
  int stage = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void advance() {
    if (++stage == stages) stage = 0, parity ^= 1;
  }
};

// ---- the warp that feeds the others ------------------------------------------------------------------------------------------------------

template <int depth, int others>
__device__ __forceinline__ void feed(const Parameters& p, Shared<depth, others>& shared) {
  Place place;
  const auto send = [&](const Message& message) {
    Barrier& full = shared.full[place.stage];
    shared.empty[place.stage].wait(place.parity ^ 1);
    if (lane() == 0) {
      shared.messages[place.stage] = message;
      if (message.column < 0) full.arrive();
      else {
        full.arrive_and_expect(depth * chunk_bytes + chunk_rows * (sizeof(int32_t) + others * sizeof(float)));
        copy_bulk(shared.tiles[place.stage], p.rows + message.column / chunk_rows * depth * chunk_bytes, depth * chunk_bytes, full);
        copy_bulk(shared.codes[place.stage], p.codes + message.column, chunk_rows * sizeof(int32_t), full);
        for (int k = 0; k < others; ++k) copy_bulk(shared.other[place.stage][k], p.other[k] + message.column, chunk_rows * sizeof(float), full);
      }
    }
    __syncwarp();
    place.advance();
  };
  const Shares shares(p, static_cast<int>(gridDim.x), shared.first_unit);
  const bool weighed = p.factor[0] != 1 || p.factor[1] != 1;  // pairs across kinds
  const int pair = lane() < tiles_of_block * row_groups ? lane() : 0;  // a lane for each tile of a block of columns and each 64 rows
  shares.for_pieces(p, static_cast<int>(blockIdx.x), [&](const Piece& piece) {
    const Strip rows = p.strips[piece.block * row_groups + pair % row_groups];
    const int results = 2 * piece.partial + piece.adds;
    const auto visit = [&](int block) {
      const int columns = block * tiles_of_block + pair / row_groups;
      const Strip theirs = p.strips[columns];
      const Class pairs = classify(rows, theirs, p.selection, (theirs.kinds & 4) || columns == piece.block * row_groups + pair % row_groups);
      const bool all = pairs == Class::SameKind || (!weighed && (pairs == Class::CrossKind || pairs == Class::BothKinds));
      const unsigned some = __ballot_sync(full_warp, pairs != Class::None), tested = __ballot_sync(full_warp, !all);
      for (int tile = 0; tile < tiles_of_block; ++tile)
        if (some >> tile * row_groups & 7)
          send({(block * tiles_of_block + tile) * static_cast<int>(chunk_rows), static_cast<int>(tested >> tile * row_groups & 7), piece.block, results});
    };
    if (p.offsets) {
      int before = 0;  // visits of the ranges before
      for (int r = p.offsets[piece.block]; r < p.offsets[piece.block + 1] && before < piece.last; ++r) {
        const int first = p.ranges[2 * r], size = p.ranges[2 * r + 1] - first;
        for (int k = max(piece.first - before, 0); k < min(size, piece.last - before); ++k) visit(first + k);
        before += size;
      }
    } else {
      for (int block = piece.first; block < piece.last; ++block) visit(block);
    }
    send({Message::end_of_piece, 0, piece.block, results});
  });
  send({Message::end, 0, 0, 0});
}

// ---- the warpgroups that have rows -------------------------------------------------------------------------------------------------------

/// A thread's rows `row` and `row` + 8 of the 64 of its warpgroup, and of every 8 columns 2 pair and 2 pair + 1. They are found anew where they are needed: registers
/// are short between.
struct Thread {
  int row, pair;
  __device__ __forceinline__ Thread() {
    const unsigned thread = thread_now();
    row = static_cast<int>(thread % warpgroup_threads / 32 * 16 + thread % 32 / 4), pair = static_cast<int>(thread % 4);
  }
};

/// A warpgroup with rows.
template <int depth, int others>
struct Group {
  Shared<depth, others>& shared;
  int group;
  Place place;

  __device__ __forceinline__ Group(Shared<depth, others>& shared, int group) : shared(shared), group(group) {
    if (group == row_groups - 1) pass_turn();
  }
  /// The tensor cores' turns go round.
  __device__ __forceinline__ void take_turn() { named_barrier(1 + group, 2 * warpgroup_threads); }
  __device__ __forceinline__ void pass_turn() { arrive_at_barrier(1 + (group + 1 == row_groups ? 0 : group + 1), 2 * warpgroup_threads); }
  __device__ __forceinline__ void finish() {
    if (group == 0) take_turn();  // that nobody else takes
  }

  __device__ __forceinline__ Message receive() {
    shared.full[place.stage].wait(place.parity);
    Message message = shared.messages[place.stage];
    message.column = __shfl_sync(full_warp, message.column, 0), message.tested = __shfl_sync(full_warp, message.tested, 0);  // branches that the compiler knows to be uniform
    return message;
  }
  __device__ __forceinline__ void release(int stage) {
    __syncwarp();
    if (lane() == 0) shared.empty[stage].arrive();
  }
  /// The first row of a thread whose place is `row`.
  __device__ __forceinline__ int first_row(int block, int row) const { return block * static_cast<int>(block_rows) + group * static_cast<int>(chunk_rows) + row; }
  /// Which pairs of a tile are selected and which are across kinds, a bit each in the order of its products; and what the latter count for, by row.
  struct Test {
    uint32_t selected = 0, cross = 0;
    float factors[2] = {};
  };
  /// To be found while the products are under way.
  __device__ __forceinline__ Test test(const Parameters& p, const Message& message, int stage) {
    Test test;
    if (!(message.tested >> group & 1)) return test;
    const Thread thread;
    const int i = first_row(message.block, thread.row);
    const int32_t mine[2] = {__ldg(p.codes + i), __ldg(p.codes + i + 8)};
    test.factors[0] = p.factor[mine[0] & 1], test.factors[1] = p.factor[mine[1] & 1];
#pragma unroll 1  // registers are short
    for (int m = 7; m >= 0; --m) {
      const int column = 8 * m + 2 * thread.pair;
      const int2 codes = *reinterpret_cast<const int2*>(&shared.codes[stage][column]);
      test.selected <<= 4, test.cross <<= 4;
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const int32_t theirs = k % 2 ? codes.y : codes.x;
        test.selected |= static_cast<uint32_t>(selected(p.selection, mine[k / 2], theirs, i + k / 2 * 8, message.column + column + k % 2)) << k;
        test.cross |= static_cast<uint32_t>((mine[k / 2] ^ theirs) & 1) << k;
      }
    }
    return test;
  }

  /// The left factor of products: this thread's part of 64 packed rows.
  __device__ __forceinline__ void load(const Parameters& p, int block, uint32_t (&a)[4 * depth][4]) {
    const Thread thread;
    const unsigned char* const first = p.rows + static_cast<int64_t>(first_row(block, 0) / chunk_rows) * depth * chunk_bytes + thread.row * chunk_row_bytes + thread.pair * 4;
#pragma unroll
    for (int k = 0; k < 4 * depth; ++k)
#pragma unroll
      for (int part = 0; part < 4; ++part)
        a[k][part] = __ldg(reinterpret_cast<const uint32_t*>(first + k / 4 * chunk_bytes + part % 2 * 8 * chunk_row_bytes + ((k % 4 * 2 + part / 2) ^ thread.row % 8) * 16));
  }
  /// s [64, 64] = the rows times those of a tile.
  __device__ __forceinline__ void similarities(float (&s)[32], const uint32_t (&a)[4 * depth][4], int stage) {
    const uint64_t columns = matrix_descriptor(shared.tiles[stage], 8 * chunk_row_bytes, 0);
#pragma unroll
    for (int k = 0; k < 4 * depth; ++k) multiply<Major::AlongK>(s, a[k], advance(columns, k / 4 * chunk_bytes + k % 4 * 32), k > 0);
    commit_products();
  }
  /// o [64, 64 depth] += w [64, 64] times the rows of a tile.
  __device__ __forceinline__ void accumulate(float (&o)[32 * depth], const uint32_t (&w)[4][4], int stage) {
    const uint64_t columns = matrix_descriptor(shared.tiles[stage], 8 * chunk_row_bytes, chunk_bytes);
#pragma unroll
    for (int k = 0; k < 4; ++k) multiply<Major::Across>(o, w[k], advance(columns, k * 16 * chunk_row_bytes), true);
    commit_products();
  }

  /// What a piece has summed up; message: its end.
  template <int count>
  __device__ __forceinline__ void store_sums(const Parameters& p, const Message& message, const double (&totals)[count][2]) {
    const Thread thread;
    double* const partial = reinterpret_cast<double*>(p.partial + (message.results >> 1) * partial_bytes) + group * chunk_rows + thread.row;
#pragma unroll
    for (int q = 0; q < count; ++q)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        double total = totals[q][half];
        total += __shfl_xor_sync(full_warp, total, 1);
        total += __shfl_xor_sync(full_warp, total, 2);
        const int i = first_row(message.block, thread.row) + 8 * half;
        if (thread.pair != 0 || p.codes[i] < 0) continue;
        double* const to = message.results < 0 ? p.sums + q * p.all_rows + i : partial + q * block_rows + 8 * half;
        *to = message.results & 1 ? *to + total : total;
      }
  }
  __device__ __forceinline__ void store(const Parameters& p, const Message& message, const float (&o)[32 * depth]) {
    const Thread thread;
    float* const partial = reinterpret_cast<float*>(p.partial + (message.results >> 1) * partial_bytes + partial_sums_bytes) + (group * chunk_rows + thread.row) * depth * 64;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int i = first_row(message.block, thread.row) + 8 * half;
      if (p.codes[i] < 0) continue;
      float* const to = (message.results < 0 ? p.gradient + static_cast<int64_t>(i) * depth * 64 : partial + 8 * half * depth * 64) + 2 * thread.pair;
#pragma unroll
      for (int m = 0; m < 8 * depth; ++m) {
        float2& two = *reinterpret_cast<float2*>(to + 8 * m);
        const float2 old = message.results & 1 ? two : make_float2(0, 0);
        two = make_float2(old.x + o[4 * m + 2 * half], old.y + o[4 * m + 2 * half + 1]);
      }
    }
  }
};

enum class Powers { One, Two, OneAndDouble };  // the double: the square of the first exponential
template <Powers powers> constexpr int count_of = powers == Powers::One ? 1 : 2;

/// e_p = e^{p (s - reference)}, from the product.
template <Powers powers>
struct Exponentials {
  static constexpr int count = count_of<powers>, separate = powers == Powers::Two ? 2 : 1;
  float slopes[separate], offsets[separate];
  __device__ __forceinline__ explicit Exponentials(const Parameters& p) {
#pragma unroll
    for (int q = 0; q < separate; ++q) slopes[q] = p.slopes[q], offsets[q] = static_cast<float>(-p.powers[q] * *p.reference * log2_e);
  }
  __device__ __forceinline__ void operator()(float product, float (&e)[count]) const {
#pragma unroll
    for (int q = 0; q < separate; ++q) e[q] = exp2_approximate(fmaf(product, slopes[q], offsets[q]));
    if constexpr (powers == Powers::OneAndDouble) e[1] = e[0] * e[0];
  }
};

template <int depth, Powers powers>
__device__ __forceinline__ void add_moments(const Parameters& p, Shared<depth, 0>& shared, int warpgroup) {
  constexpr int count = count_of<powers>;
  Group<depth, 0> group(shared, warpgroup);
  const Exponentials<powers> exponentials(p);
  for (Message message = group.receive(); message.column != Message::end; message = group.receive()) {
    uint32_t a[4 * depth][4];
    group.load(p, message.block, a);
    float first[32] = {}, second[32] = {};
    double totals[count][2] = {};
    const auto add = [&](const float (&s)[32], const Message& message, int stage, const auto& test) {
      float sums[count][2] = {};
      const auto tile = [&](auto tested) {
#pragma unroll
        for (int i = 0; i < 32; ++i) {
          float e[count];
          exponentials(s[i], e);
#pragma unroll
          for (int q = 0; q < count; ++q) sums[q][i / 2 % 2] += !tested.value ? e[q] : test.selected >> i & 1 ? fmaxf(e[q], least<float>) : 0;
        }
      };
      const bool tested = message.tested >> warpgroup & 1;
      if (tested) tile(std::true_type{});
      else tile(std::false_type{});
#pragma unroll
      for (int q = 0; q < count; ++q)
#pragma unroll
        for (int half = 0; half < 2; ++half) totals[q][half] += tested ? sums[q][half] : fmaxf(sums[q][half], least<float>);
      group.release(stage);
    };
    for (;;) {  // at the end of the piece, products of what happens to be there are ignored
      const int stage = group.place.stage;
      Message next = message;
      if (message.column >= 0) group.place.advance(), next = group.receive();
      const int next_stage = group.place.stage;
      group.take_turn();
      pin(a);
      fence_products();
      group.similarities(first, a, stage);
      group.similarities(second, a, next_stage);
      group.pass_turn();
      const auto test = group.test(p, message, stage);
      wait_products<1>(first);
      if (message.column >= 0) add(first, message, stage, test);
      const auto next_test = group.test(p, next, next_stage);
      wait_products<0>(second);
      pin(a);
      message = next;
      if (next.column < 0) break;
      add(second, next, next_stage, next_test);
      group.place.advance(), message = group.receive();
    }
    group.release(group.place.stage);
    group.place.advance();
    group.store_sums(p, message, totals);
  }
  group.finish();
}

enum class Weights { Attraction, Gradient };

/// What the weights of a tile are made of, but for its similarities.
template <Powers powers>
struct Coefficients {
  static constexpr int count = count_of<powers>;
  Exponentials<powers> exponentials;
  float centres[count], own[count][2];
  __device__ __forceinline__ explicit Coefficients(const Parameters& p) : exponentials(p) {
#pragma unroll
    for (int q = 0; q < count; ++q) centres[q] = p.centres ? static_cast<float>(p.centres[q]) : 0;
  }
};
/// The weights w of a tile's pairs, from their products s, as the left factor of products with its columns; and for the attraction the rows' sums of exponentials.
template <Weights kind, bool tested, int depth, Powers powers, int others>
__device__ __forceinline__ void weigh(Group<depth, others>& group, const Coefficients<powers>& of, int stage, const float (&s)[32], const typename Group<depth, others>::Test& test,
                                      uint32_t (&w)[4][4], float (&sums)[2]) {
  constexpr int count = count_of<powers>;
  const Thread thread;
#pragma unroll
  for (int m = 0; m < 8; ++m) {
    float2 theirs[count] = {};
    if constexpr (kind == Weights::Gradient)
#pragma unroll
      for (int q = 0; q < count; ++q) theirs[q] = *reinterpret_cast<const float2*>(&group.shared.other[stage][q][8 * m + 2 * thread.pair]);
    float weights[4] = {};
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      float e[count];
      of.exponentials(s[4 * m + k], e);
      if constexpr (kind == Weights::Gradient) {
#pragma unroll
        for (int q = 0; q < count; ++q) weights[k] = fmaf(of.own[q][k / 2] + (k % 2 ? theirs[q].y : theirs[q].x), e[q] - of.centres[q], weights[k]);
        if (tested && test.cross >> (4 * m + k) & 1) weights[k] *= test.factors[k / 2];
      } else {
        sums[k / 2] += !tested ? e[0] : test.selected >> (4 * m + k) & 1 ? fmaxf(e[0], least<float>) : 0;
        weights[k] = e[0] - of.centres[0];
      }
      if (tested && !(test.selected >> (4 * m + k) & 1)) weights[k] = 0;
    }
    w[m / 2][m % 2 * 2] = bf16_pair(weights[0], weights[1]), w[m / 2][m % 2 * 2 + 1] = bf16_pair(weights[2], weights[3]);
  }
}

template <Weights kind, int depth, Powers powers, int others>
__device__ __forceinline__ void add_columns(const Parameters& p, Shared<depth, others>& shared, int warpgroup) {
  Group<depth, others> group(shared, warpgroup);
  Coefficients<powers> coefficients(p);
  for (Message message = group.receive(); message.column != Message::end; message = group.receive()) {
    uint32_t a[4 * depth][4];
    group.load(p, message.block, a);
    if constexpr (kind == Weights::Gradient)
#pragma unroll
      for (int q = 0; q < count_of<powers>; ++q)
#pragma unroll
        for (int half = 0; half < 2; ++half) coefficients.own[q][half] = p.own[q][group.first_row(message.block, Thread().row) + 8 * half];
    float s[32] = {}, o[32 * depth] = {};
    pin(o);
    double totals[1][2] = {};
    group.take_turn();
    pin(a);
    fence_products();
    group.similarities(s, a, group.place.stage);
    group.pass_turn();
    while (message.column >= 0) {
      const int stage = group.place.stage;
      uint32_t w[4][4];
      float sums[2] = {};
      const auto test = group.test(p, message, stage);
      wait_products<0>(s);
      pin(a);
      if (message.tested >> warpgroup & 1) weigh<kind, true>(group, coefficients, stage, s, test, w, sums);
      else {
        weigh<kind, false>(group, coefficients, stage, s, test, w, sums);
        sums[0] = fmaxf(sums[0], least<float>), sums[1] = fmaxf(sums[1], least<float>);
      }
      totals[0][0] += sums[0], totals[0][1] += sums[1];
      group.take_turn();
      pin(w);
      fence_products();
      group.accumulate(o, w, stage);
      group.pass_turn();
      group.place.advance();
      message = group.receive();
      wait_products<0>(o);
      pin(w);
      group.release(stage);
      group.take_turn();
      pin(a);
      fence_products();
      group.similarities(s, a, group.place.stage);  // at the end of the piece, of what happens to be there
      group.pass_turn();
    }
    wait_products<0>(s);
    pin(a);
    group.release(group.place.stage);
    group.place.advance();
    if constexpr (kind == Weights::Attraction) group.store_sums(p, message, totals);
    group.store(p, message, o);
  }
  group.finish();
}

// ---- kernels ----------------------------------------------------------------------------------------------------------------------------

/// What all threads of a thread block do; `work` by each of the warpgroups with rows.
template <int depth, int others, typename Work>
__device__ __forceinline__ void divide(const Parameters& p, const Work& work) {
  if (p.flag && *p.flag != p.value) return;
  auto& shared = *shared_memory<Shared<depth, others>>();
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < stages; ++stage) shared.full[stage].initialise(1), shared.empty[stage].initialise(4 * row_groups);
    publish_barriers();
  }
  __syncthreads();
  const int warpgroup = __shfl_sync(full_warp, static_cast<int>(threadIdx.x) / warpgroup_threads, 0);
  if (warpgroup == row_groups) {
    release_registers<32>();
    if (warp() == 4 * row_groups) feed(p, shared);
  } else {
    claim_registers<160>();  // 3 x 160 + 32 = 4 x 128
    work(shared, warpgroup);
  }
}

template <int depth, Powers powers>
__global__ void __launch_bounds__(threads, 1) log_moments_kernel(const __grid_constant__ Parameters p) {
  divide<depth, 0>(p, [&](Shared<depth, 0>& shared, int warpgroup) { add_moments<depth, powers>(p, shared, warpgroup); });
}
template <int depth>
__global__ void __launch_bounds__(threads, 1) attraction_kernel(const __grid_constant__ Parameters p) {
  divide<depth, 0>(p, [&](Shared<depth, 0>& shared, int warpgroup) { add_columns<Weights::Attraction, depth, Powers::One>(p, shared, warpgroup); });
}
template <int depth, Powers powers>
__global__ void __launch_bounds__(threads, 1) gradient_kernel(const __grid_constant__ Parameters p) {
  constexpr int others = count_of<powers>;
  divide<depth, others>(p, [&](Shared<depth, others>& shared, int warpgroup) { add_columns<Weights::Gradient, depth, powers>(p, shared, warpgroup); });
}

/// Adds the partial results of each block of rows that several thread blocks have worked at, in their order: by the first of those that began within it.
template <int sums, int width>
__global__ void __launch_bounds__(threads) combine_kernel(const __grid_constant__ Parameters p) {
  if (p.flag && *p.flag != p.value) return;
  const Shares shares(p, static_cast<int>(gridDim.x), shared_memory<int>() + warp() * most_thread_blocks);
  const int who = static_cast<int>(blockIdx.x), begin = shares.begin(who);
  if (begin == shares.first_unit[shares.rest]) return;
  int i = 0;
  while (shares.first_unit[i + 1] <= begin) ++i;
  if (begin == shares.first_unit[i] || shares.begin(who - 1) > shares.first_unit[i]) return;
  const auto add = [&](auto* to, int64_t offset) {
    using T = std::remove_pointer_t<decltype(to)>;
    const auto part = [&](int partial) { return *reinterpret_cast<const T*>(p.partial + partial * partial_bytes + offset); };
    T total = part(2 * (who - 1) + 1);
    for (int other = who; other < shares.everyone && shares.begin(other) < shares.first_unit[i + 1]; ++other)
      if (shares.begin(other) < shares.begin(other + 1)) total += part(2 * other);
    *to += total;
  };
  const int64_t first_row = shares.block(p, i) * block_rows;
  const int t = static_cast<int>(threadIdx.x);
  for (int k = t; k < sums * block_rows; k += threads)
    if (const int64_t row = first_row + k % block_rows; p.codes[row] >= 0) add(p.sums + k / block_rows * p.all_rows + row, k * static_cast<int64_t>(sizeof(double)));
  if constexpr (width > 0)
    for (int k = t; k < block_rows * width; k += threads)
      if (p.codes[first_row + k / width] >= 0) add(p.gradient + first_row * width + k, partial_sums_bytes + k * static_cast<int64_t>(sizeof(float)));
}

// ---- launchers --------------------------------------------------------------------------------------------------------------------------

int thread_blocks() {
  const int multiprocessors = device().multiprocessors;
  return multiprocessors < most_thread_blocks ? multiprocessors : most_thread_blocks;
}

template <typename Task>
Parameters parameters_of(const DeviceMatrix& z, const Task& task, const Visits& visits, const Context& context) {
  Parameters p{};
  p.rows = static_cast<const unsigned char*>(z.rows), p.codes = z.codes, p.strips = z.strips;
  p.offsets = visits.offsets, p.ranges = visits.ranges;
  p.column_blocks = static_cast<int>(z.blocks), p.row_blocks = static_cast<int>(visits.row_blocks), p.all_rows = z.blocks * block_rows;
  p.selection = task.selection;
  for (int q = 0; q < task.count; ++q) p.powers[q] = task.powers[q], p.slopes[q] = static_cast<float>(task.powers[q] * z.scale * log2_e);
  p.reference = task.reference, p.factor[0] = p.factor[1] = 1;
  p.partial = static_cast<unsigned char*>(context.workspace), p.flag = context.flag, p.value = context.value;
  return p;
}

template <int depth, int others>
void run(const char* name, void (*kernel)(Parameters), void (*combine)(Parameters), const Parameters& p, const Context& context) {
  if (p.row_blocks == 0) return;
  const int everyone = thread_blocks();
  launch(name, kernel, everyone, threads, sizeof(Shared<depth, others>), context.stream, p);
  launch("combine", combine, everyone, threads, threads / 32 * most_thread_blocks * sizeof(int), context.stream, p);
}

/// body(powers) as a type.
template <typename Task, typename Body>
void on_powers(const Task& task, const Body& body) {
  if (task.count == 1) body(std::integral_constant<Powers, Powers::One>{});
  else if (task.powers[1] == 2 * task.powers[0]) body(std::integral_constant<Powers, Powers::OneAndDouble>{});
  else body(std::integral_constant<Powers, Powers::Two>{});
}

template <int depth>
void log_moments_of(Parameters p, const DeviceLogMoments<float>& task, const Context& context) {
  const int all = p.row_blocks;
  p.row_blocks = !task.attraction ? 0 : task.attracted < all ? static_cast<int>(task.attracted) : all;
  run<depth, 0>("attraction", attraction_kernel<depth>, combine_kernel<1, 64 * depth>, p, context);
  p.first_block = p.row_blocks, p.row_blocks = all - p.first_block;
  on_powers(task, [&](auto powers) { run<depth, 0>("log_moments", log_moments_kernel<depth, powers.value>, combine_kernel<count_of<powers.value>, 0>, p, context); });
}
template <int depth>
void gradient_of(const Parameters& p, const DeviceLogMomentsGradient<float>& task, const Context& context) {
  on_powers(task, [&](auto powers) {
    run<depth, count_of<powers.value>>("log_moments_gradient", gradient_kernel<depth, powers.value>, combine_kernel<0, 64 * depth>, p, context);
  });
}

}  // namespace

int64_t workspace_bytes() { return 2 * thread_blocks() * partial_bytes; }

void log_moments(const DeviceMatrix& z, const DeviceLogMoments<float>& task, const Visits& visits, const Context& context) {
  if (z.d > most_dimensions) return portable_bf16.log_moments(z, task, visits, context);
  Parameters p = parameters_of(z, task, visits, context);
  p.sums = task.sums, p.gradient = task.attraction, p.centres = task.centre;
  (z.d > 64 ? log_moments_of<2> : log_moments_of<1>)(p, task, context);
}

void log_moments_gradient(const DeviceMatrix& z, const DeviceLogMomentsGradient<float>& task, const Visits& visits, const Context& context) {
  if (z.d > most_dimensions) return portable_bf16.log_moments_gradient(z, task, visits, context);
  Parameters p = parameters_of(z, task, visits, context);
  p.gradient = task.gradient, p.centres = task.centres;
  for (int q = 0; q < task.count; ++q) p.own[q] = task.own[q], p.other[q] = task.other[q];
  p.factor[0] = task.factor[0], p.factor[1] = task.factor[1];
  (z.d > 64 ? gradient_of<2> : gradient_of<1>)(p, task, context);
}

}  // namespace a_infonce::kernels::cuda::sm90a

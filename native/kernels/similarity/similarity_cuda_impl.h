// The kernels of similarity_cuda.h by mma.sync, once for each way of multiplying (products_cuda.h). A thread block owns 64 or 192 rows, a warp 16 of them; tiles of 64
// columns pass through two buffers of shared memory, the next one on its way while one is worked on.
#pragma once
#include <cmath>
#include "kernels/similarity/join_cuda.h"
#include "kernels/similarity/pairs_cuda.h"
#include "kernels/similarity/products_cuda.h"

namespace a_infonce::kernels::cuda {

constexpr double ln_2 = 0.6931471805599453;
constexpr int strip_rows = static_cast<int>(chunk_rows), block_strips = static_cast<int>(block_rows / chunk_rows);

template <typename T> struct alignas(2 * sizeof(T)) Two { T x, y; };
template <typename T>
__device__ __forceinline__ Two<T> two(const T* p) { return *reinterpret_cast<const Two<T>*>(p); }

/// What all kernels are told.
struct Frame {
  const char* rows;
  int64_t part_bytes;
  int chunks;      // of a row
  int blocks;
  const int32_t* codes;
  const Strip* strips;
  const int32_t *offsets, *ranges;
  int splits;
  int first_block;   // of rows, of this launch
  int64_t R, owned;  // rows; those of blocks with sums
  const int32_t* flag;
  int32_t value;
  __device__ bool idle() const { return flag && *flag != value; }
};

/// The strips of columns of one thread block, in order, without those that no row of it needs.
struct Columns {
  const Frame& frame;
  const Strip& rows;
  int32_t selection;
  const int32_t* range;
  int block, end, left, strip = 0;  // the end of the range, blocks left, strip of the block

  __device__ Columns(const Frame& frame, const Strip& rows, int32_t selection, int row_block, int split) : frame(frame), rows(rows), selection(selection) {
    int count = 1, total = frame.blocks, first;
    range = nullptr;
    if (frame.offsets) {
      range = frame.ranges + 2 * frame.offsets[row_block], count = frame.offsets[row_block + 1] - frame.offsets[row_block], total = 0;
      for (int r = 0; r < count; ++r) total += range[2 * r + 1] - range[2 * r];
    }
    first = static_cast<int>(static_cast<int64_t>(total) * split / frame.splits);
    left = static_cast<int>(static_cast<int64_t>(total) * (split + 1) / frame.splits) - first;
    block = first, end = frame.blocks;
    if (range && left > 0) {
      for (; first >= range[1] - range[0]; range += 2) first -= range[1] - range[0];
      block = range[0] + first, end = range[1];
    }
    skip();
  }
  __device__ bool done() const { return left <= 0; }
  __device__ int place() const { return block * block_strips + strip; }
  __device__ void step() {
    if (++strip < block_strips) return;
    strip = 0, --left, ++block;
    while (block == end && left > 0 && range) range += 2, block = range[0], end = range[1];  // ranges may be empty
  }
  __device__ void skip() {
    while (left > 0 && classify(rows, frame.strips[place()], selection, false) == Class::None) step();
  }
  __device__ void next() { step(), skip(); }
};

// ---- the walk ---------------------------------------------------------------------------------------------------------------------------

template <typename P> constexpr int threads_of = 32 * P::warps;
template <typename P> constexpr int rows_of = 16 * P::warps;
template <typename P> constexpr int strips_of = rows_of<P> / strip_rows;
template <typename P> constexpr int slice_groups = P::slice_chunks * P::chunk_groups;  // groups of 8 dimensions in a slice
template <typename P> using Slice = typename P::Number[slice_groups<P>][4];
template <typename P> using Tile = typename P::Number[tile_groups][4];

/// Where a thread's results go: two rows.
template <typename P>
struct Place {
  int tile, split, slice;
  int strip;   // of its warp
  int32_t first_row, code[2];
  __device__ explicit Place(const Frame& frame)
      : tile(static_cast<int>(blockIdx.x) / frame.splits + frame.first_block * static_cast<int>(block_rows) / rows_of<P>),
        split(static_cast<int>(blockIdx.x) % frame.splits), slice(static_cast<int>(blockIdx.y)),
        strip(tile * strips_of<P> + warp() / 4), first_row(strip * strip_rows + warp() % 4 * 16 + lane() / 4) {
    for (int half = 0; half < 2; ++half) code[half] = frame.codes[row(half)];
  }
  __device__ __forceinline__ int32_t row(int half) const { return first_row + 8 * half; }
  __device__ int block() const { return tile * rows_of<P> / static_cast<int>(block_rows); }
};

/// Copies bytes of a multiple of 16 with the whole block.
template <typename P>
__device__ __forceinline__ void copy(char* to, const char* from, int bytes) {
  for (int at = 16 * static_cast<int>(threadIdx.x); at < bytes; at += 16 * threads_of<P>) copy_async(to + at, from + at);
}

/// visitor.tile(s, first column, class) for the products s of the block's rows with each of its tiles; if `back`, s holds weights after that, and
/// g += weights * the columns' rows, in the dimensions of the block's slice. `resident`: rows and whole tiles are in shared memory; else both pass by chunks.
template <typename P, bool resident, bool back, typename Visitor>
__device__ __forceinline__ void walk(const Frame& frame, const Place<P>& place, int32_t selection, Visitor& visitor, Slice<P>& g) {
  constexpr int chunk = static_cast<int>(chunk_bytes);
  char* const shared = shared_memory<char>();
  const int chunks = frame.chunks, first_chunk = place.slice * P::slice_chunks, slice_chunks = min(P::slice_chunks, chunks - first_chunk);
  const int row_bytes = resident ? P::parts * strips_of<P> * chunks * chunk : 0;
  const int stage_bytes = resident ? P::parts * chunks * chunk : P::parts * (strips_of<P> + 1) * chunk;
  const int64_t first_strip = static_cast<int64_t>(place.tile) * strips_of<P>;

  Strip rows = frame.strips[first_strip];
  for (int k = 1; k < strips_of<P>; ++k) {
    const Strip other = frame.strips[first_strip + k];
    rows.first_group = min(rows.first_group, other.first_group), rows.last_group = max(rows.last_group, other.last_group), rows.kinds |= other.kinds;
  }
  Columns ahead(frame, rows, selection, place.block(), place.split);
  const int64_t strip_bytes = static_cast<int64_t>(chunks) * chunk;

  // A stage's contents, in the order in which they are needed: all of a tile; or a chunk of rows and columns for the first product, then the slice's of columns.
  int ahead_step = 0, stage = 0, coming = -1;  // coming: the tile whose first stage was fetched last
  const auto fetch = [&](int to) {
    if (ahead_step == 0) coming = ahead.done() ? -1 : ahead.place();
    if (!ahead.done()) {
      char* const at = shared + row_bytes + to * stage_bytes;
#pragma unroll
      for (int part = 0; part < P::parts; ++part) {
        const char* const from = frame.rows + part * frame.part_bytes;
        if constexpr (resident) {
          copy<P>(at + part * chunks * chunk, from + coming * strip_bytes, chunks * chunk);
        } else {
          const bool first_product = ahead_step < chunks;
          const int c = first_product ? ahead_step : first_chunk + ahead_step - chunks;
          copy<P>(at + (P::parts * strips_of<P> + part) * chunk, from + coming * strip_bytes + c * chunk, chunk);
#pragma unroll
          for (int k = 0; k < strips_of<P>; ++k)
            if (first_product) copy<P>(at + (part * strips_of<P> + k) * chunk, from + (first_strip + k) * strip_bytes + c * chunk, chunk);
        }
      }
      if (resident || ++ahead_step == chunks + (back ? slice_chunks : 0)) ahead_step = 0, ahead.next();
    }
    commit_copies();
  };
  /// The stage that is ready, once the one after it is on its way: into the buffer that everyone has left before the barrier.
  const auto ready = [&] {
    wait_copies<0>();
    __syncthreads();
    const int now = stage;
    stage ^= 1;
    fetch(stage);
    return shared + row_bytes + now * stage_bytes;
  };

  if constexpr (resident)
#pragma unroll
    for (int part = 0; part < P::parts; ++part)
      copy<P>(shared + part * strips_of<P> * chunks * chunk, frame.rows + part * frame.part_bytes + first_strip * strip_bytes, strips_of<P> * chunks * chunk);
  fetch(0);
  const int r = warp() % 4 * 16, warp_strip = warp() / 4;
  while (coming >= 0) {
    const int now = coming;
    const Strip mine = frame.strips[place.strip], columns = frame.strips[now];  // read again, not kept in registers
    const Class pairs = classify(mine, columns, selection, (columns.kinds & 4) || now == place.strip);
    Tile<P> s = {};
    char* at = nullptr;
    if constexpr (resident) {
      at = ready();
      if (pairs != Class::None)
        for (int c = 0; c < chunks; ++c)
          P::multiply(s, shared + (warp_strip * chunks + c) * chunk, strips_of<P> * chunks * chunk, r, at + c * chunk, chunks * chunk);
    } else {
      for (int c = 0; c < chunks; ++c) {
        at = ready();
        if (pairs != Class::None) P::multiply(s, at + warp_strip * chunk, strips_of<P> * chunk, r, at + P::parts * strips_of<P> * chunk, chunk);
      }
    }
    if (pairs != Class::None) visitor.tile(s, now * strip_rows, pairs);
    if constexpr (back) {
      const typename P::Weights weights(s, shared + row_bytes + 2 * stage_bytes + warp() * P::scratch_bytes);
#pragma unroll
      for (int c = 0; c < P::slice_chunks; ++c)
        if (c < slice_chunks) {
          if constexpr (!resident) at = ready();
          if (pairs != Class::None) P::apply(g + c * P::chunk_groups, weights, resident ? at + (first_chunk + c) * chunk : at + P::parts * strips_of<P> * chunk, resident ? chunks * chunk : chunk);
        }
    }
  }
}

// ---- what is done with results ----------------------------------------------------------------------------------------------------------

/// The slice's gradients of the block's rows: added to `gradient`, or for the adding of splits.
template <typename P>
__device__ void store_slice(const Frame& frame, const Place<P>& place, const Slice<P>& g, typename P::Number* gradient, typename P::Number* partial) {
  using T = typename P::Number;
  const int64_t width = static_cast<int64_t>(frame.chunks) * P::chunk_groups * 8;
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int m = 0; m < slice_groups<P>; ++m) {
      const int64_t k = (static_cast<int64_t>(place.slice) * slice_groups<P> + m) * 8 + lane() % 4 * 2;
      if (k >= width) continue;
      const Two<T> sum{g[m][2 * half], g[m][2 * half + 1]};
      if (frame.splits > 1) {
        *reinterpret_cast<Two<T>*>(partial + (place.split * frame.owned + place.row(half)) * width + k) = sum;
      } else if (place.code[half] >= 0) {
        auto* const to = reinterpret_cast<Two<T>*>(gradient + place.row(half) * width + k);
        *to = {to->x + sum.x, to->y + sum.y};
      }
    }
}
/// Sums over the four threads that share a row, likewise.
template <typename P>
__device__ void store_sums(const Frame& frame, const Place<P>& place, double (&total)[2][2], int count, double* sums, double* partial) {
  if (place.slice != 0) return;
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int p = 0; p < 2; ++p) {
      double sum = total[half][p];
      sum += __shfl_xor_sync(full_warp, sum, 1);
      sum += __shfl_xor_sync(full_warp, sum, 2);
      if (lane() % 4 != 0 || p >= count) continue;
      if (frame.splits > 1) partial[(place.split * count + p) * frame.owned + place.row(half)] = sum;
      else if (place.code[half] >= 0) sums[p * frame.R + place.row(half)] += sum;
    }
}
/// f(column, pairs) for the two columns that the thread has of each group of 8, and the four pairs of them with its rows.
template <typename T, typename F>
__device__ __forceinline__ void each_two(T (&s)[tile_groups][4], const F& f) {
  if constexpr (sizeof(T) == sizeof(float)) {
#pragma unroll
    for (int n = 0; n < tile_groups; ++n) f(8 * n + lane() % 4 * 2, s[n]);
  } else {  // in a loop, over a copy in memory: functions of doubles are long
    T copy[tile_groups][4];
#pragma unroll
    for (int n = 0; n < tile_groups; ++n)
#pragma unroll
      for (int r = 0; r < 4; ++r) copy[n][r] = s[n][r];
#pragma unroll 1
    for (int n = 0; n < tile_groups; ++n) f(8 * n + lane() % 4 * 2, copy[n]);
#pragma unroll
    for (int n = 0; n < tile_groups; ++n)
#pragma unroll
      for (int r = 0; r < 4; ++r) s[n][r] = copy[n][r];
  }
}

// ---- log moments ------------------------------------------------------------------------------------------------------------------------

template <typename T, int count>
struct Exponentials {  // e_p = e^{p (s - reference)}, from the raw product
  T slope[count], offset[count];
  bool square;
  __device__ Exponentials(double scale, const double (&powers)[2], double reference) : square(count == 2 && powers[1] == 2 * powers[0]) {
#pragma unroll
    for (int p = 0; p < count; ++p) slope[p] = static_cast<T>(powers[p] * scale * log2_e), offset[p] = static_cast<T>(-powers[p] * reference * log2_e);
  }
  __device__ __forceinline__ void operator()(T product, T (&e)[count]) const {
    e[0] = power_of_2(fused(product, slope[0], offset[0]));
    if constexpr (count == 2) e[1] = square ? e[0] * e[0] : power_of_2(fused(product, slope[1], offset[1]));
  }
};

template <typename P, int count, bool attract>
struct MomentsVisitor {
  using T = typename P::Number;
  const Frame& frame;
  const Place<P>& place;
  int32_t selection;
  Exponentials<T, count> exponentials;
  T centre;
  double total[2][2] = {};

  __device__ __forceinline__ void tile(Tile<P>& s, int32_t column, Class pairs) { pairs == Class::Tested ? add<true>(s, column) : add<false>(s, column); }
  template <bool tested>
  __device__ __forceinline__ void add(Tile<P>& s, int32_t first) {
    T sums[2][count];
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int p = 0; p < count; ++p) sums[half][p] = tested ? T(0) : least<T>;
    each_two(s, [&](int column, T (&pairs)[4]) {
      Two<int32_t> codes{};
      if constexpr (tested) codes = two(frame.codes + first + column);
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        T e[count];
        exponentials(pairs[r], e);
        bool wanted = true;
        if constexpr (tested) wanted = selected(selection, place.code[r / 2], r % 2 ? codes.y : codes.x, place.row(r / 2), first + column + r % 2);
#pragma unroll
        for (int p = 0; p < count; ++p) sums[r / 2][p] += !tested ? e[p] : wanted ? max(e[p], least<T>) : T(0);
        if constexpr (attract) pairs[r] = wanted ? e[0] - centre : T(0);
      }
    });
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int p = 0; p < count; ++p) total[half][p] += static_cast<double>(sums[half][p]);
  }
};

template <typename P, bool resident, int count, bool attract>
__global__ void __launch_bounds__(threads_of<P>, 1) log_moments_kernel(const __grid_constant__ Frame frame, const double scale, const __grid_constant__ DeviceLogMoments<typename P::Number> task, double* partial_sums,
                                                                   typename P::Number* partial_attraction) {
  if (frame.idle()) return;
  const Place<P> place(frame);
  MomentsVisitor<P, count, attract> visitor{frame, place, task.selection, {scale, task.powers, *task.reference}, static_cast<typename P::Number>(task.centre ? *task.centre : 0)};
  Slice<P> g = {};
  walk<P, resident, attract>(frame, place, task.selection, visitor, g);
  store_sums(frame, place, visitor.total, count, task.sums, partial_sums);
  if constexpr (attract) store_slice(frame, place, g, task.attraction, partial_attraction);
}

template <typename P, int count>
struct WeightsVisitor {
  using T = typename P::Number;
  const Frame& frame;
  const Place<P>& place;
  const DeviceLogMomentsGradient<T>& task;
  Exponentials<T, count> exponentials;
  T centre[count];

  __device__ WeightsVisitor(const Frame& frame, const Place<P>& place, const DeviceLogMomentsGradient<T>& task, double scale)
      : frame(frame), place(place), task(task), exponentials(scale, task.powers, *task.reference) {
#pragma unroll
    for (int p = 0; p < count; ++p) centre[p] = static_cast<T>(task.centres ? task.centres[p] : 0);
  }
  __device__ __forceinline__ void tile(Tile<P>& s, int32_t column, Class pairs) {
    const bool plain = pairs == Class::SameKind || (pairs != Class::Tested && task.factor[0] == 1 && task.factor[1] == 1);
    plain ? weigh<false>(s, column) : weigh<true>(s, column);
  }
  template <bool tested>
  __device__ __forceinline__ void weigh(Tile<P>& s, int32_t first) const {
    T own[2][count];  // read again for every tile, not kept in registers
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int p = 0; p < count; ++p) own[half][p] = task.own[p][place.row(half)];
    each_two(s, [&](int column, T (&pairs)[4]) {
      Two<T> other[count];
#pragma unroll
      for (int p = 0; p < count; ++p) other[p] = two(task.other[p] + first + column);
      Two<int32_t> codes{};
      if constexpr (tested) codes = two(frame.codes + first + column);
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        T e[count], weight = 0;
        exponentials(pairs[r], e);
#pragma unroll
        for (int p = 0; p < count; ++p) weight = fused(e[p] - centre[p], own[r / 2][p] + (r % 2 ? other[p].y : other[p].x), weight);
        if constexpr (tested) {
          const int32_t code = r % 2 ? codes.y : codes.x;
          if ((code ^ place.code[r / 2]) & 1) weight *= place.code[r / 2] & 1 ? task.factor[1] : task.factor[0];
          if (!selected(task.selection, place.code[r / 2], code, place.row(r / 2), first + column + r % 2)) weight = 0;
        }
        pairs[r] = weight;
      }
    });
  }
};

template <typename P, bool resident, int count>
__global__ void __launch_bounds__(threads_of<P>, 1) log_moments_gradient_kernel(const __grid_constant__ Frame frame, const double scale, const __grid_constant__ DeviceLogMomentsGradient<typename P::Number> task,
                                                                            typename P::Number* partial) {
  if (frame.idle()) return;
  const Place<P> place(frame);
  WeightsVisitor<P, count> visitor(frame, place, task, scale);
  Slice<P> g = {};
  walk<P, resident, true>(frame, place, task.selection, visitor, g);
  store_slice(frame, place, g, task.gradient, partial);
}

// ---- log moments at any temperature -----------------------------------------------------------------------------------------------------

template <typename P>
struct RunningVisitor {
  using T = typename P::Number;
  static constexpr T lowest = T(-1e30);
  const Frame& frame;
  const Place<P>& place;
  const DeviceRunningLogMoments& task;
  T slope;
  T top[2] = {lowest, lowest};  // of what this thread saw, in powers of 2
  double total[2][2] = {};      // in units of 2^{p top}

  __device__ __forceinline__ void tile(Tile<P>& s, int32_t first, Class pairs_of_tile) {
    T now[2] = {top[0], top[1]};
    each_two(s, [&](int column, T (&pairs)[4]) {
      const Two<int32_t> codes = two(frame.codes + first + column);
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const bool wanted = pairs_of_tile != Class::Tested || selected(task.selection, place.code[r / 2], r % 2 ? codes.y : codes.x, place.row(r / 2), first + column + r % 2);
        pairs[r] = wanted ? pairs[r] * slope : 2 * lowest;
        now[r / 2] = max(now[r / 2], pairs[r]);
      }
    });
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int p = 0; p < 2; ++p)
        if (p < task.count) {
          const T power = static_cast<T>(task.powers[p]);
          if (now[half] > top[half]) total[half][p] *= exp2(task.powers[p] * (static_cast<double>(top[half]) - now[half]));
          T sum = 0;
          each_two(s, [&](int, T (&pairs)[4]) {
#pragma unroll
            for (int c = 0; c < 2; ++c) sum += power_of_2((pairs[2 * half + c] - now[half]) * power);
          });
          total[half][p] += static_cast<double>(sum);
        }
    top[0] = now[0], top[1] = now[1];
  }
};
template <typename P, bool resident>
__global__ void __launch_bounds__(threads_of<P>, 1) running_log_moments_kernel(const __grid_constant__ Frame frame, const double scale, const __grid_constant__ DeviceRunningLogMoments task, double* partial) {
  if (frame.idle()) return;
  const Place<P> place(frame);
  RunningVisitor<P> visitor{frame, place, task, static_cast<typename P::Number>(scale * log2_e)};
  Slice<P> g;
  walk<P, resident, false>(frame, place, task.selection, visitor, g);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    double top = static_cast<double>(visitor.top[half]);
    const double mine = top;
    for (int step = 1; step < 4; step *= 2) top = max(top, __shfl_xor_sync(full_warp, top, step));
#pragma unroll
    for (int p = 0; p < 2; ++p) {
      const double power = p < task.count ? task.powers[p] : 1;
      double sum = visitor.total[half][p] * exp2(power * (mine - top));
      for (int step = 1; step < 4; step *= 2) sum += __shfl_xor_sync(full_warp, sum, step);
      if (lane() % 4 != 0 || p >= task.count) continue;
      const double log_sum = sum == 0 ? -INFINITY : ln_2 * power * top + log(sum);
      if (frame.splits > 1) partial[(place.split * task.count + p) * frame.owned + place.row(half)] = log_sum;
      else if (place.code[half] >= 0) task.log_sums[p * frame.R + place.row(half)] = log_sum;
    }
  }
}

template <typename P>
struct RunningWeights {
  using T = typename P::Number;
  const Frame& frame;
  const Place<P>& place;
  const DeviceRunningLogMomentsGradient<T>& task;
  double scale;

  __device__ __forceinline__ void tile(Tile<P>& s, int32_t first, Class) const {
    each_two(s, [&](int column, T (&pairs)[4]) {
      const Two<int32_t> codes = two(frame.codes + first + column);
      T weights[4] = {};
      for (int p = 0; p < task.count; ++p) {
        const T slope = static_cast<T>(task.powers[p] * scale * log2_e);
        const Two<T> other = two(task.other[p] + first + column), logs = two(task.log_sums[p] + first + column);
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          const int32_t row = place.row(r / 2);
          const T y = pairs[r] * slope;
          weights[r] = fused(task.own[p][row], power_of_2(y - static_cast<T>(log2_e) * task.log_sums[p][row]), weights[r]);
          weights[r] = fused(r % 2 ? other.y : other.x, power_of_2(y - static_cast<T>(log2_e) * (r % 2 ? logs.y : logs.x)), weights[r]);
        }
      }
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int32_t code = r % 2 ? codes.y : codes.x, own = place.code[r / 2];
        const T weight = (code ^ own) & 1 ? weights[r] * task.factor[own & 1] : weights[r];
        pairs[r] = selected(task.selection, own, code, place.row(r / 2), first + column + r % 2) ? weight : T(0);
      }
    });
  }
};
template <typename P, bool resident>
__global__ void __launch_bounds__(threads_of<P>, 1) running_log_moments_gradient_kernel(const __grid_constant__ Frame frame, const double scale,
                                                                                    const __grid_constant__ DeviceRunningLogMomentsGradient<typename P::Number> task, typename P::Number* partial) {
  if (frame.idle()) return;
  const Place<P> place(frame);
  RunningWeights<P> visitor{frame, place, task, scale};
  Slice<P> g = {};
  walk<P, resident, true>(frame, place, task.selection, visitor, g);
  store_slice(frame, place, g, task.gradient, partial);
}

// ---- hard negatives of the released code ------------------------------------------------------------------------------------------------

template <typename T>
__device__ __forceinline__ Exponentials<T, 1> plain_exponentials(double scale, double reference) {
  const double powers[2] = {1, 1};
  return {scale, powers, reference};
}

template <typename T>
struct Phi {
  T exponent, epsilon;
  bool linear;
  __device__ explicit Phi(const DeviceHardExponential<T>& e) : exponent(static_cast<T>(e.exponent)), epsilon(static_cast<T>(e.epsilon)), linear(e.exponent == 1) {}
  __device__ __forceinline__ T power(T x) const { return linear ? x : power_of_2(exponent * logarithm_2(x)); }
  __device__ __forceinline__ T value(T e, bool times_e) const { return times_e ? power(e + epsilon) * e : power(e + epsilon); }
  __device__ __forceinline__ T derivative(T e, bool times_e) const {  // e phi'(e)
    const T x = e + epsilon;
    if (linear) return times_e ? e * (e + x) : e;
    const T y = power(x), ratio = exponent * e / x;
    return times_e ? e * y * (ratio + T(1)) : y * ratio;
  }
};

template <typename P>
struct HardVisitor {
  using T = typename P::Number;
  const Frame& frame;
  const Place<P>& place;
  const DeviceHardMoments<T>& task;
  Exponentials<T, 1> exponentials;
  Phi<T> phi;
  T top[2];
  double total[2][2] = {};

  __device__ HardVisitor(const Frame& frame, const Place<P>& place, const DeviceHardMoments<T>& task, double scale)
      : frame(frame), place(place), task(task), exponentials(plain_exponentials<T>(scale, *task.exponential.reference)), phi(task.exponential) { top[0] = top[1] = -static_cast<T>(INFINITY); }

  __device__ __forceinline__ void tile(Tile<P>& s, int32_t first, Class) {
    const T* const relative = task.exponential.relative;
    T sums[2][2] = {};
    each_two(s, [&](int column, T (&pairs)[4]) {
      const Two<int32_t> codes = two(frame.codes + first + column);
      const Two<T> theirs = relative ? two(relative + first + column) : Two<T>{1, 1};
      const Two<T> weights[2] = {two(task.weights[0] + first + column), task.count == 2 ? two(task.weights[1] + first + column) : Two<T>{}};
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const int32_t row = place.row(r / 2);
        if (!selected(Negatives, place.code[r / 2], r % 2 ? codes.y : codes.x, row, first + column + r % 2)) continue;
        T e[1];
        exponentials(pairs[r], e);
        const T of = task.transposed ? (r % 2 ? theirs.y : theirs.x) : relative ? relative[row] : T(1), value = phi.value(max(e[0], least<T>) * of, task.times_e);
#pragma unroll
        for (int k = 0; k < 2; ++k) sums[r / 2][k] = fused(value, r % 2 ? weights[k].y : weights[k].x, sums[r / 2][k]);
        top[r / 2] = max(top[r / 2], pairs[r]);
      }
    });
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int k = 0; k < 2; ++k) total[half][k] += static_cast<double>(sums[half][k]);
  }
};
template <typename P, bool resident>
__global__ void __launch_bounds__(threads_of<P>, 1) hard_moments_kernel(const __grid_constant__ Frame frame, const double scale, const __grid_constant__ DeviceHardMoments<typename P::Number> task, double* partial,
                                                                    typename P::Number* partial_maximum) {
  if (frame.idle()) return;
  const Place<P> place(frame);
  HardVisitor<P> visitor(frame, place, task, scale);
  Slice<P> g;
  walk<P, resident, false>(frame, place, Negatives, visitor, g);
  store_sums(frame, place, visitor.total, task.count, task.sums, partial);
  if (!task.maximum) return;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    auto top = visitor.top[half];
    for (int step = 1; step < 4; step *= 2) top = max(top, __shfl_xor_sync(full_warp, top, step));
    if (lane() % 4 != 0) continue;
    if (frame.splits > 1) partial_maximum[place.split * frame.owned + place.row(half)] = top;
    else if (place.code[half] >= 0) task.maximum[place.row(half)] = max(task.maximum[place.row(half)], top);
  }
}

template <typename P>
struct HardWeights {
  using T = typename P::Number;
  const Frame& frame;
  const Place<P>& place;
  const DeviceHardMomentsGradient<T>& task;
  Exponentials<T, 1> exponentials;
  Phi<T> phi;

  __device__ __forceinline__ void tile(Tile<P>& s, int32_t first, Class) const {
    const T* const relative = task.exponential.relative;
    each_two(s, [&](int column, T (&pairs)[4]) {
      const Two<int32_t> codes = two(frame.codes + first + column);
      const Two<T> theirs = relative ? two(relative + first + column) : Two<T>{1, 1};
      T weights[4] = {};
      for (int t = 0; t < task.count; ++t) {
        const auto& term = task.terms[t];
        const T centre = static_cast<T>(term.centre ? *term.centre : 0);
        const Two<T> q = two(term.weights + first + column), other = two(term.other + first + column);
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          const int32_t row = place.row(r / 2);
          T e[1];
          exponentials(pairs[r], e);
          e[0] = max(e[0], least<T>);
          const T to_row = phi.derivative(relative ? e[0] * relative[row] : e[0], term.times_e) - centre;
          const T to_column = relative ? phi.derivative(e[0] * (r % 2 ? theirs.y : theirs.x), term.times_e) - centre : to_row;
          weights[r] = fused(to_row * (r % 2 ? q.y : q.x), term.own[row], weights[r]);
          weights[r] = fused(to_column * term.weights[row], r % 2 ? other.y : other.x, weights[r]);
        }
      }
#pragma unroll
      for (int r = 0; r < 4; ++r) pairs[r] = selected(Negatives, place.code[r / 2], r % 2 ? codes.y : codes.x, place.row(r / 2), first + column + r % 2) ? weights[r] : T(0);
    });
  }
};
template <typename P, bool resident>
__global__ void __launch_bounds__(threads_of<P>, 1) hard_moments_gradient_kernel(const __grid_constant__ Frame frame, const double scale, const __grid_constant__ DeviceHardMomentsGradient<typename P::Number> task,
                                                                             typename P::Number* partial) {
  if (frame.idle()) return;
  const Place<P> place(frame);
  const HardWeights<P> visitor{frame, place, task, plain_exponentials<typename P::Number>(scale, *task.exponential.reference), Phi<typename P::Number>(task.exponential)};
  Slice<P> g = {};
  walk<P, resident, true>(frame, place, Negatives, visitor, g);
  store_slice(frame, place, g, task.gradient, partial);
}

// ---- the host's side --------------------------------------------------------------------------------------------------------------------

template <typename P>
__global__ void pack_kernel(const typename P::Number* z, int64_t n, int64_t d, int pieces, const double* inverse_lengths, const int32_t* places, int64_t part_bytes, char* rows) {
  using T = typename P::Number;
  constexpr int width = 8 * P::chunk_groups / 8;  // numbers of a piece
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x, i = index / pieces, k0 = index % pieces * width;
  if (i >= n) return;
  const double inverse = inverse_lengths ? inverse_lengths[i] : 1;
  T x[width];
#pragma unroll
  for (int k = 0; k < width; ++k) x[k] = k0 + k < d ? static_cast<T>(z[i * d + k0 + k] * inverse) : T(0);
  uint4 packed[P::parts];
  P::pack(x, packed);
  const int64_t row = places ? places[i] : i, piece = index % pieces;
  char* const to = rows + (row / chunk_rows * (pieces / 8) + piece / 8) * chunk_bytes + piece_at(static_cast<int>(row % chunk_rows), static_cast<int>(piece % 8));
#pragma unroll
  for (int part = 0; part < P::parts; ++part) *reinterpret_cast<uint4*>(to + part * part_bytes) = packed[part];
}

/// P by whole tiles; Q by chunks, where registers also hold on to what passes.
template <typename P, typename Q, Products products>
struct Portable {
  using T = typename P::Number;
  static constexpr int chunk_dimensions = 8 * P::chunk_groups;
  static_assert(chunk_dimensions * element_bytes(products) == chunk_row_bytes && P::parts == parts_of(products) && block_rows % rows_of<P> == 0 && block_rows % rows_of<Q> == 0);

  static void pack(const T* z, int64_t n, int64_t d, const double* inverse_lengths, const int32_t* places, int64_t blocks, void* rows, Stream stream) {
    constexpr int threads = 256;
    const int64_t pieces = padded_dimensions(d) * element_bytes(products) / 16, work = n * pieces;
    if (work == 0) return;
    launch("pack", pack_kernel<P>, static_cast<unsigned>((work + threads - 1) / threads), threads, 0, stream, z, n, d, static_cast<int>(pieces), inverse_lengths, places,
           packed_bytes(products, blocks, d) / P::parts, static_cast<char*>(rows));
  }

  /// A function's launches. The workspace has room for partial sums, then for maxima and gradients.
  struct Call {
    Frame frame;
    const Context& context;
    double scale;
    bool resident;
    int64_t width;
    double* sums;
    T *maximum, *gradient;
    Call(const DeviceMatrix& z, const Visits& visits, const Context& context)
        : frame{static_cast<const char*>(z.rows), packed_bytes(products, z.blocks, z.d) / P::parts, static_cast<int>(padded_dimensions(z.d) / chunk_dimensions), static_cast<int>(z.blocks),
                z.codes, z.strips, visits.offsets, visits.ranges, visits.splits, 0, z.blocks * block_rows, visits.row_blocks * block_rows, context.flag, context.value},
          context(context), scale(z.scale), resident(whole && z.d <= 128), width(padded_dimensions(z.d)), sums(static_cast<double*>(context.workspace)),
          maximum(reinterpret_cast<T*>(sums + 2 * visits.splits * frame.owned)), gradient(maximum + 2 * visits.splits * frame.owned) {}
    /// Row blocks first .. last - 1; a thread block for each slice of the gradient, if there is one (`back`).
    template <typename Kernel, typename... Arguments>
    void run(const char* name, bool back, Kernel* by_tiles, Kernel* by_chunks, int64_t first, int64_t last, const Arguments&... arguments) const {
      const int slices = back ? (frame.chunks + P::slice_chunks - 1) / P::slice_chunks : 1;
      const int64_t rows = resident ? rows_of<P> : rows_of<Q>, strips = rows / chunk_rows, warps = resident ? P::warps : Q::warps;
      const int64_t shared = chunk_bytes * P::parts * (resident ? (strips + 2) * frame.chunks : 2 * (strips + 1)) + (back ? warps * P::scratch_bytes : 0);
      Frame own = frame;
      own.first_block = static_cast<int>(first);
      if (first < last)
        launch(name, resident ? by_tiles : by_chunks, dim3(static_cast<unsigned>((last - first) * block_rows / rows * frame.splits), static_cast<unsigned>(slices)),
               static_cast<unsigned>(32 * warps), static_cast<size_t>(shared), context.stream, own, scale, arguments...);
    }
    /// to[k, row] from the splits' [k, row], for the rows of the first `blocks`.
    template <typename U>
    void join(Joining joining, const U* partials, U* to, int count, int64_t numbers, int64_t blocks) const {
      if (frame.splits > 1 && blocks > 0)
        join_splits(joining, partials, to, {frame.splits, count, numbers, frame.owned, frame.R, blocks * block_rows, frame.codes}, context);
    }
    int64_t blocks() const { return frame.owned / block_rows; }
  };
  static constexpr bool whole = products != Products::Float64;  // there are kernels for rows and tiles that are in shared memory as a whole

  static void log_moments(const DeviceMatrix& z, const DeviceLogMoments<T>& task, const Visits& visits, const Context& context) {
    const Call call(z, visits, context);
    const int64_t attracted = task.attraction ? min(task.attracted, call.blocks()) : 0;
    call.run("log_moments with attraction", true, log_moments_kernel<P, whole, 1, true>, log_moments_kernel<Q, false, 1, true>, 0, attracted, task, call.sums, call.gradient);
    if (task.count == 1) call.run("log_moments", false, log_moments_kernel<P, whole, 1, false>, log_moments_kernel<Q, false, 1, false>, attracted, call.blocks(), task, call.sums, call.gradient);
    else call.run("log_moments of two powers", false, log_moments_kernel<P, whole, 2, false>, log_moments_kernel<Q, false, 2, false>, attracted, call.blocks(), task, call.sums, call.gradient);
    call.join(Joining::Sums, call.sums, task.sums, task.count, 1, call.blocks());
    call.join(Joining::Sums, call.gradient, task.attraction, 1, call.width, attracted);
  }
  static void log_moments_gradient(const DeviceMatrix& z, const DeviceLogMomentsGradient<T>& task, const Visits& visits, const Context& context) {
    const Call call(z, visits, context);
    if (task.count == 1) call.run("log_moments_gradient", true, log_moments_gradient_kernel<P, whole, 1>, log_moments_gradient_kernel<Q, false, 1>, 0, call.blocks(), task, call.gradient);
    else call.run("log_moments_gradient of two powers", true, log_moments_gradient_kernel<P, whole, 2>, log_moments_gradient_kernel<Q, false, 2>, 0, call.blocks(), task, call.gradient);
    call.join(Joining::Sums, call.gradient, task.gradient, 1, call.width, call.blocks());
  }
  static void running_log_moments(const DeviceMatrix& z, const DeviceRunningLogMoments& task, const Visits& visits, const Context& context) {
    const Call call(z, visits, context);
    call.run("running_log_moments", false, running_log_moments_kernel<P, whole>, running_log_moments_kernel<Q, false>, 0, call.blocks(), task, call.sums);
    call.join(Joining::LogSums, call.sums, task.log_sums, task.count, 1, call.blocks());
  }
  static void running_log_moments_gradient(const DeviceMatrix& z, const DeviceRunningLogMomentsGradient<T>& task, const Visits& visits, const Context& context) {
    const Call call(z, visits, context);
    call.run("running_log_moments_gradient", true, running_log_moments_gradient_kernel<P, whole>, running_log_moments_gradient_kernel<Q, false>, 0, call.blocks(), task, call.gradient);
    call.join(Joining::Sums, call.gradient, task.gradient, 1, call.width, call.blocks());
  }
  static void hard_moments(const DeviceMatrix& z, const DeviceHardMoments<T>& task, const Visits& visits, const Context& context) {
    const Call call(z, visits, context);
    call.run("hard_moments", false, hard_moments_kernel<P, whole>, hard_moments_kernel<Q, false>, 0, call.blocks(), task, call.sums, call.maximum);
    call.join(Joining::Sums, call.sums, task.sums, task.count, 1, call.blocks());
    if (task.maximum) call.join(Joining::Maxima, call.maximum, task.maximum, 1, 1, call.blocks());
  }
  static void hard_moments_gradient(const DeviceMatrix& z, const DeviceHardMomentsGradient<T>& task, const Visits& visits, const Context& context) {
    const Call call(z, visits, context);
    call.run("hard_moments_gradient", true, hard_moments_gradient_kernel<P, whole>, hard_moments_gradient_kernel<Q, false>, 0, call.blocks(), task, call.gradient);
    call.join(Joining::Sums, call.gradient, task.gradient, 1, call.width, call.blocks());
  }
  static constexpr DeviceSimilarity<T> table = [] {
    DeviceSimilarity<T> table{pack, log_moments, log_moments_gradient, nullptr, nullptr, hard_moments, hard_moments_gradient};
    if constexpr (has_running(products)) table.running_log_moments = running_log_moments, table.running_log_moments_gradient = running_log_moments_gradient;
    return table;
  }();
};

}  // namespace a_infonce::kernels::cuda

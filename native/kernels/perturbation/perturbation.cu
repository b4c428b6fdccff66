#define A_INFONCE_ISA cuda
#include "kernels/perturbation/perturbation_cuda.h"
#include "kernels/cuda/reduce.h"
#include "kernels/perturbation/arithmetic.h"
#include "kernels/random.h"

namespace a_infonce::kernels::cuda {
namespace {

constexpr unsigned threads = 256;

/// Of kernels with a block a row: enough threads for what they hold in flight, no more than there is work for.
constexpr unsigned most_row_threads = 1024;
unsigned row_threads(int64_t size) { return size < 4096 ? threads : most_row_threads; }
__device__ int64_t thread_number() { return int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }

template <typename Scalar, int count>
struct alignas(count * sizeof(Scalar)) Pack { Scalar value[count]; };

template <StepOrder order, typename Scalar>
__device__ Scalar linf_moved(Scalar from, Scalar g, Scalar center, Scalar epsilon, Scalar step) {
  const Scalar moved = from + (g > 0 ? step : g < 0 ? -step : Scalar{0});
  return order == StepOrder::ProjectThenClamp ? clamp(project_linf(moved, center, epsilon), Scalar{0}, Scalar{1})
                                              : project_linf(clamp(moved, Scalar{0}, Scalar{1}), center, epsilon);
}

/// `count` numbers a thread, in one access of 16 bytes where the memory is aligned to it.
template <typename Scalar, StepOrder order, int count>
__global__ void linf_step_kernel(Scalar* x_adv, const Scalar* grad, const Scalar* x, int64_t n, int64_t size, Scalar epsilon, Scalar step, bool* bad) {
  using Numbers = Pack<Scalar, count>;
  const int64_t first = thread_number() * count;
  if (first + count <= n) {
    Numbers a = *reinterpret_cast<const Numbers*>(x_adv + first);
    const Numbers g = *reinterpret_cast<const Numbers*>(grad + first), c = *reinterpret_cast<const Numbers*>(x + first);
#pragma unroll
    for (int k = 0; k < count; ++k) {
      if (g.value[k] - g.value[k] != 0) bad[(first + k) / size] = true;
      a.value[k] = linf_moved<order>(a.value[k], g.value[k], c.value[k], epsilon, step);
    }
    *reinterpret_cast<Numbers*>(x_adv + first) = a;
  } else {
    for (int64_t i = first; i < n; ++i) {
      if (grad[i] - grad[i] != 0) bad[i / size] = true;
      x_adv[i] = linf_moved<order>(x_adv[i], grad[i], x[i], epsilon, step);
    }
  }
}

/// A block a row. The perturbation takes the place of x_adv on the way.
template <typename Scalar, StepOrder order>
__global__ void __launch_bounds__(most_row_threads, 1) l2_step_kernel(Scalar* x_adv, const Scalar* grad, const Scalar* x, int64_t size, double epsilon, double step_size, bool* bad) {
  double* const room = shared_memory<double>();
  const int64_t first = blockIdx.x * size;
  x_adv += first, grad += first, x += first;
  double unit = 1;
  if constexpr (sizeof(Scalar) == 8) {
    int64_t largest = 0;
    for (int64_t i = threadIdx.x; i < size; i += blockDim.x) {
      const int64_t bits = bits_of_size(grad[i]);
      largest = bits > largest ? bits : largest;
    }
    unit = unit_of(reduce(largest, reinterpret_cast<int64_t*>(room), [](int64_t a, int64_t b) { return a > b ? a : b; }));
  }
  double squared = 0;
  for (int64_t i = threadIdx.x; i < size; i += blockDim.x) {
    const double g = static_cast<double>(grad[i]) * unit;
    squared += g * g;
  }
  squared = sum(squared, room);
  if (!(squared - squared == 0)) {
    if (threadIdx.x == 0) bad[blockIdx.x] = true;
    return;
  }
  const Factors by = factors<Scalar>(unit, squared, step_size);
  const auto first_factor = static_cast<Scalar>(by.first), second_factor = static_cast<Scalar>(by.second);
  double moves = 0;
  for (int64_t i = threadIdx.x; i < size; i += blockDim.x) {
    const Scalar move = grad[i] * first_factor * second_factor, from = x_adv[i], c = x[i];
    const Scalar change = order == StepOrder::ProjectThenClamp ? (from - c) + move : clamp(from + move, Scalar{0}, Scalar{1}) - c;
    x_adv[i] = change;
    moves += static_cast<double>(change) * static_cast<double>(change);
  }
  const double norm = square_root(sum(moves, room)), radius = epsilon * RADIUS_MARGIN<Scalar>;
  const Scalar scale = norm > radius ? static_cast<Scalar>(radius / norm) : Scalar{1};
  for (int64_t i = threadIdx.x; i < size; i += blockDim.x) {
    const Scalar value = add_toward(x[i], x_adv[i] * scale);
    x_adv[i] = order == StepOrder::ProjectThenClamp ? clamp(value, Scalar{0}, Scalar{1}) : value;
  }
}

/// A thread a block of four words.
struct Quad {
  __device__ explicit Quad(int64_t size) {
    const int64_t a_row = (size + 3) / 4, number = thread_number();
    row = number / a_row, block = number - row * a_row;
  }
  int64_t row, block;
};

template <typename Scalar>
__global__ void linf_start_kernel(Scalar* x_adv, const Scalar* x, const int64_t* samples, int64_t rows, int64_t size, Scalar epsilon, uint64_t seed, uint64_t first_block, bool clamp_start) {
  const Quad at(size);
  if (at.row >= rows) return;
  const random::Block words = random::block(seed, static_cast<uint64_t>(samples[at.row]), first_block + static_cast<uint64_t>(at.block));
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const int64_t i = 4 * at.block + k;
    if (i >= size) return;
    const Scalar u = 2 * static_cast<Scalar>(random::to_uniform(words.word[k])) - 1, c = x[at.row * size + i], start = project_linf(c + epsilon * u, c, epsilon);
    x_adv[at.row * size + i] = clamp_start ? clamp(start, Scalar{0}, Scalar{1}) : start;
  }
}

template <typename Scalar>
__device__ void four_normals(uint64_t seed, uint64_t stream, uint64_t block, Scalar (&normal)[4]) {
  using Word = typename BitsOf<Scalar>::Type;
  const random::Block words = random::block(seed, stream, block);
#pragma unroll
  for (int k = 0; k < 4; k += 2) normal_pairs(static_cast<Word>(words.word[k]), static_cast<Word>(words.word[k + 1]), normal[k], normal[k + 1]);
}

/// A block a row; the direction is drawn twice rather than kept.
template <typename Scalar>
__global__ void __launch_bounds__(most_row_threads, 1) l2_start_kernel(Scalar* x_adv, const Scalar* x, const int64_t* samples, int64_t size, double radius, uint64_t seed, uint64_t first_block, uint64_t radius_block,
                                bool clamp_start) {
  double* const room = shared_memory<double>();
  const auto sample = static_cast<uint64_t>(samples[blockIdx.x]);
  x_adv += blockIdx.x * size, x += blockIdx.x * size;
  double squared = 0;
  Scalar normal[4];
  for (int64_t block = threadIdx.x; 4 * block < size; block += blockDim.x) {
    four_normals(seed, sample, first_block + static_cast<uint64_t>(block), normal);
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (4 * block + k < size) squared += static_cast<double>(normal[k]) * static_cast<double>(normal[k]);
  }
  squared = sum(squared, room);
  const double share = random::to_uniform(random::block(seed, sample, radius_block).word[0]);
  const auto scale = static_cast<Scalar>(squared > 0 ? share * radius / square_root(squared) : 0);
  for (int64_t block = threadIdx.x; 4 * block < size; block += blockDim.x) {
    four_normals(seed, sample, first_block + static_cast<uint64_t>(block), normal);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int64_t i = 4 * block + k;
      if (i >= size) break;
      const Scalar start = add_toward(x[i], normal[k] * scale);
      x_adv[i] = clamp_start ? clamp(start, Scalar{0}, Scalar{1}) : start;
    }
  }
}

template <typename Scalar>
__global__ void fill_uniform_kernel(Scalar* out, const int64_t* samples, int64_t rows, int64_t size, uint64_t seed) {
  const Quad at(size);
  if (at.row >= rows) return;
  const random::Block words = random::block(seed, static_cast<uint64_t>(samples[at.row]), static_cast<uint64_t>(at.block));
#pragma unroll
  for (int k = 0; k < 4; ++k)
    if (4 * at.block + k < size) out[at.row * size + 4 * at.block + k] = static_cast<Scalar>(random::to_uniform(words.word[k]));
}

__global__ void fill_normal_kernel(double* out, const int64_t* samples, int64_t rows, int64_t size, uint64_t seed) {
  const Quad at(size);
  if (at.row >= rows) return;
  const random::Block words = random::block(seed, static_cast<uint64_t>(samples[at.row]), static_cast<uint64_t>(at.block));
  double normal[4];
  random::to_normal(words.word[0], words.word[1], normal[0], normal[1]);
  random::to_normal(words.word[2], words.word[3], normal[2], normal[3]);
#pragma unroll
  for (int k = 0; k < 4; ++k)
    if (4 * at.block + k < size) out[at.row * size + 4 * at.block + k] = normal[k];
}

template <typename Scalar, int count>
void linf_step_by(Scalar* x_adv, const Scalar* grad, const Scalar* x, int64_t n, int64_t size, double epsilon, double step_size, StepOrder order, bool* bad, Stream stream) {
  const auto kernel = order == StepOrder::ProjectThenClamp ? linf_step_kernel<Scalar, StepOrder::ProjectThenClamp, count> : linf_step_kernel<Scalar, StepOrder::ClampThenProject, count>;
  launch("linf_step", kernel, blocks_for((n + count - 1) / count, threads), dim3(threads), 0, stream, x_adv, grad, x, n, size, round_down<Scalar>(epsilon), static_cast<Scalar>(step_size), bad);
}

}  // namespace

template <typename Scalar>
void linf_step(Scalar* x_adv, const Scalar* grad, const Scalar* x, int64_t rows, int64_t size, double epsilon, double step_size, StepOrder order, bool* bad, Stream stream) {
  const bool aligned = (reinterpret_cast<uintptr_t>(x_adv) | reinterpret_cast<uintptr_t>(grad) | reinterpret_cast<uintptr_t>(x)) % 16 == 0;
  (aligned ? linf_step_by<Scalar, 16 / sizeof(Scalar)> : linf_step_by<Scalar, 1>)(x_adv, grad, x, rows * size, size, epsilon, step_size, order, bad, stream);
}

template <typename Scalar>
void l2_step(Scalar* x_adv, const Scalar* grad, const Scalar* x, int64_t rows, int64_t size, double epsilon, double step_size, StepOrder order, bool* bad, Stream stream) {
  const auto kernel = order == StepOrder::ProjectThenClamp ? l2_step_kernel<Scalar, StepOrder::ProjectThenClamp> : l2_step_kernel<Scalar, StepOrder::ClampThenProject>;
  launch("l2_step", kernel, dim3(static_cast<unsigned>(rows)), dim3(row_threads(size)), reduce_bytes<double>, stream, x_adv, grad, x, size, epsilon, step_size, bad);
}

template <typename Scalar>
void linf_start(Scalar* x_adv, const Scalar* x, const int64_t* samples, int64_t rows, int64_t size, double epsilon, uint64_t seed, uint64_t restart, bool clamp_start, Stream stream) {
  launch("linf_start", linf_start_kernel<Scalar>, blocks_for(rows * ((size + 3) / 4), threads), dim3(threads), 0, stream, x_adv, x, samples, rows, size, round_down<Scalar>(epsilon), seed,
         first_block(restart), clamp_start);
}

template <typename Scalar>
void l2_start(Scalar* x_adv, const Scalar* x, const int64_t* samples, int64_t rows, int64_t size, double epsilon, uint64_t seed, uint64_t restart, bool clamp_start, Stream stream) {
  launch("l2_start", l2_start_kernel<Scalar>, dim3(static_cast<unsigned>(rows)), dim3(row_threads(size)), reduce_bytes<double>, stream, x_adv, x, samples, size,
         start_radius<Scalar>(epsilon), seed, first_block(restart), radius_block(restart), clamp_start);
}

template <typename Scalar>
void fill_uniform(Scalar* out, const int64_t* samples, int64_t rows, int64_t size, uint64_t seed, Stream stream) {
  launch("fill_uniform", fill_uniform_kernel<Scalar>, blocks_for(rows * ((size + 3) / 4), threads), dim3(threads), 0, stream, out, samples, rows, size, seed);
}

void fill_normal(double* out, const int64_t* samples, int64_t rows, int64_t size, uint64_t seed, Stream stream) {
  launch("fill_normal", fill_normal_kernel, blocks_for(rows * ((size + 3) / 4), threads), dim3(threads), 0, stream, out, samples, rows, size, seed);
}

#define A_INFONCE_INSTANTIATE(Scalar)                                                                                                                    \
  template void linf_step(Scalar*, const Scalar*, const Scalar*, int64_t, int64_t, double, double, StepOrder, bool*, Stream);                           \
  template void l2_step(Scalar*, const Scalar*, const Scalar*, int64_t, int64_t, double, double, StepOrder, bool*, Stream);                             \
  template void linf_start(Scalar*, const Scalar*, const int64_t*, int64_t, int64_t, double, uint64_t, uint64_t, bool, Stream);                         \
  template void l2_start(Scalar*, const Scalar*, const int64_t*, int64_t, int64_t, double, uint64_t, uint64_t, bool, Stream);                           \
  template void fill_uniform(Scalar*, const int64_t*, int64_t, int64_t, uint64_t, Stream);
A_INFONCE_INSTANTIATE(float)
A_INFONCE_INSTANTIATE(double)

}  // namespace a_infonce::kernels::cuda

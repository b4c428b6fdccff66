#include "kernels/terms/terms_cuda.h"
#include <algorithm>
#include <limits>
#include "kernels/cuda/reduce.h"
#include "kernels/rows/row_cuda.h"

namespace a_infonce::kernels::cuda {
namespace {

constexpr int threads = 128, warps = threads / 32;
constexpr int64_t few_views = 4;         // whose numbers a thread keeps by itself
// Numbers of scratch memory, where there are more.
#ifdef A_INFONCE_EMULATED
constexpr int64_t most_scratch = 1 << 14;
#else
constexpr int64_t most_scratch = 1 << 22;
#endif

__device__ __forceinline__ int64_t thread_index() { return static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x; }

/// Numbers of scratch memory an image: its rows' logs and derivatives by them for two moments, derivatives that nobody wants, and what plain_terms needs.
A_INFONCE_HOST_DEVICE constexpr int64_t scratch_of(int64_t views) { return 6 * views + 2 * views * views + terms_scratch(views); }

__global__ void weights_kernel(const Weighing by, double* full, double* detached, double* log_positive) {
  const int64_t cell = thread_index();
  if (cell >= by.views * by.views) return;
  const PairWeight weight = weight_of(by, cell / by.views, cell % by.views);
  full[cell] = weight.full, detached[cell] = weight.detached, log_positive[cell] = weight.log_positive;
}

__global__ void reference_kernel(double scale, double room, const Numbers* numbers, double* to) {
  const double reference = scale * (1 + 1e-6) * numbers->largest_square - room;  // rows were rounded
  if (threadIdx.x == 0) *to = reference > 0 && reference < static_cast<double>(INFINITY) ? reference : 0;
}

struct Powers {
  int count;
  double power[2];
};
Powers powers_of(int count, const double* powers) { return {count, {powers[0], count > 1 ? powers[1] : 0}}; }

__global__ void centres_kernel(const Powers powers, Numbers* numbers) {
  if (threadIdx.x < static_cast<unsigned>(powers.count)) numbers->centres[threadIdx.x] = exp(powers.power[threadIdx.x] * (numbers->mean - numbers->reference));
}

__global__ void known_kernel(const double* known, const Powers powers, const Places places, int64_t count, double* sums, int64_t rows, const Numbers* numbers) {
  const int64_t i = thread_index();
  if (i >= count) return;
  for (int p = 0; p < powers.count; ++p) sums[p * rows + places.second_place + i] += exp(known[p * count + i] - powers.power[p] * numbers->reference);
}

__device__ __forceinline__ void add(FirstRowPart& to, const FirstRowPart& from, const Powers& powers) {
  const double top = max(to.top, from.top);
  if (top == -static_cast<double>(INFINITY)) return;
#pragma unroll
  for (int p = 0; p < 2; ++p)
    if (p < powers.count) to.sums[p] = to.sums[p] * exp(powers.power[p] * (to.top - top)) + from.sums[p] * exp(powers.power[p] * (from.top - top));
  to.top = top;
}
template <typename T>
__global__ void first_row_kernel(const ViewRows<T> z, double scale, const Powers powers, FirstRowPart* parts) {  // a warp a row
  const int64_t first = z.places.second_place;
  FirstRowPart own{-static_cast<double>(INFINITY), {0, 0}};
  for (int64_t at = static_cast<int64_t>(blockIdx.x) * warps + warp(); at < z.second_count; at += static_cast<int64_t>(gridDim.x) * warps)
    if (at % z.places.batch != 0) add(own, {scale * (z.inverses[first] * z.inverses[first + at] * dot(z.second, z.second + at * z.d, z.d)), {1, 1}}, powers);
  FirstRowPart* const all = shared_memory<FirstRowPart>();
  if (lane() == 0) all[warp()] = own;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < warps; ++w) add(own, all[w], powers);
  parts[blockIdx.x] = own;
}
__global__ void check_known_kernel(const double* known, const Powers powers, const FirstRowPart* parts, int64_t count, int64_t rows, double scale, double epsilon, Numbers* numbers) {
  double* const room = shared_memory<double>();
  double top = -static_cast<double>(INFINITY);
  for (int64_t i = threadIdx.x; i < count; i += threads) top = max(top, parts[i].top);
  top = reduce(top, room, [](double a, double b) { return max(a, b); });
  if (top == -static_cast<double>(INFINITY)) return;  // one image
  for (int p = 0; p < powers.count; ++p) {
    double sum = 0;
    for (int64_t i = threadIdx.x; i < count; i += threads) sum += parts[i].sums[p] * exp(powers.power[p] * (parts[i].top - top));
    sum = cuda::sum(sum, room);
    const double rounding = 1e-3 + 16 * powers.power[p] * scale * (1 + 1e-6) * numbers->largest_square * epsilon;
    if (threadIdx.x == 0 && !(fabs(known[p * rows] - powers.power[p] * top - log(sum)) <= rounding)) numbers->wrong_sums = 1;
  }
}

template <typename T>
__global__ void log_sums_kernel(const MomentSums<T> sums, int64_t n, double* result) {
  const int64_t i = thread_index();
  for (int p = 0; i < n && p < sums.count; ++p) result[p * n + i] = sums.log_sum(p, i);
}
template <typename T>
__global__ void set_derivatives_kernel(const MomentSums<T> sums, int64_t n, const double* full, const double* detached) {
  const int64_t i = thread_index();
  for (int p = 0; i < n && p < sums.count; ++p) sums.set_derivative(p, i, full ? full[p * n + i] : 0, detached ? detached[p * n + i] : 0);
}

/// few: an image's numbers are the thread's own.
template <typename T, bool few>
__global__ void __launch_bounds__(threads, 1) log_moment_terms_kernel(const LogMomentTerms<T> task, double* scratch, double* losses) {
  const int64_t views = task.places.views, cells = views * views;
  const int count = task.negatives.count;
  double local[few ? scratch_of(few_views) : 1];
  double* const memory = few ? local : scratch + thread_index() * scratch_of(views);
  double *const log_sums = memory, *const by_full = memory + 2 * views, *const by_detached = by_full + 2 * views, *const unused = by_detached + 2 * views, *const working = unused + 2 * cells;
  double loss = 0;
  for (int64_t image = thread_index(); image < task.places.batch; image += static_cast<int64_t>(gridDim.x) * threads) {
    for (int64_t v = 0; v < views; ++v)
      for (int p = 0; p < count; ++p) log_sums[v * count + p] = task.negatives.log_sum(p, task.places.place(v, image));
    Derivatives ds{unused, unused + cells};
    if (task.full) ds = {task.full + image * cells, task.detached + image * cells};
    for (int64_t k = 0; k < cells; ++k) ds.full[k] = ds.detached[k] = 0;
    for (int64_t k = 0; k < 2 * views; ++k) by_full[k] = by_detached[k] = 0;
    loss += plain_terms(task.terms, count, task.similarity + image * cells, log_sums, ds, by_full, by_detached, working);
    if (!task.full) continue;
    for (int64_t v = 0; v < views; ++v)
      for (int p = 0; p < count; ++p) task.negatives.set_derivative(p, task.places.place(v, image), by_full[v * count + p], by_detached[v * count + p]);
  }
  loss = sum(loss, shared_memory<double>());
  if (threadIdx.x == 0) losses[blockIdx.x] = loss;
}

__global__ void loss_kernel(const double* losses, int64_t blocks, Numbers* numbers) {
  double loss = 0;
  for (int64_t i = threadIdx.x; i < blocks; i += threads) loss += losses[i];
  loss = sum(loss, shared_memory<double>());
  if (threadIdx.x == 0) numbers->loss = loss, numbers->infinite_loss = !(fabs(loss) < static_cast<double>(INFINITY));
}

template <typename T>
__global__ void hard_shifts_kernel(const HardTerms<T> task, Numbers* numbers) {
  const int64_t at = thread_index(), views = task.places.views, n = views * task.places.batch;
  if (at == 0) numbers->reference = task.scale;
  if (at >= task.rows) return;
  if (!task.relative || at >= n) {
    task.shift[at] = task.scale;
    if (task.relative) task.relative[at] = 1;
  } else {
    const double* const s = task.similarity + (task.places.image(at) * views + task.places.view(at)) * views;
    double shift = s[0];
    for (int64_t w = 1; w < views; ++w) shift = max(shift, s[w]);
    task.shift[at] = shift, task.relative[at] = static_cast<T>(exp(task.scale - shift));
  }
  if (task.maximum) task.maximum[at] = -static_cast<T>(INFINITY);
}
template <typename T>
__global__ void hard_raised_kernel(const HardTerms<T> task, Numbers* numbers) {
  const int64_t at = thread_index();
  if (at >= task.places.views * task.places.batch) return;
  const double shift = task.scale * static_cast<double>(task.maximum[at]);
  if (!(shift > task.shift[at])) return;
  task.shift[at] = shift, task.relative[at] = static_cast<T>(exp(task.scale - shift));
  numbers->larger = 1;
}
template <typename T>
__global__ void hard_weights_kernel(const HardTerms<T> task, const Numbers* numbers) {
  const int64_t at = thread_index(), views = task.places.views, n = views * task.places.batch;
  if (at >= task.rows) return;
  // q = 1 / m, m the mean over all columns: the positives and the row itself have En = 0.
  const double importance = (task.again && numbers->larger ? task.again : task.importance)[at];
  const double q = at < n ? static_cast<double>(n) / (importance + static_cast<double>(views) * pow(task.epsilon, task.terms.negative.beta)) : 0;
  task.q[at] = q, task.weight[at] = static_cast<T>(q);
}
template <typename T, bool few>
__global__ void __launch_bounds__(threads, 1) hard_terms_kernel(const HardTerms<T> task, double* scratch, double* losses) {
  const int64_t views = task.places.views, cells = views * views;
  double local[few ? 4 * few_views : 1];
  double* const memory = few ? local : scratch + thread_index() * scratch_of(views);
  double *const shifts = memory, *const totals = shifts + views, *const full = totals + views, *const detached = full + views;
  double loss = 0;
  for (int64_t image = thread_index(); image < task.places.batch; image += static_cast<int64_t>(gridDim.x) * threads) {
    for (int64_t v = 0; v < views; ++v) {
      const int64_t place = task.places.place(v, image);
      shifts[v] = task.shift[place], totals[v] = task.sums[place], full[v] = detached[v] = 0;
    }
    const Derivatives ds{task.full + image * cells, task.detached + image * cells};
    for (int64_t k = 0; k < cells; ++k) ds.full[k] = ds.detached[k] = 0;
    loss += kernels::hard_terms(task.terms, task.similarity + image * cells, shifts, totals, ds, full, detached);
    for (int64_t v = 0; v < views; ++v) {
      const int64_t place = task.places.place(v, image);
      task.other[1][place] = static_cast<T>(full[v]), task.by_detached[place] = static_cast<T>(detached[v]), task.own[1][place] = static_cast<T>(full[v] + detached[v]);
    }
  }
  loss = sum(loss, shared_memory<double>());
  if (threadIdx.x == 0) losses[blockIdx.x] = loss;
}
template <typename T>
__global__ void hard_slopes_kernel(const HardTerms<T> task) {
  const int64_t at = thread_index(), n = task.places.views * task.places.batch;
  if (at >= n) return;
  const double slope = -task.q[at] * task.q[at] / static_cast<double>(n), full = slope * task.by_q[at], detached = slope * task.by_q[task.rows + at];
  task.other[0][at] = static_cast<T>(full), task.own[0][at] = static_cast<T>(full + detached);
}
__global__ void hard_centres_kernel(double beta, double epsilon, Numbers* numbers) {  // the kernels' terms at the mean similarity
  if (threadIdx.x != 0) return;
  const double e = exp(numbers->mean - numbers->reference), x = e + epsilon, power = pow(x, beta), ratio = beta * e / x;
  numbers->centres[0] = power * ratio, numbers->centres[1] = power * e * (ratio + 1);
}

}  // namespace

void fill_weights(const Weighing& by, double* full, double* detached, double* log_positive, Stream stream) {
  launch("fill_weights", weights_kernel, blocks_for(by.views * by.views, threads), threads, 0, stream, by, full, detached, log_positive);
}

int64_t terms_blocks(int64_t batch, int64_t views) {
  const int64_t most = most_scratch / (threads * scratch_of(views)), blocks = blocks_for(batch, threads);
  return views <= few_views || blocks <= most ? blocks : most > 1 ? most : 1;
}
int64_t terms_workspace(int64_t batch, int64_t views) { return views <= few_views ? 0 : terms_blocks(batch, views) * threads * scratch_of(views); }

template <typename T>
void find_reference(double scale, double power, const Numbers* numbers, double* reference, Stream stream) {
  launch("find_reference", reference_kernel, 1, 32, 0, stream, scale, (sizeof(T) == 4 ? 40 : 300) / power, numbers, reference);
}
void find_centres(int count, const double* powers, Numbers* numbers, Stream stream) {
  launch("find_centres", centres_kernel, 1, 32, 0, stream, powers_of(count, powers), numbers);
}

void add_known_sums(const double* known, int count, const double* powers, const Places& places, double* sums, int64_t rows, const Numbers* numbers, Stream stream) {
  const int64_t each = (places.views - 1) * places.batch;
  launch("add_known_sums", known_kernel, blocks_for(each, threads), threads, 0, stream, known, powers_of(count, powers), places, each, sums, rows, numbers);
}
template <typename T>
void check_known_sums(const ViewRows<T>& z, const double* known, int count, const double* powers, double scale, FirstRowPart* parts, Numbers* numbers, Stream stream) {
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(blocks_for(z.second_count, warps), first_row_parts));
  launch("first_row", first_row_kernel<T>, blocks, threads, warps * sizeof(FirstRowPart), stream, z, scale, powers_of(count, powers), parts);
  launch("check_known_sums", check_known_kernel, 1, threads, reduce_bytes<double>, stream, known, powers_of(count, powers), static_cast<const FirstRowPart*>(parts), int64_t{blocks}, z.second_count, scale,
         static_cast<double>(std::numeric_limits<T>::epsilon()), numbers);
}
template <typename T>
void log_sums(const MomentSums<T>& sums, int64_t n, double* result, Stream stream) {
  launch("log_sums", log_sums_kernel<T>, blocks_for(n, threads), threads, 0, stream, sums, n, result);
}
template <typename T>
void set_derivatives(const MomentSums<T>& sums, int64_t n, const double* full, const double* detached, Stream stream) {
  launch("set_derivatives", set_derivatives_kernel<T>, blocks_for(n, threads), threads, 0, stream, sums, n, full, detached);
}

template <typename T>
void log_moment_terms(const LogMomentTerms<T>& task, double* scratch, double* losses, Stream stream) {
  auto* const kernel = task.places.views <= few_views ? log_moment_terms_kernel<T, true> : log_moment_terms_kernel<T, false>;
  launch("log_moment_terms", kernel, static_cast<unsigned>(terms_blocks(task.places.batch, task.places.views)), threads, reduce_bytes<double>, stream, task, scratch, losses);
}
void find_loss(const double* losses, int64_t blocks, Numbers* numbers, Stream stream) {
  launch("find_loss", loss_kernel, 1, threads, reduce_bytes<double>, stream, losses, blocks, numbers);
}

template <typename T>
void hard_shifts(const HardTerms<T>& task, Numbers* numbers, Stream stream) {
  launch("hard_shifts", hard_shifts_kernel<T>, blocks_for(task.rows, threads), threads, 0, stream, task, numbers);
}
template <typename T>
void hard_raised(const HardTerms<T>& task, Numbers* numbers, Stream stream) {
  launch("hard_raised", hard_raised_kernel<T>, blocks_for(task.rows, threads), threads, 0, stream, task, numbers);
}
template <typename T>
void hard_weights(const HardTerms<T>& task, const Numbers* numbers, Stream stream) {
  launch("hard_weights", hard_weights_kernel<T>, blocks_for(task.rows, threads), threads, 0, stream, task, numbers);
}
template <typename T>
void hard_terms(const HardTerms<T>& task, double* scratch, double* losses, Stream stream) {
  auto* const kernel = task.places.views <= few_views ? hard_terms_kernel<T, true> : hard_terms_kernel<T, false>;
  launch("hard_terms", kernel, static_cast<unsigned>(terms_blocks(task.places.batch, task.places.views)), threads, reduce_bytes<double>, stream, task, scratch, losses);
}
template <typename T>
void hard_slopes(const HardTerms<T>& task, Stream stream) {
  launch("hard_slopes", hard_slopes_kernel<T>, blocks_for(task.rows, threads), threads, 0, stream, task);
}
template <typename T>
void hard_centres(const HardTerms<T>& task, Numbers* numbers, Stream stream) {
  launch("hard_centres", hard_centres_kernel, 1, 32, 0, stream, task.terms.negative.beta, task.least_epsilon, numbers);
}

#define A_INFONCE_FOR(T)                                                                                           \
  template void find_reference<T>(double, double, const Numbers*, double*, Stream);                                \
  template void check_known_sums<T>(const ViewRows<T>&, const double*, int, const double*, double, FirstRowPart*, Numbers*, Stream); \
  template void log_sums<T>(const MomentSums<T>&, int64_t, double*, Stream);                                       \
  template void set_derivatives<T>(const MomentSums<T>&, int64_t, const double*, const double*, Stream);           \
  template void log_moment_terms<T>(const LogMomentTerms<T>&, double*, double*, Stream);                           \
  template void hard_shifts<T>(const HardTerms<T>&, Numbers*, Stream);                                             \
  template void hard_raised<T>(const HardTerms<T>&, Numbers*, Stream);                                             \
  template void hard_weights<T>(const HardTerms<T>&, const Numbers*, Stream);                                      \
  template void hard_terms<T>(const HardTerms<T>&, double*, double*, Stream);                                      \
  template void hard_slopes<T>(const HardTerms<T>&, Stream);                                                       \
  template void hard_centres<T>(const HardTerms<T>&, Numbers*, Stream);
A_INFONCE_FOR(float)
A_INFONCE_FOR(double)

}  // namespace a_infonce::kernels::cuda

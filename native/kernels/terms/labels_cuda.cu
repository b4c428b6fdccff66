#include "kernels/terms/labels_cuda.h"
#include "kernels/rows/row_cuda.h"

namespace a_infonce::kernels::cuda {
namespace {

constexpr int threads = 256, warps = threads / 32;
constexpr int sums_images = 8;  // that a block of sum_classes looks at

__global__ void arrange_kernel(const int64_t* labels, const int64_t* images, const Classes classes, int32_t* bounds, int64_t* rows, int32_t* codes, Numbers* numbers) {  // a thread an image
  const int64_t at = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (at >= classes.batch) return;
  const auto before = [&](auto belongs) {  // images that come first, of those for which that can be said
    int64_t low = 0, high = classes.batch;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (belongs(labels[middle])) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  const int64_t label = labels[at], first = before([label](int64_t other) { return other < label; }), last = before([label](int64_t other) { return other <= label; });
  bounds[2 * at] = static_cast<int32_t>(first), bounds[2 * at + 1] = static_cast<int32_t>(last);
  int64_t clean = classes.first_of(0) + at * classes.views_of(0);
  for (int64_t view = 0; view < classes.views; ++view) {
    const bool adversarial = view == classes.adversarial;
    const int64_t place = adversarial ? classes.first_of(1) + at : clean++;
    rows[place] = view * classes.batch + images[at], codes[place] = static_cast<int32_t>(2 * first + adversarial);
  }
  const int64_t positives = classes.views * (last - first) - 1;
  if (positives == 0) return;
  atomicAdd(&numbers->used, static_cast<int32_t>(classes.views));
  if (positives + 1 == classes.rows()) numbers->no_negatives = 1;
}

/// A block takes 32 dimensions of some images; its warps take the rows of a class in turn.
template <typename T>
__global__ void __launch_bounds__(threads, 1) sum_classes_kernel(const ViewRows<T> z, const Classes classes, double* sums) {
  double* const shared = shared_memory<double>();  // [warps, 32]
  const int64_t own = static_cast<int64_t>(blockIdx.y) * 32 + lane(), k = own < z.d ? own : 0;
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * sums_images, end = begin + sums_images < classes.batch ? begin + sums_images : classes.batch;
  for (int64_t image = begin; image < end; ++image) {
    if (classes.bounds[2 * image] != image) continue;  // not the first of its class
    for (int kind = 0; kind < 2; ++kind) {
      const int64_t views = classes.views_of(kind), first = classes.first_of(kind) + image * views, last = classes.first_of(kind) + classes.bounds[2 * image + 1] * views;
      double sum = 0;
#pragma unroll 4
      for (int64_t place = first + warp(); place < last; place += warps) sum += static_cast<double>(z.first[place * z.d + k]) * z.inverses[place];
      __syncthreads();  // the last sums have been read
      shared[threadIdx.x] = sum;
      __syncthreads();
      if (warp() != 0 || own >= z.d) continue;
      for (int w = 1; w < warps; ++w) sum += shared[w * 32 + lane()];
      sums[(2 * image + kind) * z.d + own] = sum;
    }
  }
}

template <typename T, typename U>
__global__ void __launch_bounds__(threads, 1) label_terms_kernel(const ViewRows<T> z, const LabelTask<T, U> task, double* losses, Numbers* numbers) {  // a warp a row
  constexpr bool narrow = sizeof(U) == sizeof(float), again = sizeof(T) != sizeof(U);
  if (again && numbers->positives == 0) return;
  if (blockIdx.x == 0 && threadIdx.x == 0 && numbers->used == 0) numbers->no_positives = 1;
  const int64_t place = static_cast<int64_t>(blockIdx.x) * warps + warp();
  const int64_t image = place < task.classes.rows() ? task.classes.image(place) : 0, count = task.classes.positives(image);
  double loss = 0;
  if (place < task.classes.rows() && count > 0) {
    const int kind = task.classes.kind(place);
    const double *const sums = task.sums + 2 * task.classes.bounds[2 * image] * z.d, *const of_kind = sums + kind * z.d, *const of_other = sums + (1 - kind) * z.d;
    double within = 0, across = 0;
    for (int64_t k = lane(); k < z.d; k += 32) {
      const double x = static_cast<double>(z.first[place * z.d + k]) * z.inverses[place];
      within += x * (of_kind[k] - x), across += x * of_other[k];
    }
    within = warp_sum(within), across = warp_sum(across);
    if (lane() == 0) {
      double log_positives[2] = {}, log_negatives[2] = {};
      for (int p = 0; p < task.negatives.count; ++p) log_negatives[p] = task.negatives.log_sum(p, place);
      for (int p = 0; p < task.kinds; ++p) log_positives[p] = task.positives[p].log_sum(0, place);
      const int64_t crosses = (count + 1) / task.classes.views * task.classes.views_of(1 - kind);
      const double bound = task.terms.scale * (1 + 1e-6) * numbers->largest_square, used = static_cast<double>(numbers->used);  // rows were rounded
      const LabelTerm term(task.terms, count, crosses, within, across, bound, log_positives, task.kinds, log_negatives);
      loss = term.value / used;
      if (narrow && !(term.distance > tight_distance)) numbers->positives = 1;
      for (int p = 0; task.negatives.own[0] && p < task.negatives.count; ++p) task.negatives.set_derivative(p, place, term.by_negatives[p] / used, 0);
      for (int p = 0; task.negatives.own[0] && p < task.kinds; ++p) task.positives[p].set_derivative(0, place, term.by_positives[p] / used, 0);
    }
  }
  loss = sum(loss, shared_memory<double>());
  if (threadIdx.x == 0) losses[blockIdx.x] = loss;
}

template <typename T>
__global__ void __launch_bounds__(threads, 1) finish_labels_kernel(const ViewRows<T> z, const LabelGradient<T> task, const Numbers* numbers) {  // a warp a row
  const int64_t place = static_cast<int64_t>(blockIdx.x) * warps + warp();
  if (place >= task.classes.rows()) return;
  const int kind = task.classes.kind(place);
  const int64_t image = task.classes.image(place), count = task.classes.positives(image), first = task.classes.bounds[2 * image];
  const double *const of_kind = task.sums + (2 * first + kind) * z.d, *const of_other = task.sums + (2 * first + 1 - kind) * z.d;
  // sum_i -within_i and so on, twice: each pair is a term of both of its rows.
  const double factor = count == 0 ? 0 : -2 * task.scale / (static_cast<double>(count) * numbers->used), across = task.weight * task.ends[kind], inverse = z.inverses[place];
  const T* const x = z.first + place * z.d;
  const auto by_row = [&](int64_t k) {  // d loss / d z
    double g = task.scale * static_cast<double>(task.by_sums[place * task.stride + k]);
    if (task.by_exact) g += task.scale * task.by_exact[place * task.stride + k];
    if (count > 0) g += factor * (of_kind[k] - inverse * static_cast<double>(x[k]) + across * of_other[k]);
    return g;
  };
  give_back(z, place, by_row, *task.by_loss, task.to + task.rows[place] * z.d);
}

}  // namespace

void arrange_classes(const int64_t* labels, const int64_t* images, const Classes& classes, int32_t* bounds, int64_t* rows, int32_t* codes, Numbers* numbers, Stream stream) {
  launch("arrange_classes", arrange_kernel, blocks_for(classes.batch, threads), threads, 0, stream, labels, images, classes, bounds, rows, codes, numbers);
}

template <typename T>
void sum_classes(const ViewRows<T>& z, const Classes& classes, double* sums, Stream stream) {
  launch("sum_classes", sum_classes_kernel<T>, dim3(blocks_for(classes.batch, sums_images), blocks_for(z.d, 32)), threads, threads * sizeof(double), stream, z, classes, sums);
}

int64_t label_blocks(int64_t rows) { return blocks_for(rows, warps); }
template <typename T, typename U>
void label_terms(const ViewRows<T>& z, const LabelTask<T, U>& task, double* losses, Numbers* numbers, Stream stream) {
  launch("label_terms", label_terms_kernel<T, U>, static_cast<unsigned>(label_blocks(task.classes.rows())), threads, reduce_bytes<double>, stream, z, task, losses, numbers);
}

template <typename T>
void finish_labels(const ViewRows<T>& z, const LabelGradient<T>& task, const Numbers* numbers, Stream stream) {
  launch("finish_labels", finish_labels_kernel<T>, blocks_for(task.classes.rows(), warps), threads, 0, stream, z, task, numbers);
}

#define A_INFONCE_FOR(T)                                                                        \
  template void sum_classes<T>(const ViewRows<T>&, const Classes&, double*, Stream);            \
  template void finish_labels<T>(const ViewRows<T>&, const LabelGradient<T>&, const Numbers*, Stream);
A_INFONCE_FOR(float)
A_INFONCE_FOR(double)
template void label_terms<float, float>(const ViewRows<float>&, const LabelTask<float, float>&, double*, Numbers*, Stream);
template void label_terms<float, double>(const ViewRows<float>&, const LabelTask<float, double>&, double*, Numbers*, Stream);
template void label_terms<double, double>(const ViewRows<double>&, const LabelTask<double, double>&, double*, Numbers*, Stream);

}  // namespace a_infonce::kernels::cuda

#include "kernels/terms/queue_cuda.h"
#include "kernels/rows/row_cuda.h"

namespace a_infonce::kernels::cuda {
namespace {

constexpr int threads = 256, warps = threads / 32;

template <typename T>
__global__ void __launch_bounds__(threads, 1) queue_terms_kernel(const QueueTask<T> task) {  // a warp a query
  const ViewRows<T>&q = task.queries, &k = task.keys;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * warps + warp(), n = q.first_count;
  double loss = 0;
  if (i < n) {
    const double x = task.scale * (q.inverses[i] * k.inverses[i] * dot(q.first + i * q.d, k.first + i * q.d, q.d));
    if (lane() == 0) {
      double log_sums[2] = {};
      for (int p = 0; p < task.negatives.count; ++p) log_sums[p] = task.negatives.log_sum(p, i);
      const QueueTerm term(x, log_sums, log(static_cast<double>(task.size)), task.negative);
      const double share = 1 / static_cast<double>(n);
      loss = share * term.value, task.by_positive[i] = share * term.by_x;
      for (int p = 0; task.negatives.own[0] && p < task.negatives.count; ++p) task.negatives.set_derivative(p, i, share * term.by_sums[p], 0);
    }
  }
  loss = sum(loss, shared_memory<double>());
  if (threadIdx.x == 0) task.losses[blockIdx.x] = loss;
}

template <typename T>
__global__ void __launch_bounds__(threads, 1) finish_beside_kernel(const ViewRows<T> z, int64_t place, int64_t count, const BesideGradient<T> task) {  // a warp a row
  const int64_t i = static_cast<int64_t>(blockIdx.x) * warps + warp();
  if (i >= count) return;
  const double factor = task.scale * (task.factors ? static_cast<double>(task.factors[i]) : 1), by = task.by ? task.scale * task.by[i] * task.beside.inverses[i] : 0;
  const auto by_row = [&](int64_t k) {  // d loss / d z
    double g = task.sums ? factor * static_cast<double>(task.sums[i * task.stride + k]) : 0;
    if (task.by) g += by * static_cast<double>(task.beside.first[i * z.d + k]);
    return g;
  };
  give_back(z, place + i, by_row, *task.by_loss, task.to + i * z.d);
}

}  // namespace

int64_t queue_blocks(int64_t queries) { return blocks_for(queries, warps); }
template <typename T>
void queue_terms(const QueueTask<T>& task, Stream stream) {
  launch("queue_terms", queue_terms_kernel<T>, static_cast<unsigned>(queue_blocks(task.queries.first_count)), threads, reduce_bytes<double>, stream, task);
}
template <typename T>
void finish_beside(const ViewRows<T>& z, int64_t place, int64_t count, const BesideGradient<T>& task, Stream stream) {
  launch("finish_beside", finish_beside_kernel<T>, blocks_for(count, warps), threads, 0, stream, z, place, count, task);
}

#define A_INFONCE_FOR(T)                               \
  template void queue_terms<T>(const QueueTask<T>&, Stream); \
  template void finish_beside<T>(const ViewRows<T>&, int64_t, int64_t, const BesideGradient<T>&, Stream);
A_INFONCE_FOR(float)
A_INFONCE_FOR(double)

}  // namespace a_infonce::kernels::cuda

// What runs the similarity kernels: blocks of rows packed for them, and the order in which pairs of blocks are visited.
#pragma once
#include <ATen/Parallel.h>
#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <thread>
#include <vector>
#include "kernels/similarity/similarity.h"

namespace a_infonce::ops {

/// Scratch memory of this thread, kept between calls.
template <typename T>
T* workspace() {
  constexpr size_t alignment = 64;
  struct Deleter {
    void operator()(T* p) const { operator delete[](p, std::align_val_t(alignment)); }
  };
  static thread_local std::unique_ptr<T[], Deleter> memory(static_cast<T*>(operator new[](kernels::workspace_elements * sizeof(T), std::align_val_t(alignment))));
  return memory.get();
}

/// Lets the other hardware thread of a core work while this one waits.
inline void pause() {
  __builtin_ia32_pause();
}

/// body(I, J) for every pair of blocks I <= J in the rounds of a tournament: each block plays once a round, itself first. A task waits for the tasks of its two
/// blocks in earlier rounds and for nothing else, so what it writes to them is added in the same order whatever the number of threads. What a
/// task throws ends all of them.
template <typename Body>
void for_block_pairs(int64_t blocks, const Body& body) {
  const int64_t players = blocks + blocks % 2, half = players / 2, tasks = blocks + (players - 1) * half;
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  const auto played = std::make_unique<std::atomic<int64_t>[]>(players);  // rounds that each block has behind it
  played[players - 1] = players - blocks;                                   // one that is not there need not meet itself
  const auto work = [&] {
    for (int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) {
      // The circle method: the last player meets player `turn`, and players at equal distances from it on both sides meet one another. A block without a partner rests.
      int64_t I = task, J = task, round = 0;
      if (task >= blocks) {
        const int64_t turn = (task - blocks) / half, distance = (task - blocks) % half, circle = players - 1;
        round = turn + 1;
        I = distance == 0 ? circle : (turn + distance) % circle, J = (turn - distance + circle) % circle;
        if (I > J) std::swap(I, J);
      }
      for (const int64_t block : {I, J})  // tasks are handed out in order: those that this one waits for are running
        for (int spins = 0; played[block].load(std::memory_order_acquire) < round;) {
          if (failed.load(std::memory_order_relaxed)) return;
          ++spins > 200 ? std::this_thread::yield() : pause();
        }
      try {
        if (J < blocks) body(I, J);
      } catch (...) {
        failed.store(true, std::memory_order_relaxed);
        throw;
      }
      played[I].store(round + 1, std::memory_order_release);
      if (I != J) played[J].store(round + 1, std::memory_order_release);
    }
  };
  const int64_t workers = std::min<int64_t>(at::get_num_threads(), blocks);
  at::parallel_for(0, workers, 1, [&](int64_t first, int64_t last) {
    for (; first < last; ++first) work();
  });
}

/// body(block) for every block; `work`, in operations, decides whether waking other threads pays.
template <typename Body>
void for_blocks(int64_t blocks, int64_t work, const Body& body) {
  constexpr int64_t little = int64_t{1} << 17;
  at::parallel_for(0, blocks, work <= little ? blocks : 1, [&](int64_t first, int64_t last) {
    for (; first < last; ++first) body(first);
  });
}

/// Memory that is not initialised.
template <typename T>
struct Buffer {
  std::unique_ptr<T[]> data;
  Buffer() = default;
  explicit Buffer(int64_t size) : data(new T[size]) {}
  operator T*() const { return data.get(); }
};

/// Rows packed for the kernels, and what owns the memory. Panels are as wide as the instruction set that packed them: it is looked up once, since another thread
/// may choose another meanwhile. Rows come in segments, each of which begins with a block of its own.
template <typename T>
struct Pairs {
  const kernels::SimilarityKernels<T>* table;
  int64_t d, padded_d, blocks = 0, rows;  // rows = blocks * block_rows
  std::vector<int32_t> codes, sizes;
  std::vector<int64_t> first_block;  // of each segment
  Buffer<T> panels, row_data;
  double scale;

  /// Codes are the caller's to fill: padding has -1 already.
  Pairs(const std::vector<int64_t>& segments, int64_t d, double scale) : d(d), padded_d(kernels::round_up(d, kernels::lane_multiple)), scale(scale) {
    for (const int64_t size : segments) {
      first_block.push_back(blocks);
      for (int64_t first = 0; first < size; first += kernels::block_rows, ++blocks) sizes.push_back(static_cast<int32_t>(std::min(kernels::block_rows, size - first)));
    }
    rows = blocks * kernels::block_rows;
    codes.assign(rows, -1);
    use(kernels::similarity<T>());
  }
  /// From now on; what was packed is lost.
  void use(const kernels::SimilarityKernels<T>& kernels) {
    table = &kernels;
    panels = {}, row_data = {};
    panels = Buffer<T>(rows * table->panel_width(d)), row_data = Buffer<T>(rows * table->row_width(d));
  }
  /// Where row i of a segment is.
  int64_t place(size_t segment, int64_t i) const { return first_block[segment] * kernels::block_rows + i; }
  /// z: the contiguous rows of a block.
  void pack(int64_t block, const T* z) const {
    const int64_t first = block * kernels::block_rows;
    table->pack(z, sizes[block], d, panels + first * table->panel_width(d), row_data + first * table->row_width(d));
  }
  /// Gives up what the kernels read.
  void release() { panels = {}, row_data = {}; }
  kernels::Matrix<T> matrix() const { return {blocks, d, padded_d, panels, row_data, codes.data(), sizes.data(), scale}; }

  template <typename Task>
  using Kernel = void (*kernels::SimilarityKernels<T>::*)(const kernels::Matrix<T>&, const Task&, int64_t, int64_t, kernels::Ends, T*);
  /// (table->*kernel)(matrix, task, I, J, ends, ...) on every pair of blocks; ends_of(I, J) names the ends, 0 for a pair to leave out.
  template <typename Task, typename EndsOf>
  void run(Kernel<Task> kernel, const Task& task, const EndsOf& ends_of) const {
    const auto z = matrix();
    for_block_pairs(blocks, [&](int64_t I, int64_t J) {
      if (const auto ends = static_cast<kernels::Ends>(ends_of(I, J))) (table->*kernel)(z, task, I, J, ends, workspace<T>());
    });
  }
  /// (table->*kernel)(matrix, task, block, ...) on the first blocks.
  template <typename Task>
  void run_rows(void (*kernels::SimilarityKernels<T>::*kernel)(const kernels::Matrix<T>&, const Task&, int64_t, T*), const Task& task, int64_t first_blocks) const {
    const auto z = matrix();
    for_blocks(first_blocks, first_blocks * rows * d * kernels::block_rows, [&](int64_t block) { (table->*kernel)(z, task, block, workspace<T>()); });
  }
};

}  // namespace a_infonce::ops

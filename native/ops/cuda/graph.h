// Work as a graph of the device, after PyTorch's torch.cuda.graph. Under A_INFONCE_EMULATED, where the device is the CPU, the work is done again.
#pragma once
#include <ATen/core/Tensor.h>
#include <functional>
#include <memory>
#include "ops/backend.h"
#ifndef A_INFONCE_EMULATED
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/core/Event.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <string>
#include <unordered_map>
#include "error.h"
#endif

namespace a_infonce::ops {

#ifdef A_INFONCE_EMULATED

struct RepeatedWork final : Graph {
  explicit RepeatedWork(std::function<void()> work) : work(std::move(work)) {}
  void replay() override { work(); }
  const std::function<void()> work;
};
inline std::unique_ptr<Graph> record_graph(const at::Tensor&, const std::function<void()>& work) { return std::make_unique<RepeatedWork>(work); }
inline void work_on_own_stream(const at::Tensor&, const std::function<void()>& work) { work(); }

#else

struct CapturedWork final : Graph {
  at::cuda::CUDAGraph graph;
  void replay() override { graph.replay(); }
};

/// What a capture that failed leaves: the stream in it, the allocators with its pool.
inline void abandon_capture(at::cuda::CUDAGraph& graph, c10::DeviceIndex device, c10::MempoolId_t pool) {
  const auto tried = [](const auto& step) {
    try {
      step();
      return true;
    } catch (const c10::Error&) {
      return false;
    }
  };
  if (tried([&] { graph.capture_end(); })) return;  // it ended well, and the graph gives all back
  const bool open = tried([&] { c10::cuda::CUDACachingAllocator::endAllocateToPool(device, pool); });
  tried([&] { at::getHostAllocator(at::kCUDA)->end_allocate_to_pool(pool); });
  if (open) tried([&] { c10::cuda::CUDACachingAllocator::releasePool(device, pool); }), tried([&] { at::getHostAllocator(at::kCUDA)->release_pool(pool); });
  (void)cudaGetLastError();  // told of already
}

inline std::unique_ptr<Graph> record_graph(const at::Tensor& x, const std::function<void()>& work) {
  const c10::cuda::CUDAGuard guard(x.device());
  c10::cuda::device_synchronize();
  c10::cuda::CUDACachingAllocator::emptyCache();  // the graph has memory of its own
  auto recorded = std::make_unique<CapturedWork>();
  const auto pool = at::cuda::graph_pool_handle();
  // Other threads of this process, which take and give memory, go on meanwhile.
  recorded->graph.capture_begin(pool, cudaStreamCaptureModeThreadLocal);
  try {
    try {
      work();
      recorded->graph.capture_end();
    } catch (...) {
      abandon_capture(recorded->graph, x.device().index(), pool);
      throw;
    }
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const c10::Error& error) {
    const std::string why = error.what_without_backtrace();
    throw Error(ErrorKind::Operator, "a step cannot be recorded for a CUDA graph: " + why.substr(0, why.find('\n')));
  } catch (const Error& error) {
    if (error.kind != ErrorKind::Operator) throw;
    throw Error(ErrorKind::Operator, std::string("a step cannot be recorded for a CUDA graph: ") + error.what());
  }
  return recorded;
}

/// The same one each time: LibTorch keeps the memory of each stream apart.
inline c10::cuda::CUDAStream stream_of_thread(c10::DeviceIndex device) {
  thread_local std::unordered_map<c10::DeviceIndex, c10::cuda::CUDAStream> streams;
  if (const auto known = streams.find(device); known != streams.end()) return known->second;
  return streams.emplace(device, c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device)).first->second;
}

inline void work_on_own_stream(const at::Tensor& x, const std::function<void()>& work) {
  const auto device = x.device().index();
  const auto before = c10::cuda::getCurrentCUDAStream(device), own = stream_of_thread(device);
  c10::Event ready(c10::kCUDA), done(c10::kCUDA);
  ready.record(before), ready.block(own);
  try {
    const c10::cuda::CUDAStreamGuard guard(own);
    work();
  } catch (...) {
    (void)cudaStreamSynchronize(own);  // what it used is the caller's again
    throw;
  }
  done.record(own), done.block(before);
}

#endif

}  // namespace a_infonce::ops

// Work as a graph of the device, after PyTorch's torch.cuda.graph. Under A_INFONCE_EMULATED, where the device is the CPU, the work is done again.
#pragma once
#include <ATen/core/Tensor.h>
#include <functional>
#include <memory>
#include <utility>
#include <vector>
#include "ops/backend.h"
#ifndef A_INFONCE_EMULATED
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/core/Event.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include "../../device.h"  // not the one beside this
#include "error.h"
#endif

namespace a_infonce::ops {

#ifdef A_INFONCE_EMULATED

struct RepeatedWork final : Graph {
  RepeatedWork(std::vector<at::Tensor> tensors, std::function<void()> work) : Graph(std::move(tensors)), work(std::move(work)) {}
  void queue() override { work(); }
  const std::function<void()> work;
};
inline std::unique_ptr<Graph> record_graph(std::vector<at::Tensor> tensors, const std::function<void()>& work) {
  return std::make_unique<RepeatedWork>(std::move(tensors), work);
}
inline void work_on_own_stream(const at::Tensor&, const std::function<void()>& work) { work(); }

#else

struct CapturedWork final : Graph {
  using Graph::Graph;
  ~CapturedWork() override {
    const std::lock_guard lock(capture_mutex());  // the list of graphs that a device's generator keeps has no lock of its own
    graph.reset();
  }
  void queue() override { graph->replay(); }
  std::optional<at::cuda::CUDAGraph> graph{std::in_place};
};

/// What a capture that failed leaves: the stream in it, the allocators with its pool, the device's generator waiting for its end.
inline void abandon_capture(at::cuda::CUDAGraph& graph, const at::Tensor& x, c10::MempoolId_t pool) {
  const auto device = x.device().index();
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
  // Only the end of a capture that succeeds gives the generator back: one of a single operation, which is never run.
  tried([&] {
    at::cuda::CUDAGraph other;
    other.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    x.zero_();
    other.capture_end();
  });
}

inline std::unique_ptr<Graph> record_graph(std::vector<at::Tensor> tensors, const std::function<void()>& work) {
  const at::Tensor x = tensors.front();
  const c10::cuda::CUDAGuard guard(x.device());
  auto recorded = std::make_unique<CapturedWork>(std::move(tensors));
  const std::lock_guard lock(capture_mutex());
  c10::cuda::getCurrentCUDAStream().synchronize();
  c10::cuda::CUDACachingAllocator::emptyCache();  // the graph has memory of its own
  const auto pool = at::cuda::graph_pool_handle();
  // Other threads of this process, which take and give memory, go on meanwhile.
  recorded->graph->capture_begin(pool, cudaStreamCaptureModeThreadLocal);
  try {
    try {
      work();
      recorded->graph->capture_end();
    } catch (...) {
      abandon_capture(*recorded->graph, x, pool);
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
    const c10::cuda::CUDAGuard device_of_stream(device);
    (void)cudaStreamSynchronize(own);  // what it used is the caller's again
    throw;
  }
  done.record(own), done.block(before);
}

#endif

}  // namespace a_infonce::ops

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
inline int64_t emulated_recordings = 0;
struct RepeatingRecorder final : Recorder {
  void run(const std::function<void()>& work) override { work(); }
  std::unique_ptr<Graph> record(std::vector<at::Tensor> tensors, const std::function<void()>& work) override {
    ++emulated_recordings;
    return std::make_unique<RepeatedWork>(std::move(tensors), work);
  }
};
inline std::unique_ptr<Recorder> make_recorder(c10::Device) { return std::make_unique<RepeatingRecorder>(); }

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

/// Streams that nobody owns any more, to be taken again: LibTorch keeps the memory of each stream apart.
struct IdleStreams {
  std::mutex mutex;
  std::unordered_map<c10::DeviceIndex, std::vector<c10::cuda::CUDAStream>> of;
};
inline IdleStreams& idle_streams() {
  static auto* const idle = new IdleStreams;
  return *idle;
}
/// Not of LibTorch's pool, which gives each stream to many.
inline c10::cuda::CUDAStream take_stream(c10::DeviceIndex device) {
  {
    const std::lock_guard lock(idle_streams().mutex);
    if (auto& idle = idle_streams().of[device]; !idle.empty()) {
      const auto last = idle.back();
      idle.pop_back();
      return last;
    }
  }
  const c10::cuda::CUDAGuard guard(device);
  cudaStream_t made = nullptr;
  C10_CUDA_CHECK(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking));
  return c10::cuda::getStreamFromExternal(made, device);
}

class CapturingRecorder final : public Recorder {
 public:
  explicit CapturingRecorder(c10::DeviceIndex device) : stream_(take_stream(device)), pool_(at::cuda::graph_pool_handle()) {}
  ~CapturingRecorder() override {
    const std::lock_guard lock(idle_streams().mutex);
    idle_streams().of[stream_.device_index()].push_back(stream_);
  }

  void run(const std::function<void()>& work) override {
    const auto before = c10::cuda::getCurrentCUDAStream(stream_.device_index());
    c10::Event ready(c10::kCUDA), done(c10::kCUDA);
    ready.record(before), ready.block(stream_);
    try {
      const c10::cuda::CUDAStreamGuard guard(stream_);
      work();
    } catch (...) {
      const c10::cuda::CUDAGuard guard(stream_.device_index());
      (void)cudaStreamSynchronize(stream_);  // what it used is the caller's again
      throw;
    }
    done.record(stream_), done.block(before);
  }

  std::unique_ptr<Graph> record(std::vector<at::Tensor> tensors, const std::function<void()>& work) override {
    const at::Tensor x = tensors.front();
    auto recorded = std::make_unique<CapturedWork>(std::move(tensors));
    const std::lock_guard lock(capture_mutex());
    stream_.synchronize();
    c10::cuda::CUDACachingAllocator::emptyCache();  // graphs have memory of their own
    // Other threads of this process, which take and give memory, go on meanwhile.
    recorded->graph->capture_begin(pool_, cudaStreamCaptureModeThreadLocal);
    try {
      try {
        work();
        recorded->graph->capture_end();
      } catch (...) {
        abandon_capture(*recorded->graph, x, pool_);
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

 private:
  const c10::cuda::CUDAStream stream_;
  const c10::MempoolId_t pool_;  // of all graphs: one after the other they compute in the same memory
};

inline std::unique_ptr<Recorder> make_recorder(c10::Device device) { return std::make_unique<CapturingRecorder>(device.index()); }

#endif

}  // namespace a_infonce::ops

// What another device than the CPU does by kernels of its own. The library that brings a device registers its backend when it is loaded; the operators check their
// arguments, and ask for the backend where a tensor is on one.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/core/DeviceType.h>
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>
#include "kernels/augment/augment.h"
#include "kernels/fab/fab.h"
#include "kernels/perturbation/perturbation.h"
#include "kernels/square/square.h"

namespace a_infonce::ops {

struct KnownLogMoments;
struct CrossFactors;

/// The backends of one interface, by device type.
template <typename Backend>
class Backends {
  std::array<std::atomic<const Backend*>, static_cast<size_t>(c10::COMPILE_TIME_MAX_DEVICE_TYPES)> entries{};

 public:
  const Backend* of(c10::DeviceType device) const { return entries[static_cast<size_t>(device)].load(std::memory_order_acquire); }
  void add(c10::DeviceType device, const Backend* backend) { entries[static_cast<size_t>(device)].store(backend, std::memory_order_release); }
};

/// A card.
struct DeviceInfo {
  std::string name;
  int major, minor;  // of its architecture
  int64_t memory;    // bytes
};

/// Work on a device that was recorded, to be queued as a whole.
class Graph {
 public:
  /// `tensors`: those from outside that the work reads and writes, which keep their memory.
  explicit Graph(std::vector<at::Tensor> tensors) : tensors_(std::move(tensors)) {}
  virtual ~Graph() = default;
  /// With the same tensors, as they are now. Throws std::logic_error for others: the work would be done where it was recorded.
  void replay(const std::vector<at::Tensor>& tensors);

 private:
  virtual void queue() = 0;
  const std::vector<at::Tensor> tensors_;
};

/// A stream of a device, other than the default one and its owner's alone, and what is recorded there; one thread at a time. Libraries keep a workspace for each stream, whose address
/// graphs hold: they are replayed on no other, and go together, before this.
class Recorder {
 public:
  virtual ~Recorder() = default;
  /// Does the work on the stream, after what is queued on the current one, and before what will be.
  virtual void run(const std::function<void()>& work) = 0;
  /// Within `run`: records what `work` does with `tensors`, of which nothing happens yet. It was done before on this thread, so that libraries are set up. Throws Operator where it
  /// cannot be recorded: it waits for the device, say. After an error what else was recorded here is not to be replayed any more.
  virtual std::unique_ptr<Graph> record(std::vector<at::Tensor> tensors, const std::function<void()>& work) = 0;
};

/// Takes tensors that an operator has checked, all on one device of its kind, contiguous where it says so. Work is queued on the device's current stream, and nothing waits
/// for it.
struct Backend {
  virtual ~Backend() = default;
  virtual std::vector<DeviceInfo> devices() const { return {}; }
  /// What its kernels were compiled for.
  virtual std::string architectures() const { return {}; }
  /// Whether work on the device of x is recorded for a graph, not done: nothing can be read from the device then.
  virtual bool capturing(const at::Tensor& x) const = 0;
  virtual std::unique_ptr<Recorder> recorder(c10::Device device) const = 0;
  /// Throws Operator there, naming the operator, which takes numbers of the host along: they would be gone when the graph runs.
  void require_no_capture(const at::Tensor& x, const char* name) const;

  /// kernels/similarity. As ops::log_moments has it, of rows and codes that are checked but for what their numbers are; codes there or on the CPU.
  virtual c10::intrusive_ptr<KnownLogMoments> log_moments(const at::Tensor& z, const at::Tensor& codes, double scale, const std::vector<double>& powers, int64_t selection, CrossFactors factors) const = 0;

  // kernels/perturbation. x_adv, grad, x: [N, ...] of one dense layout, samples one after the other; `bad` bool [N], samples int64 [N], out [N, count].
  virtual void linf_step(const at::Tensor& x_adv, const at::Tensor& grad, const at::Tensor& x, double epsilon, double step_size, kernels::StepOrder order, const at::Tensor& bad) const = 0;
  virtual void l2_step(const at::Tensor& x_adv, const at::Tensor& grad, const at::Tensor& x, double epsilon, double step_size, kernels::StepOrder order, const at::Tensor& bad) const = 0;
  virtual void linf_start(const at::Tensor& x_adv, const at::Tensor& x, const at::Tensor& samples, double epsilon, uint64_t seed, uint64_t restart, bool clamp) const = 0;
  virtual void l2_start(const at::Tensor& x_adv, const at::Tensor& x, const at::Tensor& samples, double epsilon, uint64_t seed, uint64_t restart, bool clamp) const = 0;
  virtual void fill_uniform(const at::Tensor& out, const at::Tensor& samples, uint64_t seed) const = 0;
  virtual void fill_normal(const at::Tensor& out, const at::Tensor& samples, uint64_t seed) const = 0;  // out: float64

  /// kernels/augment. pixels uint8 [_, C, H, W], indices int64 [n], out float32 [n, C, size, size], contiguous; choices: n, of a box each that its image may have.
  virtual void augment(const at::Tensor& pixels, const at::Tensor& indices, const std::vector<kernels::augment::Choice>& choices, bool color_first, const at::Tensor& out) const = 0;

  /// kernels/fab. Contiguous; f [N], bad: bool [N].
  virtual void fab_step(const at::Tensor& z, const at::Tensor& x, const at::Tensor& w, const at::Tensor& f, kernels::FabNorm norm, double eta, double alpha_max, const at::Tensor& bad) const = 0;

  // kernels/square. Contiguous, [N, C, H, W] and u [N, _]; the tile is on the host.
  virtual void square_start_linf(const at::Tensor& out, const at::Tensor& x, const at::Tensor& u, double epsilon) const = 0;
  virtual void square_step_linf(const at::Tensor& out, const at::Tensor& best, const at::Tensor& x, const at::Tensor& u, double epsilon, int64_t side) const = 0;
  virtual void square_start_l2(const at::Tensor& out, const at::Tensor& x, const at::Tensor& u, const std::vector<double>& tile, double epsilon) const = 0;
  virtual void square_step_l2(const at::Tensor& out, const at::Tensor& best, const at::Tensor& x, const at::Tensor& u, const std::vector<double>& tile, double epsilon, int64_t side) const = 0;
};

/// Null for a device without one; the CPU has none but in tests. That of CUDA is brought by liba_infonce_cuda.so beside this library, which the first call opens:
/// throws Error{Load} where it is not there or does not load.
const Backend* backend(c10::DeviceType device);
void register_backend(c10::DeviceType device, const Backend* backend);

/// The backend that works on x: null on the CPU, which has the operator's own kernels. Throws ArgumentType, naming x, where neither has any.
const Backend* backend_of(const at::Tensor& x, const char* name);

}  // namespace a_infonce::ops

// A stand-in for the CUDA runtime, loaded before it (LD_PRELOAD), for machines without a GPU: what runs on the host runs as it is, and kernels do nothing. So it shows
// wrong devices, host code that touches memory of the device (a fault, as there), launches that no device takes, waits, errors, graphs and want of memory; of values
// it shows nothing. Streams are in order and done at once. The devices are like H100s.
//   CUDA_STAND_IN_DEVICES   how many (1)
//   CUDA_STAND_IN_MEMORY    bytes of each (80 GiB)
//   CUDA_STAND_IN_COUNTS    a file for the counts of runtime.h
//   CUDA_STAND_IN_TRACE     launches, calls, waits, copies, errors: says on stderr who asks for them
#include "runtime.h"
#include <cuda_runtime_api.h>
#include <cxxabi.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

/// What a stream does while it is captured: nothing then, and this when the graph runs.
struct CUgraphNode_st {
  std::function<void()> work;
};
struct CUgraph_st {
  std::vector<std::unique_ptr<CUgraphNode_st>> nodes;
};
struct CUgraphExec_st {
  std::vector<std::function<void()>> work;
};

namespace {

struct Capture {
  unsigned long long id;
  cudaStream_t origin;
  cudaStreamCaptureMode mode;
  std::thread::id thread;
  cudaGraph_t graph = new CUgraph_st;
  bool broken = false;
};

}  // namespace

struct CUstream_st {
  int device;
  bool blocking;  // for the legacy stream
  int priority;
  std::shared_ptr<Capture> capture;
};
struct CUevent_st {
  int device;
  std::shared_ptr<Capture> capture;
  std::chrono::steady_clock::time_point time;
};

namespace {

struct Allocation {
  size_t bytes;
  char* host;  // where the stand-in itself reads and writes it; null: memory of the host that is pinned
  int device;
};
struct Function {
  std::string name;
  size_t shared_bytes = 48 << 10;  // that a launch may ask for
};
struct Variable {
  size_t bytes;
  void* address;
};
struct Launch {
  dim3 grid, block;
  size_t shared_bytes;
  cudaStream_t stream;
};

constexpr size_t shared_bytes_at_most = 227 << 10;

struct State {
  std::recursive_mutex mutex;
  int devices = 1;
  size_t memory = size_t{80} << 30;
  bool open = false;  // to the host
  std::string traced;
  uint64_t* counts;
  std::vector<size_t> used;
  std::map<uintptr_t, Allocation> allocations;
  std::unordered_map<const void*, Function> functions;
  std::unordered_map<const void*, Variable> variables;
  std::vector<std::shared_ptr<Capture>> captures;  // that go on
  unsigned long long captured = 0;

  State() {
    if (const char* text = getenv("CUDA_STAND_IN_DEVICES")) devices = atoi(text);
    if (const char* text = getenv("CUDA_STAND_IN_MEMORY")) memory = strtoull(text, nullptr, 10);
    if (const char* text = getenv("CUDA_STAND_IN_TRACE")) traced = text;
    used.resize(devices);
    const size_t bytes = sizeof(uint64_t) * stand_in::Counts * devices;
    const char* path = getenv("CUDA_STAND_IN_COUNTS");
    const int file = path ? ::open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644) : -1;
    if (file >= 0 && ftruncate(file, bytes) != 0) abort();
    void* shared = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, file >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, file, 0);
    if (shared == MAP_FAILED) abort();
    counts = static_cast<uint64_t*>(shared);
    if (file >= 0) close(file);
  }
};
/// Never destroyed: libraries unload in any order.
State& state() {
  static State* const only = new State;
  return *only;
}
using Lock = std::lock_guard<std::recursive_mutex>;

thread_local int device = 0;
thread_local cudaError_t last = cudaSuccess;
thread_local cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;
thread_local std::vector<Launch> launches;

cudaError_t fail(cudaError_t error, const char* what) {
  stand_in::count(stand_in::Errors);
  stand_in::trace("errors", (std::string(what) + ": " + cudaGetErrorName(error)).c_str());
  return last = error;
}

CUstream_st* real(cudaStream_t stream) { return stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread ? nullptr : stream; }
Capture* capture_of(cudaStream_t stream) { return real(stream) ? stream->capture.get() : nullptr; }

/// The capture that keeps this thread from what a capture does not allow (cudaStreamCaptureMode in the manual): one of its own, or a global one of another thread's.
Capture* forbidding() {
  if (capture_mode == cudaStreamCaptureModeRelaxed) return nullptr;
  for (const auto& capture : state().captures) {
    const bool everywhere = capture->mode == cudaStreamCaptureModeGlobal && capture_mode == cudaStreamCaptureModeGlobal;
    if (capture->mode != cudaStreamCaptureModeRelaxed && (everywhere || capture->thread == std::this_thread::get_id())) return capture.get();
  }
  return nullptr;
}

/// For calls that a capture does not allow.
cudaError_t allowed(const char* what, cudaStream_t stream = cudaStreamPerThread) {
  const Lock lock(state().mutex);
  Capture* const capture = capture_of(stream) ? capture_of(stream) : forbidding();
  if (!capture) return cudaSuccess;
  capture->broken = true;
  return fail(cudaErrorStreamCaptureUnsupported, what);
}

/// Does it, or records it. Work on the legacy stream during a capture is refused, though the runtime lets it pass for streams that do not block: the graph would lack it.
cudaError_t queue(cudaStream_t stream, const char* what, std::function<void()> work) {
  const Lock lock(state().mutex);
  CUstream_st* const of = real(stream);
  if (of && of->device != device) return fail(cudaErrorInvalidResourceHandle, what);
  if (Capture* const capture = capture_of(stream)) {
    if (capture->broken) return fail(cudaErrorStreamCaptureInvalidated, what);
    capture->graph->nodes.emplace_back(new CUgraphNode_st{std::move(work)});
    return cudaSuccess;
  }
  if (Capture* const capture = of ? nullptr : forbidding()) {
    capture->broken = true;
    return fail(cudaErrorStreamCaptureImplicit, what);
  }
  work();
  return cudaSuccess;
}

/// The allocation that holds bytes from an address on; null: ordinary memory of the host. Where some are outside, `outside` is set.
const Allocation* allocation_of(const void* pointer, size_t bytes, bool& outside, char** here = nullptr) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  auto& all = state().allocations;
  auto found = all.upper_bound(address);
  if (found == all.begin()) return nullptr;
  --found;
  const size_t offset = address - found->first;
  if (offset >= found->second.bytes) return nullptr;
  if (offset + bytes > found->second.bytes) outside = true;
  if (here && found->second.host) *here = found->second.host + offset;
  return &found->second;
}

cudaError_t allocate(void** pointer, size_t bytes, const char* what) {
  const Lock lock(state().mutex);
  *pointer = nullptr;
  if (const auto error = allowed(what)) return error;
  if (bytes == 0) return cudaSuccess;
  const size_t page = 4096, rounded = (bytes + page - 1) / page * page;
  if (rounded < bytes || rounded > state().memory - state().used[device]) return fail(cudaErrorMemoryAllocation, what);
  // Twice the same pages: at the address of the device nobody may touch them, unless they are open.
  const int file = memfd_create("device memory", MFD_CLOEXEC);
  if (file < 0 || ftruncate(file, rounded) != 0) return fail(cudaErrorMemoryAllocation, what);
  void* const there = mmap(nullptr, rounded, state().open ? PROT_READ | PROT_WRITE : PROT_NONE, MAP_SHARED, file, 0);
  void* const here = mmap(nullptr, rounded, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (there == MAP_FAILED || here == MAP_FAILED) return fail(cudaErrorMemoryAllocation, what);
  state().used[device] += rounded;
  state().allocations[reinterpret_cast<uintptr_t>(there)] = {rounded, static_cast<char*>(here), device};
  stand_in::count(stand_in::Allocations);
  *pointer = there;
  return cudaSuccess;
}

cudaError_t release(void* pointer, const char* what) {
  const Lock lock(state().mutex);
  if (!pointer) return cudaSuccess;
  if (const auto error = allowed(what)) return error;
  const auto found = state().allocations.find(reinterpret_cast<uintptr_t>(pointer));
  if (found == state().allocations.end() || !found->second.host) return fail(cudaErrorInvalidValue, what);
  const auto [bytes, here, of] = found->second;
  munmap(pointer, bytes), munmap(here, bytes);
  state().used[of] -= bytes;
  state().allocations.erase(found);
  stand_in::count(stand_in::Frees);  // which waits for the device, too
  return cudaSuccess;
}

/// rows of bytes, apart by pitches. The kind is found out by the addresses; one that says something else is refused.
cudaError_t copy(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t bytes, size_t rows, cudaMemcpyKind kind, cudaStream_t stream, bool waits, const char* what) {
  const Lock lock(state().mutex);
  if (bytes == 0 || rows == 0) return cudaSuccess;
  bool outside = false;
  char *target = static_cast<char*>(to), *source = const_cast<char*>(static_cast<const char*>(from));
  const Allocation* const there = allocation_of(to, (rows - 1) * to_pitch + bytes, outside, &target);
  const Allocation* const here = allocation_of(from, (rows - 1) * from_pitch + bytes, outside, &source);
  const bool to_device = there && there->host, from_device = here && here->host;
  const auto found = to_device ? (from_device ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice) : from_device ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost;
  if (outside || (kind != cudaMemcpyDefault && kind != found)) return fail(cudaErrorInvalidValue, what);
  const bool pageable = (!to_device && !there) || (!from_device && !here);
  if (pageable && capture_of(stream)) return allowed(what, stream);
  stand_in::count(found == cudaMemcpyDeviceToHost ? stand_in::CopiesFrom : found == cudaMemcpyHostToDevice ? stand_in::CopiesTo : stand_in::CopiesOn);
  const char* const way = found == cudaMemcpyDeviceToHost ? " bytes from the device" : found == cudaMemcpyHostToDevice ? " bytes to the device" : " bytes on the device";
  stand_in::trace("copies", (std::string(what) + ": " + std::to_string(rows * bytes) + way).c_str());
  if (waits) {
    if (const auto error = allowed(what)) return error;
    stand_in::count(stand_in::Waits);
    stand_in::trace("waits", what);
  }
  return queue(stream, what, [=] {
    for (size_t row = 0; row < rows; ++row) memmove(target + row * to_pitch, source + row * from_pitch, bytes);
  });
}

cudaError_t fill(void* pointer, int value, size_t bytes, cudaStream_t stream, const char* what) {
  const Lock lock(state().mutex);
  if (bytes == 0) return cudaSuccess;
  bool outside = false;
  char* here = nullptr;
  const Allocation* const found = allocation_of(pointer, bytes, outside, &here);
  if (!found || !here || outside) return fail(cudaErrorInvalidValue, what);
  stand_in::count(stand_in::Fills);
  return queue(stream, what, [=] { memset(here, value, bytes); });
}

cudaError_t wait(const char* what, cudaStream_t stream = cudaStreamPerThread) {
  if (const auto error = allowed(what, stream)) return error;
  stand_in::count(stand_in::Waits);
  stand_in::trace("waits", what);
  return cudaSuccess;
}

cudaError_t start(const void* kernel, const Launch& launch) {
  const Lock lock(state().mutex);
  const auto found = state().functions.find(kernel);
  if (found == state().functions.end()) return fail(cudaErrorInvalidDeviceFunction, "launch");
  const auto& [name, shared_bytes] = found->second;
  const auto& [grid, block, asked, stream] = launch;
  const auto says = [&] {
    return name + ": grid " + std::to_string(grid.x) + "x" + std::to_string(grid.y) + "x" + std::to_string(grid.z) + ", block " + std::to_string(block.x) + "x" + std::to_string(block.y) + "x" +
           std::to_string(block.z) + ", " + std::to_string(asked) + " bytes";
  };
  const size_t threads = size_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > 1024 || block.z > 64 || grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
    return fail(cudaErrorInvalidConfiguration, says().c_str());
  if (asked > shared_bytes) return fail(cudaErrorInvalidValue, says().c_str());
  stand_in::count(stand_in::Kernels);
  if (name.find("a_infonce") != std::string::npos) stand_in::count(stand_in::OwnKernels);
  stand_in::trace("launches", says().c_str());
  return queue(stream, name.c_str(), [] {});
}

}  // namespace

namespace stand_in {

void open_memory() { state().open = true; }
const char* queue(CUstream_st* stream, const char* what, std::function<void()> work) {
  if (::queue(stream, what, std::move(work)) == cudaSuccess) return nullptr;
  return cudaGetErrorName(cudaGetLastError());
}
bool captured(CUstream_st* stream) {
  const Lock lock(state().mutex);
  return capture_of(stream) != nullptr;
}
void count(Count what) { __atomic_add_fetch(&state().counts[device * Counts + what], 1, __ATOMIC_RELAXED); }

void trace(const char* word, const char* what) {
  if (state().traced.find(word) == std::string::npos) return;
  void* frames[64];
  const int depth = backtrace(frames, 64);
  std::string text = std::string("[") + word + ", device " + std::to_string(device) + "] " + what + "\n";
  const Lock lock(state().mutex);
  static std::unordered_map<void*, std::string> known;  // a search through all symbols of a library
  Dl_info self{}, info{};
  for (int i = 0; i < depth; ++i) {
    const auto [entry, added] = known.try_emplace(frames[i]);
    if (added && dladdr(reinterpret_cast<void*>(&trace), &self) && dladdr(frames[i], &info) && info.dli_fbase != self.dli_fbase) {
      const char* const file = info.dli_fname ? strrchr(info.dli_fname, '/') : nullptr;
      char* const name = info.dli_sname ? abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, nullptr) : nullptr;
      entry->second = "    " + std::string(file ? file + 1 : "?") + ": " + std::string(name ? name : info.dli_sname ? info.dli_sname : "?").substr(0, 160) + "\n";
      free(name);
    }
    text += entry->second;
  }
  fputs(text.c_str(), stderr);
}

}  // namespace stand_in

/// Of the driver.
extern "C" int cuDevicePrimaryCtxGetState(int, unsigned*, int*);
static int driver_nothing() { return 0; }
static int driver_error_string(int, const char** text) { return *text = "an error of the driver", 0; }

extern "C" {

// Kernels.
void** __cudaRegisterFatBinary(void*) {
  static void* handle;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) { return 1; }
void __cudaRegisterFunction(void**, const char* kernel, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*, int*) {
  const Lock lock(state().mutex);
  char* const readable = abi::__cxa_demangle(name, nullptr, nullptr, nullptr);
  state().functions[kernel].name = readable ? readable : name;
  free(readable);
}
void __cudaRegisterVar(void**, char* variable, char*, const char*, int, size_t bytes, int, int) {
  const Lock lock(state().mutex);
  state().variables[variable] = {bytes, nullptr};
}
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream) { return launches.push_back({grid, block, shared_bytes, stream}), 0; }
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared_bytes, void* stream) {
  const Launch launch = launches.back();
  launches.pop_back();
  *grid = launch.grid, *block = launch.block, *shared_bytes = launch.shared_bytes, *static_cast<cudaStream_t*>(stream) = launch.stream;
  return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) { return *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(function)), cudaSuccess; }
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void**, size_t shared_bytes, cudaStream_t stream) { return start(kernel, {grid, block, shared_bytes, stream}); }
cudaError_t cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void**, size_t shared_bytes, cudaStream_t stream) { return start(kernel, {grid, block, shared_bytes, stream}); }
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* kernel, void**) { return start(kernel, {config->gridDim, config->blockDim, config->dynamicSmemBytes, config->stream}); }
cudaError_t cudaLaunchCooperativeKernel(const void* kernel, dim3 grid, dim3 block, void**, size_t shared_bytes, cudaStream_t stream) { return start(kernel, {grid, block, shared_bytes, stream}); }
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  const Lock lock(state().mutex);
  const auto found = state().functions.find(kernel);
  if (found == state().functions.end()) return fail(cudaErrorInvalidDeviceFunction, "cudaFuncGetAttributes");
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024, attributes->numRegs = 32, attributes->ptxVersion = 90, attributes->binaryVersion = 90;
  attributes->maxDynamicSharedSizeBytes = static_cast<int>(found->second.shared_bytes);
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  const Lock lock(state().mutex);
  const auto found = state().functions.find(kernel);
  if (found == state().functions.end()) return fail(cudaErrorInvalidDeviceFunction, "cudaFuncSetAttribute");
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || static_cast<size_t>(value) > shared_bytes_at_most) return fail(cudaErrorInvalidValue, found->second.name.c_str());
  found->second.shared_bytes = std::max<size_t>(48 << 10, value);
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int threads, size_t, unsigned) { return *blocks = std::max(1, 2048 / std::max(threads, 1)), cudaSuccess; }
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int threads, size_t) { return *blocks = std::max(1, 2048 / std::max(threads, 1)), cudaSuccess; }

// Devices.
cudaError_t cudaGetDeviceCount(int* count) { return *count = state().devices, *count > 0 ? cudaSuccess : (last = cudaErrorNoDevice); }
cudaError_t cudaGetDevice(int* index) { return *index = device, cudaSuccess; }
cudaError_t cudaSetDevice(int index) { return index < 0 || index >= state().devices ? fail(cudaErrorInvalidDevice, "cudaSetDevice") : (device = index, cudaSuccess); }
cudaError_t cudaDeviceSynchronize() {
  const Lock lock(state().mutex);
  // Whatever the mode: the device encompasses the streams that are captured (CUDA programming guide, "Prohibited and Unhandled Operations").
  bool captured = false;
  for (const auto& capture : state().captures)
    if (capture->origin->device == device) captured = capture->broken = true;
  return captured ? fail(cudaErrorStreamCaptureUnsupported, "cudaDeviceSynchronize") : wait("cudaDeviceSynchronize");
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int index) {
  if (index < 0 || index >= state().devices) return fail(cudaErrorInvalidDevice, "cudaGetDeviceProperties");
  *properties = {};
  snprintf(properties->name, sizeof properties->name, "Stand-in for an H100 (kernels do nothing)");
  properties->totalGlobalMem = state().memory;
  properties->sharedMemPerBlock = 48 << 10, properties->sharedMemPerBlockOptin = shared_bytes_at_most, properties->sharedMemPerMultiprocessor = 228 << 10, properties->reservedSharedMemPerBlock = 1 << 10;
  properties->regsPerBlock = properties->regsPerMultiprocessor = 65536;
  properties->warpSize = 32, properties->maxThreadsPerBlock = 1024, properties->maxThreadsPerMultiProcessor = 2048, properties->maxBlocksPerMultiProcessor = 32;
  properties->maxThreadsDim[0] = properties->maxThreadsDim[1] = 1024, properties->maxThreadsDim[2] = 64;
  properties->maxGridSize[0] = 0x7fffffff, properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
  properties->totalConstMem = 64 << 10, properties->memPitch = 0x7fffffff, properties->textureAlignment = 512, properties->l2CacheSize = 50 << 20;
  properties->major = 9, properties->multiProcessorCount = 132, properties->asyncEngineCount = 3, properties->memoryBusWidth = 5120, properties->pciBusID = index + 1;
  properties->canMapHostMemory = properties->concurrentKernels = properties->ECCEnabled = properties->unifiedAddressing = properties->streamPrioritiesSupported = properties->managedMemory =
      properties->cooperativeLaunch = properties->clusterLaunch = properties->memoryPoolsSupported = 1;
  properties->uuid.bytes[15] = static_cast<char>(index + 1);
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int index) {
  cudaDeviceProp properties;
  if (const auto error = cudaGetDeviceProperties(&properties, index)) return error;
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = properties.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = properties.minor; break;
    case cudaDevAttrMultiProcessorCount: *value = properties.multiProcessorCount; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = static_cast<int>(properties.sharedMemPerBlock); break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = static_cast<int>(properties.sharedMemPerBlockOptin); break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = static_cast<int>(properties.sharedMemPerMultiprocessor); break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = properties.maxThreadsPerMultiProcessor; break;
    case cudaDevAttrMaxThreadsPerBlock: *value = properties.maxThreadsPerBlock; break;
    case cudaDevAttrMaxGridDimX: *value = properties.maxGridSize[0]; break;
    case cudaDevAttrMaxGridDimY: case cudaDevAttrMaxGridDimZ: *value = properties.maxGridSize[1]; break;
    case cudaDevAttrWarpSize: *value = properties.warpSize; break;
    case cudaDevAttrL2CacheSize: *value = properties.l2CacheSize; break;
    case cudaDevAttrMaxRegistersPerBlock: *value = properties.regsPerBlock; break;
    case cudaDevAttrTextureAlignment: *value = static_cast<int>(properties.textureAlignment); break;
    case cudaDevAttrCooperativeLaunch: case cudaDevAttrMemoryPoolsSupported: case cudaDevAttrUnifiedAddressing: *value = 1; break;
    default: *value = 0;
  }
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int index) { return snprintf(text, length, "0000:%02x:00.0", index + 1), cudaSuccess; }
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) { return *least = 0, *greatest = -5, cudaSuccess; }
cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) { return *can = 0, cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned, unsigned long long, cudaDriverEntryPointQueryResult* result) {
  const std::string name = symbol;
  *function = reinterpret_cast<void*>(name == "cuDevicePrimaryCtxGetState" ? reinterpret_cast<void (*)()>(&cuDevicePrimaryCtxGetState)
                                      : name == "cuGetErrorString"         ? reinterpret_cast<void (*)()>(&driver_error_string)
                                                                           : reinterpret_cast<void (*)()>(&driver_nothing));
  if (result) *result = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}

// Errors.
cudaError_t cudaGetLastError() { return std::exchange(last, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last; }
const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define NAME(error) case error: return #error;
    NAME(cudaSuccess) NAME(cudaErrorInvalidValue) NAME(cudaErrorMemoryAllocation) NAME(cudaErrorInvalidConfiguration) NAME(cudaErrorInvalidDeviceFunction) NAME(cudaErrorInvalidDevice)
    NAME(cudaErrorNoDevice) NAME(cudaErrorInvalidResourceHandle) NAME(cudaErrorNotSupported) NAME(cudaErrorNotReady) NAME(cudaErrorStreamCaptureUnsupported)
    NAME(cudaErrorStreamCaptureInvalidated) NAME(cudaErrorStreamCaptureImplicit) NAME(cudaErrorStreamCaptureUnmatched) NAME(cudaErrorIllegalState)
#undef NAME
    default: return "cudaErrorUnknown";
  }
}
const char* cudaGetErrorString(cudaError_t error) { return error == cudaErrorMemoryAllocation ? "out of memory" : cudaGetErrorName(error); }

// Memory.
cudaError_t cudaMalloc(void** pointer, size_t bytes) { return allocate(pointer, bytes, "cudaMalloc"); }
cudaError_t cudaMallocAsync(void** pointer, size_t bytes, cudaStream_t) { return allocate(pointer, bytes, "cudaMallocAsync"); }
cudaError_t cudaFree(void* pointer) { return release(pointer, "cudaFree"); }
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t) { return release(pointer, "cudaFreeAsync"); }
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const Lock lock(state().mutex);
  return *total = state().memory, *free = state().memory - state().used[device], cudaSuccess;
}
cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  const Lock lock(state().mutex);
  if (const auto error = allowed("cudaHostAlloc")) return error;
  if (posix_memalign(pointer, 4096, std::max<size_t>(bytes, 1)) != 0) return fail(cudaErrorMemoryAllocation, "cudaHostAlloc");
  state().allocations[reinterpret_cast<uintptr_t>(*pointer)] = {std::max<size_t>(bytes, 1), nullptr, device};
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* pointer) {
  const Lock lock(state().mutex);
  if (pointer && state().allocations.erase(reinterpret_cast<uintptr_t>(pointer)) == 0) return fail(cudaErrorInvalidValue, "cudaFreeHost");
  return free(pointer), cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  const Lock lock(state().mutex);
  bool outside = false;
  const Allocation* const found = allocation_of(pointer, 1, outside);
  *attributes = {};
  attributes->type = !found ? cudaMemoryTypeUnregistered : found->host ? cudaMemoryTypeDevice : cudaMemoryTypeHost;
  attributes->device = found ? found->device : -2;
  if (found) attributes->devicePointer = const_cast<void*>(pointer);
  if (found && !found->host) attributes->hostPointer = const_cast<void*>(pointer);
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) { return copy(to, bytes, from, bytes, bytes, 1, kind, nullptr, true, "cudaMemcpy"); }
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) { return copy(to, bytes, from, bytes, bytes, 1, kind, stream, false, "cudaMemcpyAsync"); }
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t bytes, size_t rows, cudaMemcpyKind kind, cudaStream_t stream) {
  return copy(to, to_pitch, from, from_pitch, bytes, rows, kind, stream, false, "cudaMemcpy2DAsync");
}
cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes, cudaStream_t stream) { return copy(to, bytes, from, bytes, bytes, 1, cudaMemcpyDeviceToDevice, stream, false, "cudaMemcpyPeerAsync"); }
cudaError_t cudaMemset(void* pointer, int value, size_t bytes) { return fill(pointer, value, bytes, nullptr, "cudaMemset"); }
cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes, cudaStream_t stream) { return fill(pointer, value, bytes, stream, "cudaMemsetAsync"); }
cudaError_t cudaGetSymbolAddress(void** pointer, const void* symbol) {
  const Lock lock(state().mutex);
  const auto found = state().variables.find(symbol);
  if (found == state().variables.end()) return fail(cudaErrorInvalidSymbol, "cudaGetSymbolAddress");
  auto& [bytes, address] = found->second;
  if (!address)
    if (const auto error = allocate(&address, bytes, "cudaGetSymbolAddress")) return error;
  return *pointer = address, cudaSuccess;
}
cudaError_t cudaMemcpyToSymbol(const void* symbol, const void* from, size_t bytes, size_t offset, cudaMemcpyKind kind) {
  void* address = nullptr;
  if (const auto error = cudaGetSymbolAddress(&address, symbol)) return error;
  return copy(static_cast<char*>(address) + offset, bytes, from, bytes, bytes, 1, kind, nullptr, true, "cudaMemcpyToSymbol");
}

// Streams and events.
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) { return *stream = new CUstream_st{device, !(flags & cudaStreamNonBlocking), priority, nullptr}, cudaSuccess; }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) { return cudaStreamCreateWithPriority(stream, flags, 0); }
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithPriority(stream, 0, 0); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return delete stream, cudaSuccess; }
cudaError_t cudaStreamGetPriority(cudaStream_t stream, int* priority) { return *priority = real(stream) ? stream->priority : 0, cudaSuccess; }
cudaError_t cudaStreamQuery(cudaStream_t stream) { return allowed("cudaStreamQuery", stream); }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return wait("cudaStreamSynchronize", stream); }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const Lock lock(state().mutex);
  if (!event->capture) return capture_of(stream) ? (stream->capture->broken = true, fail(cudaErrorStreamCaptureIsolation, "cudaStreamWaitEvent")) : cudaSuccess;
  if (!real(stream)) return fail(cudaErrorStreamCaptureImplicit, "cudaStreamWaitEvent");
  return stream->capture = event->capture, cudaSuccess;
}
cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t callback, void* data, unsigned) { return callback(stream, cudaSuccess, data), cudaSuccess; }
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  return queue(stream, "cudaLaunchHostFunc", [=] { function(data); });
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return *event = new CUevent_st{device, nullptr, {}}, cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete event, cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Lock lock(state().mutex);
  if (event->device != (real(stream) ? stream->device : device)) return fail(cudaErrorInvalidResourceHandle, "cudaEventRecord");
  event->capture = real(stream) ? stream->capture : nullptr;
  event->time = std::chrono::steady_clock::now();
  return cudaSuccess;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned) { return cudaEventRecord(event, stream); }
cudaError_t cudaEventQuery(cudaEvent_t event) { return event->capture ? fail(cudaErrorCapturedEvent, "cudaEventQuery") : allowed("cudaEventQuery"); }
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return event->capture ? fail(cudaErrorCapturedEvent, "cudaEventSynchronize") : wait("cudaEventSynchronize"); }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) { return *milliseconds = std::chrono::duration<float, std::milli>(to->time - from->time).count(), cudaSuccess; }

// Graphs.
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  const Lock lock(state().mutex);
  if (!real(stream)) return fail(cudaErrorStreamCaptureUnsupported, "cudaStreamBeginCapture");
  if (stream->capture) return fail(cudaErrorIllegalState, "cudaStreamBeginCapture");
  stream->capture.reset(new Capture{++state().captured, stream, mode, std::this_thread::get_id()});
  state().captures.push_back(stream->capture);
  stand_in::count(stand_in::Captures);
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const Lock lock(state().mutex);
  *graph = nullptr;
  if (!capture_of(stream) || stream->capture->origin != stream) return fail(cudaErrorIllegalState, "cudaStreamEndCapture");
  const auto capture = std::move(stream->capture);
  stream->capture.reset();
  std::erase(state().captures, capture);
  if (!capture->broken) return *graph = capture->graph, cudaSuccess;
  delete capture->graph;
  return fail(cudaErrorStreamCaptureInvalidated, "cudaStreamEndCapture");
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const Lock lock(state().mutex);
  const Capture* const capture = capture_of(stream);
  *status = !capture ? cudaStreamCaptureStatusNone : capture->broken ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status, unsigned long long* id, cudaGraph_t* graph, const cudaGraphNode_t** nodes, const cudaGraphEdgeData** edges, size_t* count) {
  const Lock lock(state().mutex);
  const Capture* const capture = capture_of(stream);
  if (id) *id = capture ? capture->id : 0;
  if (graph) *graph = capture ? capture->graph : nullptr;
  if (nodes) *nodes = nullptr;
  if (edges) *edges = nullptr;
  if (count) *count = 0;
  return cudaStreamIsCapturing(stream, status);
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) { return std::swap(*mode, capture_mode), cudaSuccess; }
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  if (nodes)
    for (size_t i = 0; i < *count && i < graph->nodes.size(); ++i) nodes[i] = graph->nodes[i].get();
  return *count = graph->nodes.size(), cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec = new CUgraphExec_st;
  for (const auto& node : graph->nodes) (*exec)->work.push_back(node->work);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  stand_in::count(stand_in::GraphLaunches);
  return queue(stream, "cudaGraphLaunch", [exec] {
    for (const auto& work : exec->work) work();
  });
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) { return delete exec, cudaSuccess; }

}  // extern "C"

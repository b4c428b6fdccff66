// Stand-ins for what LibTorch calls of the driver, cuBLAS, cuDNN and cuFFT: they succeed and do nothing. Those that answer something are here; the others, and what runtime.cpp lacks of the
// CUDA runtime, are in symbols.inc, by the undefined symbols of LibTorch's libraries (CMakeLists.txt).
#include <cstdint>
#include <cstdio>
#include <cstring>
#include "runtime.h"

namespace {

int called(const char* name) {
  stand_in::count(stand_in::Calls);
  stand_in::trace("calls", name);
  return 0;
}
/// Handles and descriptors.
int create(void** made) {
  static char something[64];
  return *made = something, 0;
}

// cudnn_graph.h
enum { ConfigurationKnobs = 302, PlanWorkspace = 402, EngineKnobs = 1302, NumericalNotes = 1303, BehaviourNotes = 1305 };
enum { Int64 = 3 };

}  // namespace

extern "C" {

#define CALL(name) int name() { return called(#name); }
#define CREATE(name) int name(void** made) { return create(made); }
#define PLAN(name) int name(int* made) { return *made = 1, 0; }
#define SET(name) int name() { return 0; }
#define UNSUPPORTED(name) int name() { return fprintf(stderr, "the stand-in for the CUDA runtime has no " #name "\n"), 801; }  // cudaErrorNotSupported
#include "symbols.inc"

int cuCtxGetCurrent(void** context) { return create(context); }
int cuDevicePrimaryCtxGetState(int, unsigned* flags, int* active) { return *flags = 0, *active = 1, 0; }
int cublasGetPointerMode_v2(void*, int* mode) { return *mode = 0; }
int cublasGetMathMode(void*, int* mode) { return *mode = 0; }
/// Results of 96 bytes each: an algorithm, no workspace, success.
int cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void*, int, void* result, int* found) { return memset(result, 0, 96), *found = 1, 0; }

int cufftXtMakePlanMany(int, int, long long*, long long*, long long, long long, int, long long*, long long, long long, int, long long, size_t* bytes, int) { return *bytes = 4096, 0; }

int cudnnGetStream(void*, void** stream) { return *stream = nullptr, 0; }
int cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(void*, int, int, void*, void*, void*, void*, void*, size_t* bytes) { return *bytes = 4096, 0; }
int cudnnGetBatchNormalizationBackwardExWorkspaceSize(void*, int, int, void*, void*, void*, void*, void*, void*, void*, size_t* bytes) { return *bytes = 4096, 0; }
int cudnnGetBatchNormalizationTrainingExReserveSpaceSize(void*, int, int, void*, void*, size_t* bytes) { return *bytes = 4096, 0; }
int cudnnBackendCreateDescriptor(int, void** made) { return create(made); }
/// One engine, without knobs and notes.
int cudnnBackendGetAttribute(void*, int attribute, int type, int64_t, int64_t* count, void* values) {
  const bool none = attribute == ConfigurationKnobs || attribute == EngineKnobs || attribute == NumericalNotes || attribute == BehaviourNotes;
  if (count) *count = none ? 0 : 1;
  if (values && !none && type == Int64) *static_cast<int64_t*>(values) = attribute == PlanWorkspace ? 1 << 20 : 0;
  return 0;
}

}

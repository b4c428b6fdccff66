// Whether accesses of threads to the same memory are ordered, as CUDA and PTX order them and not as they happened to run: by barriers of blocks and warps, mbarriers and
// the ends of asynchronous copies; shuffles and votes order nothing, nor does anything within a launch order its blocks. With A_INFONCE_RACES, kernels are compiled with
// -fsanitize=thread, which calls the functions of ThreadSanitizer's library for every access; they are those of emulator_races.cpp.
// Not found: races with a write that two others of the same four bytes have followed, with atomics, and with what asynchronous copies read of global memory.
#pragma once
#include <cstddef>
#include <cstdint>

namespace a_infonce::emulator::races {

/// Where threads leave what they know for others: a barrier, or a warp.
using Key = uintptr_t;

#ifdef A_INFONCE_RACES
void begin_launch();
void begin_block(int threads, const void* shared, size_t bytes);
/// Throws, on the way to `run`, if the current thread's last access was none that it may make: its value has to be known first.
void settle();
/// All threads know what all have done.
void meet_all();
/// What the thread has done, and all that it knows, is known to those who take it from there after `publish`, or at once.
void give(int thread, Key key);
void take(int thread, Key key);
void forget(Key key);
/// Ends a phase of a barrier: what has been given there is known to those who `take` it from `published(key)`, and so are the copies that count there.
void publish(Key key);
inline Key published(Key key) { return key + 1; }

void read(int thread, const void* p, size_t bytes);
void write(int thread, const void* p, size_t bytes);
/// By a copy that counts at a barrier; the current thread starts it.
void write_by_copy(const void* p, size_t bytes, Key barrier);
/// Throws unless all threads first ... first + count - 1 know what has been written there, and instructions that run by themselves do, too: copies wrote it, or a thread that
/// called fence_async after that.
void require_known(const char* what, int first, int count, const void* p, size_t bytes, bool asynchronous);
/// fence.proxy.async of shared memory, by the current thread.
void fence_async();
#else
inline void begin_launch() {}
inline void begin_block(int, const void*, size_t) {}
inline void settle() {}
inline void meet_all() {}
inline void give(int, Key) {}
inline void take(int, Key) {}
inline void forget(Key) {}
inline void publish(Key) {}
inline Key published(Key key) { return key; }
inline void read(int, const void*, size_t) {}
inline void write(int, const void*, size_t) {}
inline void write_by_copy(const void*, size_t, Key) {}
inline void require_known(const char*, int, int, const void*, size_t, bool) {}
inline void fence_async() {}
#endif

}  // namespace a_infonce::emulator::races

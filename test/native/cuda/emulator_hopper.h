// What hopper.h needs of the emulator: everything asynchronous happens as late as a chip may let it, and what nobody may look at meanwhile is NaN.
#pragma once
#include "emulator.h"

namespace a_infonce::emulator {

inline uint32_t shared_offset(const void* p) { return static_cast<uint32_t>(static_cast<const char*>(p) - static_cast<const char*>(shared_memory())); }

/// fence.proxy.async of shared memory: what the thread knows to be written there, copies and products know from now on.
void fence_async();

// mbarrier
void initialise(void* barrier, int arrivals);
void arrive(void* barrier, uint32_t expected_bytes);
void wait(void* barrier, uint32_t parity);
/// Lands when a thread waits for the barrier and nothing else is missing.
void copy_bulk(void* to, const void* from, uint32_t bytes, void* barrier);

/// All threads of a warpgroup are at this instruction.
void converge(const char* name);

// wgmma
void fence_products();
void commit_products();
void wait_products(int groups_left);
/// c [64, columns] of bfloat16 factors; a in registers; the descriptor's rows lie along k or across it.
void multiply(float* c, int columns, const uint32_t* a, uint64_t descriptor, bool add, bool across);

}  // namespace a_infonce::emulator

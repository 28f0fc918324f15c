// The dialect that GPU kernels are written in: one source that is CUDA, Metal and, for tests, C++
// run by a thread-block emulator. What a kernel may say beyond plain functions and numbers:
//
//   PM_DEVICE             a function that runs on the device and never waits
//   PM_COLLECTIVE         return type of a function that waits for other threads; called by
//   PM_CALL(f(...))       from another one, and left by
//   PM_RETURN;
//   PM_NUMBER             before the type of a constant of a namespace
//   Global<T>             pointer to T in device memory
//   Constant<T>           reference to a kernel's arguments
//   Shared<T>             reference to T in the memory of the block
//   Private<T>            reference to a thread's own T
//   PM_SHARED_ARRAY(T, name, count)   a member of such a T
//   load_pair(array, at)  two neighbours of a shared array; `at` is even
//   PM_UNROLL             before a loop whose indices must be constants (registers have no index)
//   PM_UNROLL_2 PM_UNROLL_4   before a loop of loads: so many are under way at a time
//   PM_SUBNORMALS         whether arithmetic keeps subnormal floats
//   PM_BARRIER()          every thread of the block arrives; orders the block's memory
//   PM_WARP_BARRIER()     the same for one warp (simdgroup) of 32
//   PM_SHUFFLE_XOR(x, m)  the value of x in lane ^ m
//   PM_WARP_MAX(x) PM_WARP_SUM(x) PM_WARP_MAX_BITS(u)   over the warp, the same in every lane
//
// A wait stands alone in its statement (`const float y = PM_WARP_MAX(x);`) and is reached by all
// threads of its warp or block: the emulator reports it when they are not.
//
// Sums of a warp are butterflies of xor shuffles, so that all three give the same bits. Kernels
// must be compiled without fast-math: division and square root are IEEE's.
#pragma once

namespace pm {
namespace gpu {

struct Pair {
  float x;
  float y;
};

}  // namespace gpu
}  // namespace pm

#if defined(__METAL_VERSION__)
#include "kernels/gpu/dialect_metal.h"
#elif defined(__CUDACC__)
#include "kernels/gpu/dialect_cuda.h"
#else
#include "kernels/gpu/dialect_emulator.h"
#endif

namespace pm {
namespace gpu {

PM_NUMBER uint32_t kWarpLanes = 32;

// For kernels that share no memory.
struct NothingShared {};

// Where a thread stands. Blocks are one-dimensional.
struct Place {
  uint32_t thread;
  uint32_t block_x;
  uint32_t block_y;
  uint32_t block_z;
};

PM_DEVICE uint32_t lane_of(Place at) { return at.thread % kWarpLanes; }
PM_DEVICE uint32_t warp_of(Place at) { return at.thread / kWarpLanes; }

}  // namespace gpu
}  // namespace pm

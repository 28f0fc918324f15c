// The dialect as Metal Shading Language (3.0 or newer: arguments hold device addresses). Nobody has
// compiled this yet. Compile with -fno-fast-math.
#pragma once

#include <metal_stdlib>

#define PM_DEVICE inline
#define PM_NUMBER constant constexpr
#define PM_SUBNORMALS false
#define PM_COLLECTIVE inline void
#define PM_CALL(call) call
#define PM_RETURN return
#define PM_SHARED_ARRAY(T, name, count) alignas(16) T name[count]
#define PM_UNROLL _Pragma("unroll")
#define PM_UNROLL_2 _Pragma("unroll 2")
#define PM_UNROLL_4 _Pragma("unroll 4")

#define PM_BARRIER() metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup)
#define PM_WARP_BARRIER() metal::simdgroup_barrier(metal::mem_flags::mem_threadgroup)
#define PM_SHUFFLE_XOR(x, mask) metal::simd_shuffle_xor(x, static_cast<ushort>(mask))
#define PM_WARP_MAX(x) ::pm::gpu::warp_max(x)
#define PM_WARP_SUM(x) ::pm::gpu::warp_sum(x)
#define PM_WARP_MAX_BITS(x) metal::simd_max(x)

// Defines the kernel `name`: a threadgroup of `threads` that runs `body(arguments, place, shared)`.
#define PM_KERNEL(name, threads, Arguments, SharedType, body)                       \
  [[max_total_threads_per_threadgroup(threads)]] kernel void name(                  \
      constant Arguments& arguments [[buffer(0)]],                                  \
      uint3 thread [[thread_position_in_threadgroup]],                              \
      uint3 block [[threadgroup_position_in_grid]]) {                               \
    threadgroup SharedType shared;                                                  \
    body(arguments, ::pm::gpu::Place{thread.x, block.x, block.y, block.z}, shared); \
  }

namespace pm {
namespace gpu {

template <class T>
using Global = device T*;
template <class T>
using Constant = constant T&;
template <class T>
using Shared = threadgroup T&;
template <class T>
using Private = thread T&;

PM_DEVICE float float_of(uint32_t bits) { return as_type<float>(bits); }
PM_DEVICE uint32_t bits_of(float value) { return as_type<uint32_t>(value); }
PM_DEVICE float infinity() { return INFINITY; }

PM_DEVICE float larger(float a, float b) { return metal::fmax(a, b); }
PM_DEVICE float smaller(float a, float b) { return metal::fmin(a, b); }
PM_DEVICE float magnitude(float a) { return metal::fabs(a); }
PM_DEVICE float round_even(float a) { return metal::rint(a); }
PM_DEVICE float square_root(float a) { return metal::sqrt(a); }
PM_DEVICE float exponential(float a) { return metal::exp(a); }
PM_DEVICE float hyperbolic_tangent(float a) { return metal::tanh(a); }

PM_DEVICE Pair load_pair(threadgroup const float* array, uint32_t at) {
  const float2 two = *reinterpret_cast<threadgroup const float2*>(array + at);
  return {two.x, two.y};
}

PM_DEVICE float warp_max(float x) {
  PM_UNROLL
  for (int step = 16; step > 0; step /= 2) x = metal::fmax(x, PM_SHUFFLE_XOR(x, step));
  return x;
}

PM_DEVICE float warp_sum(float x) {
  PM_UNROLL
  for (int step = 16; step > 0; step /= 2) x += PM_SHUFFLE_XOR(x, step);
  return x;
}

}  // namespace gpu
}  // namespace pm

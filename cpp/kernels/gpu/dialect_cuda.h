// The dialect as CUDA C++. Compile with -fmad=true or false, but never with -use_fast_math.
#pragma once

#include <cuda_runtime.h>
#include <stdint.h>

#define PM_DEVICE __device__ __forceinline__
#define PM_NUMBER constexpr
#define PM_SUBNORMALS true
#define PM_COLLECTIVE __device__ __forceinline__ void
#define PM_CALL(call) call
#define PM_RETURN return
#define PM_SHARED_ARRAY(T, name, count) alignas(16) T name[count]
#define PM_UNROLL _Pragma("unroll")
#define PM_UNROLL_2 _Pragma("unroll 2")
#define PM_UNROLL_4 _Pragma("unroll 4")

#define PM_BARRIER() __syncthreads()
#define PM_WARP_BARRIER() __syncwarp()
#define PM_SHUFFLE_XOR(x, mask) __shfl_xor_sync(0xffffffffu, x, mask)
#define PM_WARP_MAX(x) ::pm::gpu::warp_max(x)
#define PM_WARP_SUM(x) ::pm::gpu::warp_sum(x)
#define PM_WARP_MAX_BITS(x) __reduce_max_sync(0xffffffffu, x)

// Defines the kernel `name`: a block of `threads` that runs `body(arguments, place, shared)`.
#define PM_KERNEL(name, threads, Arguments, SharedType, body)                                   \
  extern "C" __global__ void __launch_bounds__(threads)                                         \
      name(const __grid_constant__ Arguments arguments) {                                       \
    __shared__ SharedType shared;                                                               \
    body(arguments, ::pm::gpu::Place{threadIdx.x, blockIdx.x, blockIdx.y, blockIdx.z}, shared); \
  }

namespace pm {
namespace gpu {

template <class T>
using Global = T*;
template <class T>
using Constant = const T&;
template <class T>
using Shared = T&;
template <class T>
using Private = T&;

PM_DEVICE float float_of(uint32_t bits) { return __uint_as_float(bits); }
PM_DEVICE uint32_t bits_of(float value) { return __float_as_uint(value); }
PM_DEVICE float infinity() { return __uint_as_float(0x7f800000u); }

PM_DEVICE float larger(float a, float b) { return fmaxf(a, b); }
PM_DEVICE float smaller(float a, float b) { return fminf(a, b); }
PM_DEVICE float magnitude(float a) { return fabsf(a); }
PM_DEVICE float round_even(float a) { return rintf(a); }
PM_DEVICE float square_root(float a) { return sqrtf(a); }
PM_DEVICE float exponential(float a) { return expf(a); }
PM_DEVICE float hyperbolic_tangent(float a) { return tanhf(a); }

PM_DEVICE Pair load_pair(const float* array, uint32_t at) {
  const float2 two = *reinterpret_cast<const float2*>(array + at);
  return {two.x, two.y};
}

PM_DEVICE float warp_max(float x) {
  PM_UNROLL
  for (int step = 16; step > 0; step /= 2) x = fmaxf(x, PM_SHUFFLE_XOR(x, step));
  return x;
}

PM_DEVICE float warp_sum(float x) {
  PM_UNROLL
  for (int step = 16; step > 0; step /= 2) x += PM_SHUFFLE_XOR(x, step);
  return x;
}

}  // namespace gpu
}  // namespace pm

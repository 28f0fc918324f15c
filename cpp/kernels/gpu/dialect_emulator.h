// The dialect as C++20: a kernel is a coroutine that suspends where a GPU thread would wait.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/gpu/emulator.h"

#define PM_DEVICE inline
#define PM_NUMBER inline constexpr
#define PM_SUBNORMALS true
#define PM_COLLECTIVE inline ::pm::emulator::Routine
#define PM_CALL(call) co_await call
#define PM_RETURN co_return
#define PM_SHARED_ARRAY(T, name, count) ::pm::emulator::SharedArray<T, (count)> name
#define PM_UNROLL
#define PM_UNROLL_2
#define PM_UNROLL_4

// The line tells waits apart: threads that meet must have come to the same one.
#define PM_BARRIER() co_await ::pm::emulator::block_barrier(__FILE__, __LINE__)
#define PM_WARP_BARRIER() \
  co_await ::pm::emulator::exchange(::pm::emulator::Exchange::kBarrier, __FILE__, __LINE__)
#define PM_SHUFFLE_XOR(x, mask)                                                                   \
  co_await ::pm::emulator::exchange(::pm::emulator::Exchange::kShuffleXor, __FILE__, __LINE__, x, \
                                    mask)
#define PM_WARP_MAX(x) \
  co_await ::pm::emulator::exchange(::pm::emulator::Exchange::kMax, __FILE__, __LINE__, x)
#define PM_WARP_SUM(x) \
  co_await ::pm::emulator::exchange(::pm::emulator::Exchange::kSum, __FILE__, __LINE__, x)
#define PM_WARP_MAX_BITS(x) \
  co_await ::pm::emulator::exchange(::pm::emulator::Exchange::kMaxBits, __FILE__, __LINE__, x)

// Defines `name(arguments, grid, order)`, which runs the kernel.
#define PM_KERNEL(name, threads, Arguments, SharedType, body)                   \
  inline void name(const Arguments& arguments, ::pm::emulator::Grid grid,       \
                   ::pm::emulator::Order order) {                               \
    ::pm::emulator::launch<::pm::gpu::Place, SharedType>(                       \
        grid, threads, order, [&](::pm::gpu::Place place, SharedType& shared) { \
          return body(arguments, place, shared);                                \
        });                                                                     \
  }

namespace pm::gpu {

template <class T>
using Global = T*;
template <class T>
using Constant = const T&;
template <class T>
using Shared = T&;
template <class T>
using Private = T&;

inline float float_of(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t bits_of(float value) { return std::bit_cast<uint32_t>(value); }
inline float infinity() { return std::numeric_limits<float>::infinity(); }

// Of two, the one that is not NaN.
inline float larger(float a, float b) { return std::fmax(a, b); }
inline float smaller(float a, float b) { return std::fmin(a, b); }
inline float magnitude(float a) { return std::fabs(a); }
inline float round_even(float a) { return std::nearbyint(a); }
inline float square_root(float a) { return std::sqrt(a); }
inline float exponential(float a) { return std::exp(a); }
inline float hyperbolic_tangent(float a) { return std::tanh(a); }

template <class Array>
Pair load_pair(Array& array, uint32_t at) {
  return {array[at], array[at + 1]};
}

}  // namespace pm::gpu

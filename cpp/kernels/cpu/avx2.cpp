// AVX2 kernels: float dot products (bf16 and E4M3 pages), 16-bit integer ones (int8 pages).
#include "kernels/cpu/cpu_kernels.h"

#if defined(__x86_64__) || defined(_M_X64)

// Everything from outside comes before the pragma: an inline function of the standard library that
// were compiled under it could be the copy that the whole program uses, also on older machines.
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <utility>

#include "kernels/attention.h"
#include "kernels/codec.h"
#include "kernels/combine.h"
#include "kernels/cpu/cpu_features.h"
#include "kernels/page_access.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC target("avx2,fma,f16c")
#endif

#include "kernels/cpu/instantiate.h"
#include "kernels/cpu/isa_avx2.h"

namespace pm {
namespace {

using Avx2Phases = PhasesOf<Avx2, Bf16Elements, Int8Elements, Int8Elements, Fp8Elements>;
constexpr KvKernels kAvx2 = make_kernels<Avx2, Avx2Phases>("avx2");

}  // namespace

const KvKernels* avx2_kernels() { return cpu_features().avx2 ? &kAvx2 : nullptr; }

}  // namespace pm

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else

namespace pm {
const KvKernels* avx2_kernels() { return nullptr; }
}  // namespace pm

#endif

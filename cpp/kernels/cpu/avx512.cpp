// AVX-512 kernels: BF16 dot products (bf16 and E4M3 pages), VNNI (int8 pages).
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
#pragma clang attribute push(                                                                     \
    __attribute__((                                                                               \
        target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx512bf16,avx2,fma"))), \
    apply_to = function)
#elif defined(__GNUC__)
// GCC 12's own intrinsics start from undefined vectors (bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,avx512bf16,avx2,fma")
#endif

#include "kernels/cpu/instantiate.h"
#include "kernels/cpu/isa_avx512.h"

namespace pm {
namespace {

using Avx512Phases = PhasesOf<Avx512, Bf16Elements, Int8Keys, Int8Values, Fp8Elements>;
constexpr KvKernels kAvx512 = make_kernels<Avx512, Avx512Phases>("avx512bf16");

}  // namespace

const KvKernels* avx512_kernels() { return cpu_features().avx512_bf16 ? &kAvx512 : nullptr; }

}  // namespace pm

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else

namespace pm {
const KvKernels* avx512_kernels() { return nullptr; }
}  // namespace pm

#endif

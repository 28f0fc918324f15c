// The vectorised kernels that this build holds. Each returns null where the build's architecture
// or the machine lacks what it needs.
#pragma once

#include "kernels/attention.h"

namespace pm {

const KvKernels* avx512_kernels();  // F, BW, DQ, VL, VBMI, VNNI and BF16
const KvKernels* avx2_kernels();    // AVX2, FMA and F16C
const KvKernels* neon_kernels();    // aarch64

}  // namespace pm

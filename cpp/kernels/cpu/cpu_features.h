// What the x86 processor and the operating system offer, asked once.
#pragma once

namespace pm {

struct CpuFeatures {
  bool avx2 = false;         // AVX2, FMA, F16C
  bool avx512_bf16 = false;  // F, BW, DQ, VL, VBMI, VNNI, BF16
};

const CpuFeatures& cpu_features();

}  // namespace pm

#include "kernels/cpu/cpu_features.h"

#if defined(__x86_64__) || defined(_M_X64)

#include <cstdint>
#include <initializer_list>
#ifdef _MSC_VER
#include <intrin.h>
#else
#include <cpuid.h>
#endif

namespace pm {
namespace {

struct Registers {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(uint32_t leaf, uint32_t subleaf) {
  Registers r;
#ifdef _MSC_VER
  int out[4];
  __cpuidex(out, static_cast<int>(leaf), static_cast<int>(subleaf));
  r = {static_cast<uint32_t>(out[0]), static_cast<uint32_t>(out[1]), static_cast<uint32_t>(out[2]),
       static_cast<uint32_t>(out[3])};
#else
  __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
#endif
  return r;
}

// Register state that the operating system saves.
uint64_t saved_state() {
#ifdef _MSC_VER
  return _xgetbv(0);
#else
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
#endif
}

bool has(uint32_t word, std::initializer_list<int> bits) {
  for (int bit : bits) {
    if ((word >> bit & 1) == 0) return false;
  }
  return true;
}

CpuFeatures detect() {
  CpuFeatures found;
  const Registers basic = cpuid(1, 0);
  constexpr int kFma = 12, kOsxsave = 27, kAvx = 28, kF16c = 29;
  if (!has(basic.ecx, {kOsxsave, kAvx})) return found;
  const uint64_t state = saved_state();
  constexpr uint64_t kYmm = 0x6, kZmm = 0xe6;
  const Registers extended = cpuid(7, 0);
  constexpr int kAvx2 = 5, kF = 16, kDq = 17, kBw = 30, kVl = 31;  // ebx
  constexpr int kVbmi = 1, kVnni = 11;                             // ecx
  constexpr int kBf16 = 5;                                         // leaf 7.1, eax
  found.avx2 =
      (state & kYmm) == kYmm && has(basic.ecx, {kFma, kF16c}) && has(extended.ebx, {kAvx2});
  found.avx512_bf16 = found.avx2 && (state & kZmm) == kZmm &&
                      has(extended.ebx, {kF, kDq, kBw, kVl}) && has(extended.ecx, {kVbmi, kVnni}) &&
                      has(cpuid(7, 1).eax, {kBf16});
  return found;
}

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

}  // namespace pm

#else

namespace pm {
const CpuFeatures& cpu_features() {
  static const CpuFeatures none;
  return none;
}
}  // namespace pm

#endif

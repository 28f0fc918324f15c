// NEON kernels: part of every aarch64 processor, nothing to ask for.
#include "kernels/cpu/cpu_kernels.h"

#if defined(__aarch64__) || defined(_M_ARM64)

#include "kernels/cpu/instantiate.h"
#include "kernels/cpu/isa_neon.h"

namespace pm {
namespace {

using NeonPhases = PhasesOf<Neon, Bf16Elements, Int8Elements, Int8Elements, Fp8Elements>;
constexpr KvKernels kNeon = make_kernels<Neon, NeonPhases>("neon");

}  // namespace

const KvKernels* neon_kernels() { return &kNeon; }

}  // namespace pm

#else

namespace pm {
const KvKernels* neon_kernels() { return nullptr; }
}  // namespace pm

#endif

// Turns the phases of three element types into the kernels of one instruction set.
#pragma once

#include "kernels/cpu/paged_attention.h"
#include "kernels/cpu/paged_write.h"

namespace pm {
namespace {

template <class Isa, class Bf16, class Int8Key, class Int8Value, class Fp8>
struct PhasesOf {
  static const KeyPhases<Isa>& keys(KvType type) {
    static constexpr KeyPhases<Isa> all[] = {key_phases<Isa, Bf16, false>(),
                                             key_phases<Isa, Int8Key, true>(),
                                             key_phases<Isa, Fp8, true>()};
    return all[static_cast<size_t>(type)];
  }
  static const ValuePhases<Isa>& values(KvType type) {
    static constexpr ValuePhases<Isa> all[] = {value_phases<Isa, Bf16, false>(),
                                               value_phases<Isa, Int8Value, true>(),
                                               value_phases<Isa, Fp8, true>()};
    return all[static_cast<size_t>(type)];
  }
};

template <class Isa, class Phases>
constexpr KvKernels make_kernels(const char* name) {
  return {name, task_scratch_bytes<Isa>, write_pages<Isa>, run_task<Isa, Phases>, combine_partials};
}

}  // namespace
}  // namespace pm

// Pairwise dot product in floats, for instruction sets without one for bf16: the two elements of
// each pair are separate vectors.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pm {
namespace {

template <class Isa>
struct DotFloat {
  using V = typename Isa::V;
  using Scalar = float;
  struct Operand {
    V even, odd;
  };
  using Accumulator = V;
  static constexpr bool kInteger = false;
  static constexpr int kDepth = 2;

  static Accumulator start(int32_t) { return Isa::set1(0); }
  static int32_t query_start(const Scalar*, int) { return 0; }
  static Operand broadcast(const Scalar* pair) { return {Isa::set1(pair[0]), Isa::set1(pair[1])}; }
  static Accumulator dot(Accumulator sum, const Operand& a, const Operand& b) {
    return Isa::fma(a.odd, b.odd, Isa::fma(a.even, b.even, sum));
  }
  static V to_float(Accumulator sum) { return sum; }
  static void store(Scalar* at, V x) { Isa::store(at, x); }
};

// Operands as they lie in scratch once unpacked.
template <class Isa>
struct FloatPairs {
  using Dot = DotFloat<Isa>;
  static constexpr int kTileBytes = Isa::kTile * 2 * static_cast<int>(sizeof(float));
  static constexpr int kLayoutRows = 1;

  static void load(const uint8_t* at, size_t /*stride*/,
                   typename Dot::Operand (&tile)[Isa::kColumns]) {
    const auto* from = reinterpret_cast<const float*>(at);
    for (auto& pairs : tile) {
      pairs.even = Isa::load(from);
      pairs.odd = Isa::load(from + Isa::kLanes);
      from += 2 * Isa::kLanes;
    }
  }
  static void store(uint8_t* at, const typename Dot::Operand (&tile)[Isa::kColumns]) {
    auto* to = reinterpret_cast<float*>(at);
    for (const auto& pairs : tile) {
      Isa::store(to, pairs.even);
      Isa::store(to + Isa::kLanes, pairs.odd);
      to += 2 * Isa::kLanes;
    }
  }
};

}  // namespace
}  // namespace pm

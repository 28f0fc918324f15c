// Online softmax of one row over one block: scores become weights of the V dot product.
#pragma once

#include <cmath>
#include <limits>

#include "kernels/cpu/paged_task.h"

namespace pm {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Decodes a page's bf16 scales.
template <class Isa>
void load_scales(const uint8_t* from, float* to) {
  for (int t = 0; t < kPageTokens; t += Isa::kLanes) {
    Isa::store(to + t, Isa::load_bf16(from + 2 * t));
  }
}

template <class Isa>
typename Isa::V tanh(typename Isa::V x) {
  using V = typename Isa::V;
  // Clamped so that exp stays finite; the order of the operands keeps a NaN.
  const V clamped = Isa::min(Isa::set1(20), Isa::max(Isa::set1(-20), x));
  const V e = Isa::exp2(Isa::mul(clamped, Isa::set1(2 * 1.44269504f)));
  return Isa::div(Isa::sub(e, Isa::set1(1)), Isa::add(e, Isa::set1(1)));
}

// Softcap and mask, where there are any.
template <class Isa>
void bend_scores(const TaskState<Isa>& s, int row, float* scores) {
  using V = typename Isa::V;
  if (s.head.softcap > 0) {
    const V cap = Isa::set1(s.head.softcap * 1.44269504f);
    for (int t = 0; t < s.block_tokens(); t += Isa::kLanes) {
      Isa::store(scores + t, Isa::mul(cap, tanh<Isa>(Isa::load(scores + t))));
    }
  }
  for (int p = 0; p < s.block_pages; ++p) {
    if (s.pages[p].masks == nullptr) continue;
    const uint32_t mask = s.pages[p].masks[row / s.head.group];
    for (int t = 0; t < kPageTokens; t += Isa::kLanes) {
      float* at = scores + p * kPageTokens + t;
      Isa::store(at, Isa::select(mask >> t, Isa::load(at), Isa::set1(kMinusInfinity)));
    }
  }
}

// Integer weights: the block's largest becomes 32767.
template <class Isa, class Dot>
void store_integer_weights(TaskState<Isa>& s, const float* weights, float largest, int r) {
  auto* to = reinterpret_cast<typename Dot::Scalar*>(s.weights) + r * kBlockTokens;
  const float inverse = largest > 1e-30f ? 32767 / largest : 0;
  // An integer cannot be NaN: its unit has to be.
  s.weight_scale[r] = largest * (1 / 32767.0f) + s.v_poison;
  const auto factor = Isa::set1(inverse);
  for (int t = 0; t < s.block_tokens(); t += Isa::kLanes) {
    Dot::store(to + t, Isa::mul(Isa::load(weights + t), factor));
  }
}

// `row` of the task, `r` of its tile.
template <class Isa, class Dot, bool kScaled>
void softmax_row(TaskState<Isa>& s, int row, int r) {
  using V = typename Isa::V;
  float* scores = s.scores + r * kBlockTokens;
  const int tokens = s.block_tokens();
  if (s.head.softcap > 0 || s.pages[s.block_pages - 1].masks != nullptr) {
    bend_scores(s, row, scores);
  }

  V maxima = Isa::load(scores);
  for (int t = Isa::kLanes; t < tokens; t += Isa::kLanes) {
    maxima = Isa::max(Isa::load(scores + t), maxima);
  }
  const float before = s.max[row];
  const float max = std::max(before, Isa::reduce_max(maxima));
  // Nothing seen yet: any finite base makes all weights zero.
  const float base = max == kMinusInfinity ? 0 : max;
  s.max[row] = max;
  s.keep[r] = before == max ? 1 : Isa::first(Isa::exp2(Isa::set1(before - base)));

  V sums = Isa::set1(0);
  V largest = Isa::set1(0);
  const V shift = Isa::set1(base);
  auto* weights = reinterpret_cast<typename Dot::Scalar*>(s.weights) + r * kBlockTokens;
  for (int t = 0; t < tokens; t += Isa::kLanes) {
    V weight = Isa::exp2(Isa::sub(Isa::load(scores + t), shift));
    sums = Isa::add(sums, weight);
    if constexpr (kScaled) weight = Isa::mul(weight, Isa::load(s.v_scales + t));
    if constexpr (Dot::kInteger) {
      largest = Isa::max(largest, weight);
      Isa::store(scores + t, weight);
    } else {
      Dot::store(weights + t, weight);
    }
  }
  s.sum[row] = s.sum[row] * s.keep[r] + Isa::reduce_add(sums);
  if constexpr (Dot::kInteger) {
    store_integer_weights<Isa, Dot>(s, scores, Isa::reduce_max(largest), r);
  }
}

}  // namespace
}  // namespace pm

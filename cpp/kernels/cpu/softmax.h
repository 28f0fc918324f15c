// Online softmax of one row over one block: scores become weights of the V dot product.
#pragma once

#include <cmath>
#include <limits>

#include "kernels/codec.h"
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

// Zeros the scales of tokens that are not `seen`.
template <class Isa>
void clean_scales(float* scales, uint32_t seen) {
  for (int t = 0; t < kPageTokens; t += Isa::kLanes) {
    Isa::store(scales + t, Isa::select(seen >> t, Isa::load(scales + t), Isa::set1(0)));
  }
}

// Makes the scales of `tokens` fractions of their largest, which is returned; NaN if one is.
template <class Isa>
float normalize_scales(float* scales, int tokens) {
  auto largest = Isa::set1(0);
  auto sum = Isa::set1(0);
  for (int t = 0; t < tokens; t += Isa::kLanes) {
    largest = Isa::max(largest, Isa::load(scales + t));
    sum = Isa::add(sum, Isa::load(scales + t));
  }
  const float all = Isa::reduce_max(largest);
  const auto inverse = Isa::set1(all > 0 ? 1 / all : 0);
  for (int t = 0; t < tokens; t += Isa::kLanes) {
    Isa::store(scales + t, Isa::mul(Isa::load(scales + t), inverse));
  }
  return all + Isa::reduce_add(sum) * 0;
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

// Maxima of a tile's rows, a vector of rows at once; kLanes is at least the rows of a tile.
template <class Isa>
struct TileMaxima {
  alignas(64) float block[Isa::kLanes];  // of this block's scores
  alignas(64) float base[Isa::kLanes];   // of all so far, 0 where nothing was seen
  alignas(64) float peak[Isa::kLanes];   // weight of the block's largest score
};

template <class Isa>
void update_maxima(TaskState<Isa>& s, int first, int rows, TileMaxima<Isa>& m) {
  alignas(64) float running[Isa::kLanes];
  for (int r = 0; r < Isa::kLanes; ++r) running[r] = r < rows ? s.max[first + r] : 0;
  for (int r = rows; r < Isa::kLanes; ++r) m.block[r] = 0;
  const auto before = Isa::load(running);
  const auto block = Isa::load(m.block);
  const auto now = Isa::max(before, block);
  // Nothing seen yet: any finite base makes all weights zero.
  const auto base = Isa::max(now, Isa::set1(std::numeric_limits<float>::lowest()));
  Isa::store(m.base, base);
  Isa::store(m.peak, Isa::exp2(Isa::sub(block, base)));
  Isa::store(s.keep, Isa::exp2(Isa::sub(before, base)));
  Isa::store(running, now);
  for (int r = 0; r < rows; ++r) s.max[first + r] = running[r];
}

// 8-bit weights are steps of 1/255 of the block's largest. That is far below what int8 values lose
// anyway, except where one token outweighs its block (an attention sink): its neighbours would
// round to zero, though together they may matter. So unless the block's largest weight is small
// beside what each row has summed up, a second limb carries seven more bits.
template <class Isa, class Dot>
void choose_limbs(TaskState<Isa>& s, int first, int rows, const TileMaxima<Isa>& m) {
  s.limbs = 1;
  if constexpr (Dot::kLimbs == 2) {
    for (int r = 0; r < rows; ++r) {
      float& total = s.total[first + r];
      total *= s.keep[r];
      if (!(m.peak[r] * 16 <= total)) s.limbs = 2;
    }
  }
}

// Weights of one row as floats, times the scales of the values. kTokens: tokens of the block if
// known, else 0.
template <class Isa, class Dot, bool kScaled, int kTokens>
void weigh_row(TaskState<Isa>& s, int row, int r, float base) {
  using V = typename Isa::V;
  const int tokens = kTokens > 0 ? kTokens : s.block_tokens();
  const float* scores = s.scores + r * kBlockTokens;
  auto* weights = reinterpret_cast<typename Dot::Scalar*>(s.weights[0]) + r * kBlockTokens;
  float* sum = s.sum + row * Isa::kLanes;
  const V shift = Isa::set1(base);
  V sums = Isa::mul(Isa::load(sum), Isa::set1(s.keep[r]));
#pragma GCC unroll 8
  for (int t = 0; t < tokens; t += Isa::kLanes) {
    V weight = Isa::exp2(Isa::sub(Isa::load(scores + t), shift));
    sums = Isa::add(sums, weight);
    if constexpr (kScaled) weight = Isa::mul(weight, Isa::load(s.v_scales + t));
    Dot::store(weights + t, weight);
  }
  Isa::store(sum, sums);
}

// How many steps integer weights have, and the unit of limb 0 in steps.
template <class Dot, int kLimbs>
struct Steps {
  static constexpr float kCount = Dot::kLargest;
  static constexpr float kLog2 = Dot::kLog2Largest;
  static constexpr float kUnit = 1;
};
template <class Dot>
struct Steps<Dot, 2> {
  static constexpr float kCount = Dot::kLargestOfTwoLimbs;
  static constexpr float kLog2 = Dot::kLog2TwoLimbs;
  static constexpr float kUnit = Dot::kLimbUnit;
};

// The same as integers: exponentials count from the block's own maximum, the scales of the values
// are fractions of their largest, so that the largest integer bounds the weights.
template <class Isa, class Dot, int kTokens, int kLimbs>
void weigh_row_in_integers(TaskState<Isa>& s, int row, int r, float block_max, float peak) {
  using V = typename Isa::V;
  const int tokens = kTokens > 0 ? kTokens : s.block_tokens();
  using Unit = Steps<Dot, kLimbs>;
  const float unit = peak * (1 / Unit::kCount);
  s.weight_scale[0][r] = unit * s.v_largest * Unit::kUnit;
  s.weight_scale[1][r] = unit * s.v_largest;
  const float* scores = s.scores + r * kBlockTokens;
  auto* high = reinterpret_cast<typename Dot::Scalar*>(s.weights[0]) + r * kBlockTokens;
  auto* low = reinterpret_cast<typename Dot::Scalar*>(s.weights[1]) + r * kBlockTokens;
  float* sum = s.sum + row * Isa::kLanes;
  const V shift = Isa::set1(std::max(block_max, std::numeric_limits<float>::lowest()));
  const V log2_steps = Isa::set1(Unit::kLog2);
  V block_sum = Isa::set1(0);
#pragma GCC unroll 8
  for (int t = 0; t < tokens; t += Isa::kLanes) {
    const V score = Isa::sub(Isa::load(scores + t), shift);
    const V steps = Isa::exp2(Isa::add(score, log2_steps));
    block_sum = Isa::add(block_sum, steps);
    const V weight = Isa::mul(steps, Isa::load(s.v_scales + t));
    if constexpr (kLimbs == 2) {
      Dot::store_limbs(high + t, low + t, weight);
    } else {
      Dot::store(high + t, weight);
    }
  }
  const V kept = Isa::mul(Isa::load(sum), Isa::set1(s.keep[r]));
  const V sums = Isa::fma(block_sum, Isa::set1(unit), kept);
  Isa::store(sum, sums);
  // Now and then is enough to choose limbs by.
  if (s.blocks % 4 == 0 || kTokens == 0) s.total[row] = Isa::reduce_add(sums);
}

// Scores of a tile's rows become weights.
template <class Isa, class Dot, bool kScaled, int kTokens>
void softmax_tile(TaskState<Isa>& s, int first, int rows) {
  using V = typename Isa::V;
  const int tokens = kTokens > 0 ? kTokens : s.block_tokens();
  const bool bend = s.head.softcap > 0 || s.pages[s.block_pages - 1].masks != nullptr;
  TileMaxima<Isa> m;
  for (int r = 0; r < rows; ++r) {
    float* scores = s.scores + r * kBlockTokens;
    if (bend) bend_scores(s, first + r, scores);
    V maxima = Isa::load(scores);
#pragma GCC unroll 8
    for (int t = Isa::kLanes; t < tokens; t += Isa::kLanes) {
      maxima = Isa::max(Isa::load(scores + t), maxima);
    }
    m.block[r] = Isa::reduce_max(maxima);
  }
  update_maxima(s, first, rows, m);
  if constexpr (!Dot::kInteger) {
    for (int r = 0; r < rows; ++r) {
      weigh_row<Isa, Dot, kScaled, kTokens>(s, first + r, r, m.base[r]);
    }
  } else {
    choose_limbs<Isa, Dot>(s, first, rows, m);
    for (int r = 0; r < rows; ++r) {
      if (s.limbs == 2) {
        weigh_row_in_integers<Isa, Dot, kTokens, Dot::kLimbs>(s, first + r, r, m.block[r],
                                                              m.peak[r]);
      } else {
        weigh_row_in_integers<Isa, Dot, kTokens, 1>(s, first + r, r, m.block[r], m.peak[r]);
      }
    }
  }
}

}  // namespace
}  // namespace pm

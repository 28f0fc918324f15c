// Paged attention over one instruction set: KvKernels::run. Templates on the instruction set (Isa)
// and on the element types of K and V (Elements); see isa_avx512.h for what they offer.
#pragma once

#include <array>
#include <cstring>
#include <limits>
#include <utility>

#include "kernels/codec.h"
#include "kernels/combine.h"
#include "kernels/cpu/paged_task.h"
#include "kernels/cpu/softmax.h"

namespace pm {
namespace {

// sums[r][c] += sum over the reduction of  elements[i][column c] * factor[r][i]. One load of the
// elements serves all rows: this is where a page is read. A step takes kDepth elements of the
// reduction: two neighbours of the layout's pairs, or four from two rows of pairs. Factors are a
// tile of queries ([step][kRows][kDepth]) or of weights ([row][kBlockTokens]).
//
// Memory is read in address order, page after page, K before V: only then does the processor's own
// prefetcher run ahead, and only it reaches the full bandwidth. Prefetch instructions alone do not
// (they occupy the few miss buffers of the first cache: measured half the rate when they run a page
// ahead), but a short way ahead they help. `touch`: bytes of a step's row to fetch that way, more
// than a tile where the row's other tiles follow later, 0 if they are here already.
template <class Isa, class Elements, int kRowCount, bool kQueries>
[[gnu::always_inline]] inline void dot_tile(
    const uint8_t* at, size_t stride, int steps, const typename Elements::Dot::Scalar* factor,
    int touch, typename Elements::Dot::Accumulator (&sums)[kRowCount][Isa::kColumns]) {
  using Dot = typename Elements::Dot;
  // With few rows the processor is ahead already.
  constexpr int kAhead = kRowCount >= 4 ? 512 : 0;
  constexpr int kFirst = kAhead > 0 ? 0 : Elements::kTileBytes;
  constexpr int kStep = kQueries ? Dot::kDepth * Isa::kRows : Dot::kDepth;
  constexpr int kRow = kQueries ? Dot::kDepth : kBlockTokens;
  for (int i = 0; i < steps; ++i) {
    for (int line = kFirst; line < touch; line += 64) Isa::prefetch(at + kAhead + line);
    typename Dot::Operand tile[Isa::kColumns];
    Elements::load(at, stride, tile);
#pragma GCC unroll 16
    for (int r = 0; r < kRowCount; ++r) {
      const auto broadcast = Dot::broadcast(factor + r * kRow);
#pragma GCC unroll 4
      for (int c = 0; c < Isa::kColumns; ++c) {
        sums[r][c] = Dot::dot(sums[r][c], tile[c], broadcast);
      }
    }
    at += stride * Elements::kLayoutRows;
    factor += kStep;
  }
}

// A key whose size is no multiple of the depth ends with factors of zero: what is read beyond its
// elements, the scales, does not count.
template <class Dot>
int key_steps(const PageFormat& format) {
  return (format.head_k + Dot::kDepth - 1) / Dot::kDepth;
}

// Scores of the rows of one tile against every token of the block.
template <class Isa, class Elements, bool kScaled, int kRowCount>
void score_tile(TaskState<Isa>& s, int tile) {
  using Dot = typename Elements::Dot;
  using V = typename Isa::V;
  constexpr int kTilesPerPage = kPageTokens / Isa::kTile;
  const int first = s.tile_begin(tile);
  const int touch = tile == 0 ? Elements::kTileBytes * Elements::kLayoutRows : 0;
  const auto* q = reinterpret_cast<const typename Dot::Scalar*>(s.q) +
                  static_cast<size_t>(tile * Isa::kRows * key_steps<Dot>(s.format) * Dot::kDepth);
  for (int t = 0; t < s.block_pages * kTilesPerPage; ++t) {
    const BlockPage& page = s.pages[t / kTilesPerPage];
    typename Dot::Accumulator sums[kRowCount][Isa::kColumns];
#pragma GCC unroll 16
    for (int r = 0; r < kRowCount; ++r) {
#pragma GCC unroll 4
      for (auto& sum : sums[r]) sum = Dot::start(s.q_start[first + r]);
    }
    dot_tile<Isa, Elements, kRowCount, true>(page.k + t % kTilesPerPage * Elements::kTileBytes,
                                             kTilesPerPage * Elements::kTileBytes,
                                             key_steps<Dot>(s.format), q, touch, sums);
    const int token = t * Isa::kTile;
#pragma GCC unroll 16
    for (int r = 0; r < kRowCount; ++r) {
      V values[Isa::kColumns];
#pragma GCC unroll 4
      for (int c = 0; c < Isa::kColumns; ++c) values[c] = Dot::to_float(sums[r][c]);
      Elements::finish(values);
      const V scale = Isa::set1(s.q_scale[first + r]);
      float* scores = s.scores + r * kBlockTokens + token;
#pragma GCC unroll 4
      for (int c = 0; c < Isa::kColumns; ++c) {
        V factor = scale;
        if constexpr (kScaled) {
          factor = Isa::mul(factor, Isa::load(s.k_scales + token + c * Isa::kLanes));
        }
        Isa::store(scores + c * Isa::kLanes, Isa::mul(values[c], factor));
      }
    }
  }
}

// Adds the weighted values of the block to the outputs of one tile's rows, whose order stays that
// of the dot product (Elements::finish comes last, once). Limb 1: the lower bits
// of integer weights, after limb 0.
template <class Isa, class Elements, int kRowCount>
void value_tile(TaskState<Isa>& s, int tile, size_t stride, bool unpacked, int limb) {
  using Dot = typename Elements::Dot;
  using V = typename Isa::V;
  const int padded = s.padded_values();
  const auto* weights = reinterpret_cast<const typename Dot::Scalar*>(s.weights[limb]);
  float* rows = s.out + static_cast<size_t>(s.tile_begin(tile) * padded);
  for (int at = 0; at < padded; at += Isa::kTile) {
    // A page's last tile reaches back instead of beyond the row: its outputs repeat some of the
    // tile before it (finish_row knows). Unpacked pages have it in its place already.
    const int from = unpacked ? at : std::min(at, s.format.head_v - Isa::kTile);
    const size_t offset = static_cast<size_t>(from * Elements::kTileBytes / Isa::kTile);
    typename Dot::Accumulator sums[kRowCount][Isa::kColumns];
#pragma GCC unroll 16
    for (int r = 0; r < kRowCount; ++r) {
#pragma GCC unroll 4
      for (auto& sum : sums[r]) sum = Dot::start(0);
    }
    for (int p = 0; p < s.block_pages; ++p) {
      dot_tile<Isa, Elements, kRowCount, false>(
          s.pages[p].v + offset, stride, kPageTokens / Dot::kDepth, weights + p * kPageTokens,
          at == 0 && limb == 0 && tile == 0 ? static_cast<int>(stride) * Elements::kLayoutRows : 0,
          sums);
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRowCount; ++r) {
      const V keep = Isa::set1(limb == 0 ? s.keep[r] : 1);
      float* out = rows + r * padded + at;
#pragma GCC unroll 4
      for (int c = 0; c < Isa::kColumns; ++c) {
        V value = Dot::to_float(sums[r][c]);
        if constexpr (Dot::kInteger) value = Isa::mul(value, Isa::set1(s.weight_scale[limb][r]));
        Isa::store(out + c * Isa::kLanes, Isa::fma(Isa::load(out + c * Isa::kLanes), keep, value));
      }
    }
  }
}

// Calls body.operator()<rows>() with the tile's number of rows as a constant.
template <class Isa, class Body>
void with_rows(int rows, const Body& body) {
  const auto call = [&]<int... kCounts>(std::integer_sequence<int, kCounts...>) {
    ((rows == kCounts + 1 ? body.template operator()<kCounts + 1>() : void()), ...);
  };
  call(std::make_integer_sequence<int, Isa::kRows>());
}

// A block's elements as dot operands: [step][tile][Isa::kColumns]. `size` outputs a step.
template <class Isa, class Elements>
void unpack(const uint8_t* from, int steps, int size, uint8_t* to) {
  using Unpacked = typename Elements::Unpacked;
  const size_t pair_bytes = static_cast<size_t>(size) * Elements::kTileBytes / Isa::kTile;
  for (int i = 0; i < steps; ++i) {
    for (int at = 0; at < size; at += Isa::kTile) {
      typename Elements::Dot::Operand tile[Isa::kColumns];
      const size_t start = static_cast<size_t>(std::min(at, size - Isa::kTile));
      Elements::load(from + start * Elements::kTileBytes / Isa::kTile, pair_bytes, tile);
      Unpacked::store(to, tile);
      to += Unpacked::kTileBytes;
    }
    from += pair_bytes * Elements::kLayoutRows;
  }
}

// The K side of a task for one element type.
template <class Isa, class Elements, bool kScaled>
struct KeySide {
  static void begin_block(TaskState<Isa>& s) {
    for (int p = 0; p < s.block_pages; ++p) {
      BlockPage& page = s.pages[p];
      if constexpr (kScaled) {
        load_scales<Isa>(page.k + scales_offset(s.format.head_k), s.k_scales + p * kPageTokens);
        if (s.unpack) {
          uint8_t* to = s.k_unpacked + static_cast<size_t>(p) * Scratch<Isa>::unpacked_k(s.format);
          unpack<Isa, Elements>(page.k, key_steps<Dot>(s.format), kPageTokens, to);
          page.k = to;
        }
      }
    }
  }

  static void score(TaskState<Isa>& s, int tile) {
    with_rows<Isa>(s.tile_rows(tile), [&]<int kRowCount>() {
      if constexpr (kScaled) {
        if (s.unpack) {
          return score_tile<Isa, typename Elements::Unpacked, kScaled, kRowCount>(s, tile);
        }
      }
      score_tile<Isa, Elements, kScaled, kRowCount>(s, tile);
    });
  }

  static void load_queries(TaskState<Isa>& s) {
    for (int tile = 0; tile < s.row_tiles; ++tile) {
      for (int r = 0; r < s.tile_rows(tile); ++r) load_query(s, tile, r);
    }
  }

 private:
  using Dot = typename Elements::Dot;

  static void load_query(TaskState<Isa>& s, int tile, int r) {
    const int row = s.tile_begin(tile) + r;
    const int size = s.format.head_k;
    const float* from = s.head.q + s.query_of(row) * s.head.q_stride +
                        static_cast<size_t>(row % s.head.group * size);
    float* q = s.row_buffer;
    std::copy_n(from, size, q);
    if (s.format.k_type == KvType::kInt8) rotate_row<Isa>(q, size);
    // Scores are kept in base 2; before a softcap in units of the cap.
    constexpr float kLog2e = 1.44269504f;
    float scale = s.head.softcap > 0 ? s.head.scale / s.head.softcap : s.head.scale * kLog2e;
    if constexpr (Dot::kInteger) scale *= to_integers(q, size);
    s.q_scale[row] = scale;

    constexpr int kDepth = Dot::kDepth;
    const int steps = key_steps<Dot>(s.format);
    alignas(64) typename Dot::Scalar scalars[256 + Isa::kLanes] = {};
    std::fill(q + size, q + size + Isa::kLanes, 0.0f);
    for (int i = 0; i < size; i += Isa::kLanes) Dot::store(scalars + i, Isa::load(q + i));
    s.q_start[row] = Dot::query_start(scalars, size);
    auto* to = reinterpret_cast<typename Dot::Scalar*>(s.q) +
               static_cast<size_t>((tile * Isa::kRows * steps + r) * kDepth);
    for (int i = 0; i < steps; ++i) {
      std::memcpy(to + i * Isa::kRows * kDepth, scalars + i * kDepth,
                  kDepth * sizeof(typename Dot::Scalar));
    }
  }

  // Scales a row to the integers of the dot product; returns their unit.
  static float to_integers(float* row, int size) {
    constexpr float kLargest = Dot::kLargest;
    const uint32_t max_bits = Isa::max_magnitude_bits(row, size);
    if (max_bits >= 0x7f800000u) return std::numeric_limits<float>::quiet_NaN();
    const float max = std::bit_cast<float>(max_bits);
    const float inverse = max < kSmallestRow ? 0 : kLargest / max;
    for (int i = 0; i < size; ++i) row[i] *= inverse;
    return max / kLargest;
  }
};

// The V side of a task for one element type.
template <class Isa, class Elements, bool kScaled>
struct ValueSide {
  using Dot = typename Elements::Dot;

  static void begin_block(TaskState<Isa>& s) {
    for (int p = 0; p < s.block_pages; ++p) {
      BlockPage& page = s.pages[p];
      // Slots that no row sees may hold anything; their weight is zero, but zero times NaN is not.
      const uint32_t seen = seen_by_any(s, page);
      uint8_t* to = s.v_unpacked + static_cast<size_t>(p) * Scratch<Isa>::unpacked_v(s.format);
      if constexpr (kScaled) {
        float* scales = s.v_scales + p * kPageTokens;
        load_scales<Isa>(page.v + scales_offset(s.format.head_v), scales);
        if (seen != 0xffffffffu) clean_scales<Isa>(scales, seen);
        if (s.unpack) {
          unpack<Isa, Elements>(page.v, kPageTokens / Dot::kDepth, s.format.head_v, to);
          page.v = to;
        }
      } else if (seen != 0xffffffffu) {
        copy_seen(page.v, s.format.head_v, seen, to);
        page.v = to;
      }
    }
    if constexpr (Dot::kInteger) {
      s.v_largest = normalize_scales<Isa>(s.v_scales, s.block_tokens());
    }
  }

  static void weigh(TaskState<Isa>& s, int tile) {
    if (s.block_pages == 1) {
      softmax_tile<Isa, Dot, kScaled, kPageTokens>(s, s.tile_begin(tile), s.tile_rows(tile));
    } else {
      softmax_tile<Isa, Dot, kScaled, 0>(s, s.tile_begin(tile), s.tile_rows(tile));
    }
  }

  // Brings the outputs of a row into their order.
  static void finish(TaskState<Isa>& s, int row) {
    float* out = s.out + static_cast<size_t>(row * s.padded_values());
    for (int at = 0; at < s.padded_values(); at += Isa::kTile) {
      typename Isa::V values[Isa::kColumns];
      for (int c = 0; c < Isa::kColumns; ++c) values[c] = Isa::load(out + at + c * Isa::kLanes);
      Elements::finish(values);
      for (int c = 0; c < Isa::kColumns; ++c) Isa::store(out + at + c * Isa::kLanes, values[c]);
    }
  }

  static void add_values(TaskState<Isa>& s, int tile) {
    const size_t stride = static_cast<size_t>(s.format.head_v) * 2 * element_bytes(s.format.v_type);
    const int limbs = Dot::kInteger ? s.limbs : 1;
    with_rows<Isa>(s.tile_rows(tile), [&]<int kRowCount>() {
      for (int limb = 0; limb < limbs; ++limb) {
        if constexpr (kScaled) {
          using Unpacked = typename Elements::Unpacked;
          if (s.unpack) {
            const size_t row = static_cast<size_t>(s.padded_values() / Isa::kTile) *
                               static_cast<size_t>(Unpacked::kTileBytes);
            value_tile<Isa, Unpacked, kRowCount>(s, tile, row, true, limb);
            continue;
          }
        }
        value_tile<Isa, Elements, kRowCount>(s, tile, stride, false, limb);
      }
    });
  }

 private:
  static uint32_t seen_by_any(const TaskState<Isa>& s, const BlockPage& page) {
    if (page.masks == nullptr) return 0xffffffffu;
    uint32_t seen = 0;
    for (size_t i = 0; i < s.task.queries.size(); ++i) seen |= page.masks[i];
    return seen;
  }

  // Copies a bf16 V block with zeros for the tokens that are not `seen`.
  static void copy_seen(const uint8_t* from, int head_v, uint32_t seen, uint8_t* to) {
    for (int pair = 0; pair < kPageTokens / 2; ++pair) {
      const uint32_t keep = (seen >> (2 * pair) & 1 ? 0x0000ffffu : 0) |
                            (seen >> (2 * pair + 1) & 1 ? 0xffff0000u : 0);
      const auto* words = reinterpret_cast<const uint32_t*>(from) + pair * head_v;
      auto* out = reinterpret_cast<uint32_t*>(to) + pair * head_v;
      for (int i = 0; i < head_v; ++i) out[i] = words[i] & keep;
    }
  }
};

// The phases for one element type, so that K and V types combine at run time.
template <class Isa>
struct KeyPhases {
  void (*load_queries)(TaskState<Isa>&);
  void (*begin_block)(TaskState<Isa>&);
  void (*score)(TaskState<Isa>&, int tile);
};

template <class Isa>
struct ValuePhases {
  void (*begin_block)(TaskState<Isa>&);
  void (*weigh)(TaskState<Isa>&, int tile);
  void (*add_values)(TaskState<Isa>&, int tile);
  void (*finish)(TaskState<Isa>&, int row);
};

template <class Isa, class Elements, bool kScaled>
constexpr KeyPhases<Isa> key_phases() {
  using Side = KeySide<Isa, Elements, kScaled>;
  return {Side::load_queries, Side::begin_block, Side::score};
}

template <class Isa, class Elements, bool kScaled>
constexpr ValuePhases<Isa> value_phases() {
  using Side = ValueSide<Isa, Elements, kScaled>;
  return {Side::begin_block, Side::weigh, Side::add_values, Side::finish};
}

// Output of a row: normalised and rotated back, or a partial result.
template <class Isa>
void finish_row(TaskState<Isa>& s, int row, float* partials) {
  const int size = s.format.head_v;
  const int last = (size - 1) / Isa::kTile * Isa::kTile;  // start of the last tile of values
  const float* from = s.out + static_cast<size_t>(row * s.padded_values());
  const int g = row % s.head.group;
  constexpr float kLn2 = 0.693147181f;
  float max = s.max[row] * kLn2;
  float sum = Isa::reduce_add(Isa::load(s.sum + row * Isa::kLanes));
  // The last tile holds the outputs from size - kTile on.
  const auto copy = [&](float* to, float factor) {
    for (int i = 0; i < last; ++i) to[i] = from[i] * factor;
    const int shift = last - (size - Isa::kTile);
    for (int i = last; i < size; ++i) to[i] = from[i + shift] * factor;
  };
  if (s.task.partial >= 0) {
    const size_t index =
        static_cast<size_t>(s.task.partial) + static_cast<size_t>(row / s.head.group);
    float* partial = partials + index * partial_floats(s.format, s.head.group);
    partial[2 * g] = max;
    partial[2 * g + 1] = sum;
    copy(partial + 2 * s.head.group + g * size, 1);
    return;
  }
  float* out = s.head.out + s.query_of(row) * s.head.out_stride + static_cast<size_t>(g * size);
  float factor = 1;
  if (s.head.sinks != nullptr && sum != 0) {
    const float all = std::max(max, s.head.sinks[g]);
    factor = std::exp(max - all);
    sum = sum * factor + std::exp(s.head.sinks[g] - all);
  }
  copy(out, sum == 0 ? 0 : factor / sum);
  if (s.format.v_type == KvType::kInt8) rotate_row<Isa>(out, size);
}

template <class Isa>
void load_block(TaskState<Isa>& s, size_t first, int pages) {
  const size_t full = s.task.full.size();
  const auto address = [&](size_t i) -> const uint8_t* {
    return s.head.pages.page(i < full ? s.task.full[i] : s.task.masked[i - full]);
  };
  s.block_pages = pages;
  ++s.blocks;
  for (int p = 0; p < pages; ++p) {
    const size_t i = first + static_cast<size_t>(p);
    const uint8_t* page = address(i);
    s.pages[p].k = page;
    s.pages[p].v = page + s.format.v_offset();
    s.pages[p].masks = i < full ? nullptr : s.task.masks + (i - full) * s.task.queries.size();
  }
}

// `Phases` names the element types' phases: keys(type) and values(type).
template <class Isa, class Phases>
void run_task(const PageFormat& format, const AttentionHead& head, const AttentionTask& task,
              float* partials, void* scratch) {
  TaskState<Isa> s(format, head, task, scratch);
  const KeyPhases<Isa>& keys = Phases::keys(format.k_type);
  const ValuePhases<Isa>& values = Phases::values(format.v_type);
  std::fill_n(s.total, s.rows, 0.0f);
  std::fill_n(s.max, s.rows, -std::numeric_limits<float>::infinity());
  std::fill_n(s.sum, s.rows * Isa::kLanes, 0.0f);
  std::fill_n(s.out, s.rows * s.padded_values(), 0.0f);
  keys.load_queries(s);
  const size_t pages = task.full.size() + task.masked.size();
  // With one row tile memory is the limit: page by page, K then V, is the order of addresses.
  const size_t per_block = s.row_tiles > 1 ? kBlockPages : 1;
  for (size_t first = 0; first < pages; first += per_block) {
    load_block(s, first, static_cast<int>(std::min(per_block, pages - first)));
    keys.begin_block(s);
    values.begin_block(s);
    for (int tile = 0; tile < s.row_tiles; ++tile) {
      keys.score(s, tile);
      values.weigh(s, tile);
      values.add_values(s, tile);
    }
  }
  for (int row = 0; row < s.rows; ++row) {
    values.finish(s, row);
    finish_row(s, row, partials);
  }
}

template <class Isa>
size_t task_scratch_bytes(const PageFormat& format, int group) {
  return Scratch<Isa>(format, static_cast<int>(kMaxTaskQueries) * group).bytes;
}

}  // namespace
}  // namespace pm

// What the phases of paged attention share: the rows of a task, the block of pages at hand and the
// thread's scratch.
//
// The rows of a task are its queries × the heads of the group. They are processed in row tiles
// (Isa::kRows registers deep), and pages in blocks, so that running maxima and outputs are touched
// once a block. Phases per block and row tile: scores (K), weights (softmax), values (V).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/attention.h"
#include "kernels/page_access.h"

namespace pm {
namespace {

inline constexpr int kBlockPages = 8;
inline constexpr int kBlockTokens = kBlockPages * kPageTokens;

// Pages of a block: where to read K and V (the page itself, or scratch), and how rows see it.
struct BlockPage {
  const uint8_t* k = nullptr;
  const uint8_t* v = nullptr;
  const uint32_t* masks = nullptr;  // [queries], null: every row sees all of it
};

// Where each part lies in the scratch of a thread; all 64-byte aligned.
template <class Isa>
struct Scratch {
  // Largest scalar of a dot product: 4 bytes.
  static constexpr size_t kScalar = 4;

  size_t q, q_scale, q_start, max, sum, total, keep, weight_scale, out, scores, weights, k_scales,
      v_scales, k, v, row, bytes;

  Scratch(const PageFormat& format, int rows) {
    const size_t padded = static_cast<size_t>(round_up(rows, Isa::kRows));
    const size_t tokens = kBlockTokens;
    size_t at = 0;
    const auto take = [&at](size_t size) {
      const size_t start = at;
      at += (size + 63) / 64 * 64;
      return start;
    };
    q = take(padded * static_cast<size_t>(round_up(format.head_k, 4)) * kScalar);
    q_scale = take(padded * sizeof(float));
    q_start = take(padded * sizeof(int32_t));
    max = take(padded * sizeof(float));
    sum = take(padded * Isa::kLanes * sizeof(float));
    total = take(padded * sizeof(float));
    keep = take(std::max(Isa::kRows, Isa::kLanes) * sizeof(float));
    weight_scale = take(2 * Isa::kRows * sizeof(float));
    out = take(padded * static_cast<size_t>(padded_values(format)) * sizeof(float));
    scores = take(Isa::kRows * tokens * sizeof(float));
    weights = take(2 * Isa::kRows * tokens * kScalar);
    k_scales = take(tokens * sizeof(float));
    v_scales = take(tokens * sizeof(float));
    k = take(kBlockPages * unpacked_k(format));
    v = take(kBlockPages * unpacked_v(format));
    row = take(static_cast<size_t>(std::max(format.head_k, format.head_v) + 64) * sizeof(float));
    bytes = at;
  }

  static constexpr int round_up(int n, int step) { return (n + step - 1) / step * step; }
  static constexpr int padded_values(const PageFormat& f) { return round_up(f.head_v, Isa::kTile); }
  // Bytes of one page's block as operands (scratch is sized for the largest operands).
  static constexpr size_t unpacked_k(const PageFormat& f) {
    return static_cast<size_t>(f.head_k) * kPageTokens * Isa::kUnpackedBytes;
  }
  static constexpr size_t unpacked_v(const PageFormat& f) {
    return static_cast<size_t>(padded_values(f)) * kPageTokens * Isa::kUnpackedBytes;
  }
};

template <class Isa>
struct TaskState {
  const PageFormat& format;
  const AttentionHead& head;
  const AttentionTask& task;
  int rows;       // queries × group
  int row_tiles;  // of at most Isa::kRows
  bool unpack;    // several row tiles read a page: unpack 8-bit elements once

  uint8_t* q;              // per tile [steps][kRows][depth] scalars of the K dot product
  float* q_scale;          // per row: score = q_scale * dot (* the token's scale)
  int32_t* q_start;        // per row: what the dot product starts from (integers)
  float* max;              // per row, of the scores in base 2
  float* sum;              // per row [kLanes], of the weights
  float* total;            // per row: the sum, a few blocks old at most
  float* keep;             // per row of the tile: factor of what was summed before this block
  float* weight_scale[2];  // per limb and row of the tile: unit of integer weights
  float* out;              // per row [padded head_v]
  float* scores;           // per row of the tile [kBlockTokens]
  uint8_t* weights[2];     // per limb and row of the tile [kBlockTokens] scalars of the V product
  float* k_scales;         // [kBlockTokens]
  float* v_scales;         // [kBlockTokens]; integer weights: fractions of v_largest
  float v_largest = 0;     // largest scale of the block's values; v_scales are fractions of it
  uint8_t* k_unpacked;     // [kBlockPages]
  uint8_t* v_unpacked;     // [kBlockPages]
  float* row_buffer;

  BlockPage pages[kBlockPages];
  int block_pages = 0;
  int blocks = 0;  // begun so far
  int limbs = 1;   // of the tile's integer weights

  TaskState(const PageFormat& f, const AttentionHead& h, const AttentionTask& t, void* scratch)
      : format(f), head(h), task(t), rows(static_cast<int>(t.queries.size()) * h.group) {
    row_tiles = (rows + Isa::kRows - 1) / Isa::kRows;
    unpack = row_tiles > 1;
    const Scratch<Isa> s(f, rows);
    auto* base = static_cast<uint8_t*>(scratch);
    const auto floats = [base](size_t at) { return reinterpret_cast<float*>(base + at); };
    q = base + s.q;
    q_scale = floats(s.q_scale);
    max = floats(s.max);
    sum = floats(s.sum);
    total = floats(s.total);
    q_start = reinterpret_cast<int32_t*>(base + s.q_start);
    keep = floats(s.keep);
    weight_scale[0] = floats(s.weight_scale);
    weight_scale[1] = weight_scale[0] + Isa::kRows;
    out = floats(s.out);
    scores = floats(s.scores);
    weights[0] = base + s.weights;
    weights[1] = weights[0] + Isa::kRows * kBlockTokens * Scratch<Isa>::kScalar;
    k_scales = floats(s.k_scales);
    v_scales = floats(s.v_scales);
    k_unpacked = base + s.k;
    v_unpacked = base + s.v;
    row_buffer = floats(s.row);
  }

  // Rows are spread evenly: 9 rows are 5 and 4, not 8 and 1.
  int tile_begin(int tile) const { return rows * tile / row_tiles; }
  int tile_rows(int tile) const { return tile_begin(tile + 1) - tile_begin(tile); }
  int block_tokens() const { return block_pages * kPageTokens; }
  int padded_values() const { return Scratch<Isa>::padded_values(format); }
  uint32_t query_of(int row) const { return task.queries[static_cast<size_t>(row / head.group)]; }
};

}  // namespace
}  // namespace pm

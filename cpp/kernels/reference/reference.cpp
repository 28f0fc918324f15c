// Plain C++ attention and KV write: any format, any head size, double precision where it matters.
// What every other kernel is tested against.
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention.h"
#include "kernels/codec.h"
#include "kernels/combine.h"
#include "kernels/page_access.h"

namespace pm {
namespace {

struct ReferenceTag {};

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

uint16_t load16(const uint8_t* at) {
  return static_cast<uint16_t>(at[0] | static_cast<uint16_t>(at[1]) << 8);
}

void store16(uint8_t* at, uint16_t bits) {
  at[0] = static_cast<uint8_t>(bits);
  at[1] = static_cast<uint8_t>(bits >> 8);
}

float load_element(KvType type, const uint8_t* block, size_t index) {
  if (type == KvType::kBf16) return bf16_to_float(load16(block + 2 * index));
  if (type == KvType::kFp8) return e4m3_to_float(block[index]);
  return static_cast<int8_t>(block[index]);
}

float load_scale(KvType type, int head_size, const uint8_t* block, int slot) {
  if (type == KvType::kBf16) return 1;
  return bf16_to_float(load16(block + scales_offset(head_size) + 2 * slot));
}

// Stores one token's row into a block; `index(i)` is where its element i goes.
template <class Index>
void store_row(KvType type, const float* row, int size, uint8_t* block, int slot, Index index) {
  if (type == KvType::kBf16) {
    for (int i = 0; i < size; ++i) store16(block + 2 * index(i), float_to_bf16(row[i]));
    return;
  }
  std::vector<float> rotated(row, row + size);
  if (type == KvType::kInt8) rotate_row<ReferenceTag>(rotated.data(), size);
  uint32_t max_bits = 0;
  for (float x : rotated) max_bits = std::max(max_bits, magnitude_bits(x));
  const RowScale scale = row_scale(max_bits, type);
  store16(block + scales_offset(size) + 2 * slot, scale.stored);
  for (int i = 0; i < size; ++i) {
    const float x = scale.inverse == 0 ? 0 : rotated[i] * scale.inverse;
    block[index(i)] =
        type == KvType::kInt8 ? static_cast<uint8_t>(float_to_int8(x)) : float_to_e4m3(x);
  }
}

void reference_write(const PageFormat& format, const HeadPages& pages, const KvWrite& write) {
  for (size_t t = 0; t < write.slots.size(); ++t) {
    uint8_t* page = pages.page(write.slots[t] / kPageTokens);
    const int slot = static_cast<int>(write.slots[t] % kPageTokens);
    store_row(format.k_type, write.k + t * write.k_stride, format.head_k, page, slot,
              [&](int i) { return key_element(slot, i); });
    store_row(format.v_type, write.v + t * write.v_stride, format.head_v, page + format.v_offset(),
              slot, [&](int i) { return value_element(format.head_v, slot, i); });
  }
}

// One query row of one head over a list of tokens, as the textbook has it.
class Row {
 public:
  Row(const PageFormat& format, const AttentionHead& head, const float* q)
      : format_(format), head_(head), q_(q, q + format.head_k), values_(format.head_v) {
    if (format.k_type == KvType::kInt8) rotate_row<ReferenceTag>(q_.data(), format.head_k);
  }

  void see(const uint8_t* page, uint32_t mask) {
    for (int slot = 0; slot < kPageTokens; ++slot) {
      if ((mask >> slot & 1) != 0) add(score(page, slot), page + format_.v_offset(), slot);
    }
  }

  double max() const { return max_; }
  double sum() const { return sum_; }
  const std::vector<double>& values() const { return values_; }

 private:
  double score(const uint8_t* page, int slot) const {
    double dot = 0;
    for (int i = 0; i < format_.head_k; ++i) {
      dot += static_cast<double>(q_[i]) * load_element(format_.k_type, page, key_element(slot, i));
    }
    const double x = dot * load_scale(format_.k_type, format_.head_k, page, slot) * head_.scale;
    return head_.softcap > 0 ? head_.softcap * std::tanh(x / head_.softcap) : x;
  }

  void add(double score, const uint8_t* block, int slot) {
    const double max = std::fmax(max_, score);
    // A score of -inf (or NaN beside it) before any other: nothing to rescale yet.
    const double keep = max_ == kMinusInfinity ? 0 : std::exp(max_ - max);
    const double weight = score == kMinusInfinity ? 0 : std::exp(score - max);
    max_ = max;
    sum_ = sum_ * keep + weight;
    const double factor = weight * load_scale(format_.v_type, format_.head_v, block, slot);
    for (int i = 0; i < format_.head_v; ++i) {
      const size_t index = value_element(format_.head_v, slot, i);
      values_[i] = values_[i] * keep + factor * load_element(format_.v_type, block, index);
    }
  }

  const PageFormat& format_;
  const AttentionHead& head_;
  std::vector<float> q_;
  double max_ = kMinusInfinity;
  double sum_ = 0;
  std::vector<double> values_;
};

void store_partial(const PageFormat& format, const AttentionHead& head, int g, const Row& row,
                   float* partial) {
  partial[2 * g] = static_cast<float>(row.max());
  partial[2 * g + 1] = static_cast<float>(row.sum());
  float* values = partial + 2 * head.group + g * format.head_v;
  for (int i = 0; i < format.head_v; ++i) values[i] = static_cast<float>(row.values()[i]);
}

void reference_run(const PageFormat& format, const AttentionHead& head, const AttentionTask& task,
                   float* partials, void* /*scratch*/) {
  const size_t part_floats = partial_floats(format, head.group);
  std::vector<float> own(part_floats);
  const uint32_t first_part = 0;
  for (size_t i = 0; i < task.queries.size(); ++i) {
    const size_t query = task.queries[i];
    float* partial = task.partial < 0
                         ? own.data()
                         : partials + (static_cast<size_t>(task.partial) + i) * part_floats;
    for (int g = 0; g < head.group; ++g) {
      Row row(format, head, head.q + query * head.q_stride + g * format.head_k);
      for (PageId id : task.full) row.see(head.pages.page(id), 0xffffffffu);
      for (size_t m = 0; m < task.masked.size(); ++m) {
        row.see(head.pages.page(task.masked[m]), task.masks[m * task.queries.size() + i]);
      }
      store_partial(format, head, g, row, partial);
    }
    if (task.partial < 0) {
      combine_partials(format, head, static_cast<uint32_t>(query), partial, {&first_part, 1});
    }
  }
}

size_t reference_scratch_bytes(const PageFormat& /*format*/, int /*group*/) { return 0; }

}  // namespace

const KvKernels& reference_kernels() {
  static constexpr KvKernels kernels{"reference", reference_scratch_bytes, reference_write,
                                     reference_run, combine_partials};
  return kernels;
}

}  // namespace pm

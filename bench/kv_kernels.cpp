// Attention kernels against what the machine can do, on one thread: decode in GB/s beside a plain
// read loop over the same pages, prefill in GFLOP/s beside a loop of nothing but dot products.
//
//   polymind_kv_bench [--kernel NAME] [--head N] [--tokens N] [--group N]
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "kernels/attention.h"

namespace pm {
namespace {

struct Options {
  std::string kernel;
  int head = 0;
  int tokens = 8192;
  int group = 0;
};

volatile uint64_t g_sink;

double seconds() {
  using Clock = std::chrono::steady_clock;
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

// Best of several runs: other programs only ever add time.
template <class Body>
double best_seconds(int runs, const Body& body) {
  double best = 1e9;
  for (int i = 0; i < runs; ++i) {
    const double start = seconds();
    body();
    best = std::min(best, seconds() - start);
  }
  return best;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

const char* name_of(KvType type) {
  return type == KvType::kBf16 ? "bf16" : type == KvType::kInt8 ? "int8" : "fp8";
}

typedef uint64_t Vector __attribute__((vector_size(32)));

#if defined(__x86_64__)
__attribute__((target("avx2")))
#endif
uint64_t read_lines(const uint8_t* at, size_t bytes, size_t ahead) {
  Vector a{}, b{}, c{}, d{};
  for (size_t i = 0; i + 128 <= bytes; i += 128) {
    if (ahead > 0) {
      __builtin_prefetch(at + i + ahead);
      __builtin_prefetch(at + i + ahead + 64);
    }
    const auto* vectors = reinterpret_cast<const Vector*>(at + i);
    a += vectors[0];
    b += vectors[1];
    c += vectors[2];
    d += vectors[3];
  }
  a = (a ^ b) + (c ^ d);
  return a[0] + a[1] + a[2] + a[3];
}

// Pages of `heads` heads as an engine has them: slabs of 64 pages, within a slab head after head.
class Pages {
 public:
  Pages(const PageFormat& format, const KvKernels& kernels, int heads, int tokens)
      : format_(format), heads_(heads), pages_((tokens + kPageTokens - 1) / kPageTokens) {
    slab_bytes_ = static_cast<size_t>(heads) * kSlabPages * format.bytes();
    const int slabs = (pages_ + kSlabPages - 1) / kSlabPages;
    for (int i = 0; i < slabs; ++i) {
      const size_t bytes = (slab_bytes_ + kHugePage - 1) / kHugePage * kHugePage;
      slabs_.push_back(static_cast<uint8_t*>(std::aligned_alloc(kHugePage, bytes)));
#ifdef __linux__
      madvise(slabs_.back(), bytes, MADV_HUGEPAGE);
#endif
    }
    ids_.resize(static_cast<size_t>(pages_));
    std::iota(ids_.begin(), ids_.end(), 0u);
    fill(kernels);
  }
  ~Pages() {
    for (uint8_t* slab : slabs_) std::free(slab);
  }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  HeadPages head(int h) const {
    return {slabs_.data(), static_cast<size_t>(h) * kSlabPages * format_.bytes(), 6,
            format_.bytes()};
  }
  const std::vector<PageId>& ids() const { return ids_; }
  int heads() const { return heads_; }
  double head_bytes() const { return pages_ * static_cast<double>(format_.bytes()); }

  // Every byte of a head once, in the order of its pages.
  uint64_t read(int h, size_t ahead) const {
    uint64_t sum = 0;
    const HeadPages pages = head(h);
    for (PageId id : ids_) sum += read_lines(pages.page(id), format_.bytes(), ahead);
    return sum;
  }

 private:
  static constexpr int kSlabPages = 64;
  static constexpr size_t kHugePage = size_t{2} << 20;

  // One head's rows are random, the others copies of it: values do not matter, bytes do.
  void fill(const KvKernels& kernels) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    const size_t size = static_cast<size_t>(std::max(format_.head_k, format_.head_v));
    std::vector<float> rows(kPageTokens * size);
    for (float& x : rows) x = normal(random);
    std::vector<SlotId> slots(kPageTokens);
    for (PageId id : ids_) {
      std::iota(slots.begin(), slots.end(), id * kPageTokens);
      kernels.write(format_, head(0), {rows.data(), rows.data(), size, size, slots});
      for (int h = 1; h < heads_; ++h) {
        std::memcpy(head(h).page(id), head(0).page(id), format_.bytes());
      }
    }
  }

  PageFormat format_;
  int heads_;
  int pages_;
  size_t slab_bytes_ = 0;
  std::vector<uint8_t*> slabs_;
  std::vector<PageId> ids_;
};

struct Batch {
  std::vector<float> q, out;
  std::vector<uint32_t> queries;
  std::vector<uint8_t> scratch;

  Batch(const PageFormat& format, const KvKernels& kernels, int count, int group)
      : q(static_cast<size_t>(count * group * format.head_k), 0.1f),
        out(static_cast<size_t>(count * group * format.head_v)),
        queries(static_cast<size_t>(count)),
        scratch(kernels.scratch_bytes(format, group) + 64) {
    std::iota(queries.begin(), queries.end(), 0u);
    std::mt19937 random(2);
    std::normal_distribution<float> normal;
    for (float& x : q) x = normal(random);
  }
  void* aligned_scratch() {
    return reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(scratch.data()) + 63) / 64 * 64);
  }
  AttentionHead head(const PageFormat& format, const HeadPages& pages, int group) {
    AttentionHead h;
    h.pages = pages;
    h.q = q.data();
    h.q_stride = static_cast<size_t>(group * format.head_k);
    h.out = out.data();
    h.out_stride = static_cast<size_t>(group * format.head_v);
    h.group = group;
    h.scale = 0.1f;
    return h;
  }
};

void bench_decode(const PageFormat& format, const KvKernels& kernels, const Options& options,
                  int group) {
  constexpr double kBeyondCaches = 192e6;
  const double head_bytes =
      static_cast<double>(options.tokens) / kPageTokens * static_cast<double>(format.bytes());
  const Pages pages(format, kernels, static_cast<int>(kBeyondCaches / head_bytes) + 1,
                    options.tokens);
  Batch batch(format, kernels, 1, group);
  // Head by head in turn, each on memory that the caches have long lost: other programs slow down
  // both alike, and medians do not see interruptions.
  constexpr size_t kAhead[] = {0, 512, 4096};
  std::vector<double> read[3];
  std::vector<double> attend;
  const auto timed = [](const auto& body) {
    const double start = seconds();
    body();
    return seconds() - start;
  };
  for (int round = 0; round < 3; ++round) {
    for (int h = 0; h < pages.heads(); ++h) {
      const int other = (h + pages.heads() / 2) % pages.heads();
      const int variant = (h + round) % 3;
      read[variant].push_back(timed([&] { g_sink = pages.read(other, kAhead[variant]); }));
      const AttentionHead head = batch.head(format, pages.head(h), group);
      attend.push_back(timed([&] {
        kernels.run(format, head, {batch.queries, pages.ids(), {}, nullptr, -1}, nullptr,
                    batch.aligned_scratch());
      }));
    }
  }
  const double fastest_read = std::min({median(read[0]), median(read[1]), median(read[2])});
  const double time = median(attend);
  std::printf(
      "decode  %-10s K %-4s V %-4s head %3d group %d tokens %5d: %6.2f GB/s of %6.2f (%3.0f %%)\n",
      kernels.name, name_of(format.k_type), name_of(format.v_type), format.head_k, group,
      options.tokens, pages.head_bytes() / time * 1e-9, pages.head_bytes() / fastest_read * 1e-9,
      100 * fastest_read / time);
}

#if defined(__x86_64__) && defined(__GNUC__)
// Sixteen independent sums: enough to hide the latency. In assembly, because a compiler sees that
// nobody needs sixteen.
void dot_products(int steps) {
  for (int i = 0; i < steps; ++i) {
#define PM_DOT(n) "vdpbf16ps %%zmm16, %%zmm16, %%zmm" #n "\n\t"
    __asm__ volatile(PM_DOT(0) PM_DOT(1) PM_DOT(2) PM_DOT(3) PM_DOT(4) PM_DOT(5) PM_DOT(6)
                         PM_DOT(7) PM_DOT(8) PM_DOT(9) PM_DOT(10) PM_DOT(11) PM_DOT(12)
                             PM_DOT(13) PM_DOT(14) PM_DOT(15)::
                                 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
                                   "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
                                   "xmm15");
#undef PM_DOT
  }
}
double peak_gflops() {
  constexpr int kSteps = 4000000;
  return 16.0 * 64 * kSteps / best_seconds(5, [] { dot_products(kSteps); }) * 1e-9;
}
bool has_bf16() { return __builtin_cpu_supports("avx512bf16"); }
#else
double peak_gflops() { return 0; }
bool has_bf16() { return false; }
#endif

void bench_prefill(const PageFormat& format, const KvKernels& kernels, int group, double peak) {
  constexpr int kTokens = 4096;
  constexpr int kQueries = 32;
  const Pages pages(format, kernels, 1, kTokens);
  Batch batch(format, kernels, kQueries, group);
  const AttentionHead head = batch.head(format, pages.head(0), group);
  constexpr int kRepeats = 4;
  const double time = best_seconds(8, [&] {
    for (int i = 0; i < kRepeats; ++i) {
      kernels.run(format, head, {batch.queries, pages.ids(), {}, nullptr, -1}, nullptr,
                  batch.aligned_scratch());
    }
  });
  const double flops = 2.0 * kQueries * group * kTokens * (format.head_k + format.head_v);
  const double rate = kRepeats * flops / time * 1e-9;
  std::printf(
      "prefill %-10s K %-4s V %-4s head %3d group %d tokens %5d: %6.1f GFLOP/s of %6.1f (%3.0f "
      "%%)\n",
      kernels.name, name_of(format.k_type), name_of(format.v_type), format.head_k, group, kTokens,
      rate, peak, peak > 0 ? 100 * rate / peak : 0);
}

void bench_write(const PageFormat& format, const KvKernels& kernels) {
  constexpr int kTokens = 512;
  Pages pages(format, kernels, 1, kTokens);
  const size_t k_stride = static_cast<size_t>(format.head_k);
  const size_t v_stride = static_cast<size_t>(format.head_v);
  const std::vector<float> rows(kTokens * std::max(k_stride, v_stride), 0.3f);
  std::vector<SlotId> slots(kTokens);
  std::iota(slots.begin(), slots.end(), 0u);
  const double time = best_seconds(20, [&] {
    kernels.write(format, pages.head(0), {rows.data(), rows.data(), k_stride, v_stride, slots});
  });
  std::printf("write   %-10s K %-4s V %-4s head %3d: %6.0f ns a token\n", kernels.name,
              name_of(format.k_type), name_of(format.v_type), format.head_k, time / kTokens * 1e9);
}

int run(const Options& options) {
  const double peak = has_bf16() ? peak_gflops() : 0;
  for (int head : {64, 128}) {
    if (options.head != 0 && options.head != head) continue;
    for (KvType type : {KvType::kBf16, KvType::kInt8, KvType::kFp8}) {
      const PageFormat format{type, type, head, head};
      for (const KvKernels* kernels : available_kernels(format)) {
        if (kernels == &reference_kernels() && options.kernel != kernels->name) continue;
        if (!options.kernel.empty() && options.kernel != kernels->name) continue;
        for (int group : {1, 4, 7, 8}) {
          if (options.group != 0 && options.group != group) continue;
          bench_decode(format, *kernels, options, group);
        }
        bench_prefill(format, *kernels, options.group != 0 ? options.group : 4, peak);
        bench_write(format, *kernels);
      }
    }
  }
  return 0;
}

}  // namespace
}  // namespace pm

int main(int argc, char** argv) {
  pm::Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    if (name == "--kernel") options.kernel = argv[i + 1];
    if (name == "--head") options.head = std::atoi(argv[i + 1]);
    if (name == "--tokens") options.tokens = std::atoi(argv[i + 1]);
    if (name == "--group") options.group = std::atoi(argv[i + 1]);
  }
  return pm::run(options);
}

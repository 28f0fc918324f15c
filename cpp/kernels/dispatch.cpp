// Which kernels run: the fastest of this machine, or the one that POLYMIND_KV_KERNELS names.
#include <array>
#include <cstdlib>
#include <string_view>

#include "kernels/attention.h"
#include "kernels/cpu/cpu_kernels.h"

namespace pm {
namespace {

// Vectorised kernels read values in tiles of up to 32; narrower heads go to the reference.
constexpr int kSmallestVectorHead = 32;

struct Available {
  std::array<const KvKernels*, 4> kernels{};
  size_t count = 0;

  void add(const KvKernels* kernel) {
    if (kernel != nullptr) kernels[count++] = kernel;
  }
  std::span<const KvKernels* const> list(const PageFormat& format) const {
    const std::span<const KvKernels* const> all(kernels.data(), count);
    return format.head_v < kSmallestVectorHead ? all.last(1) : all;
  }
};

const Available& available() {
  static const Available found = [] {
    Available a;
    a.add(avx512_kernels());
    a.add(avx2_kernels());
    a.add(neon_kernels());
    a.add(&reference_kernels());
    return a;
  }();
  return found;
}

const char* requested_name() {
  const char* name = std::getenv("POLYMIND_KV_KERNELS");
  return name != nullptr && *name != '\0' ? name : nullptr;
}

const KvKernels* find(std::span<const KvKernels* const> list, const char* name) {
  for (const KvKernels* kernel : list) {
    if (std::string_view(name) == kernel->name) return kernel;
  }
  return nullptr;
}

}  // namespace

const KvKernels& best_kernels(const PageFormat& format) {
  const auto list = available().list(format);
  const char* name = requested_name();
  const KvKernels* forced = name != nullptr ? find(list, name) : nullptr;
  return forced != nullptr ? *forced : *list.front();
}

const char* unknown_kernels_request(const PageFormat& format) {
  const char* name = requested_name();
  return name != nullptr && find(available().list(format), name) == nullptr ? name : nullptr;
}

std::span<const KvKernels* const> available_kernels(const PageFormat& format) {
  return available().list(format);
}

}  // namespace pm

// Which kernels run: the fastest of this machine, or the one that POLYMIND_KV_KERNELS names.
#include <array>
#include <cstdlib>
#include <string_view>

#include "kernels/attention.h"

namespace pm {
namespace {

struct Available {
  std::array<const KvKernels*, 4> kernels{};
  size_t count = 0;

  void add(const KvKernels* kernel) {
    if (kernel != nullptr) kernels[count++] = kernel;
  }
  std::span<const KvKernels* const> list() const { return {kernels.data(), count}; }
};

// Every kernel takes every format; a future one that does not is filtered here.
const Available& available() {
  static const Available found = [] {
    Available a;
    a.add(&reference_kernels());
    return a;
  }();
  return found;
}

const char* requested_name() {
  const char* name = std::getenv("POLYMIND_KV_KERNELS");
  return name != nullptr && *name != '\0' ? name : nullptr;
}

const KvKernels* find(const char* name) {
  for (const KvKernels* kernel : available().list()) {
    if (std::string_view(name) == kernel->name) return kernel;
  }
  return nullptr;
}

const KvKernels& choose() {
  const char* name = requested_name();
  const KvKernels* kernel = name != nullptr ? find(name) : nullptr;
  return kernel != nullptr ? *kernel : *available().kernels[0];
}

}  // namespace

const KvKernels& best_kernels(const PageFormat& /*format*/) {
  // Chosen once: pages and partial results outlive a change of the environment.
  static const KvKernels& best = choose();
  return best;
}

const char* unknown_kernels_request() {
  const char* name = requested_name();
  return name != nullptr && find(name) == nullptr ? name : nullptr;
}

std::span<const KvKernels* const> available_kernels(const PageFormat& /*format*/) {
  return available().list();
}

}  // namespace pm

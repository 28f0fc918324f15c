#include "core/system.h"

#include <algorithm>
#include <cstdint>
#include <fstream>

#if defined(_WIN32)
#include <windows.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#else
#include <unistd.h>
#endif

namespace pm {
namespace {

constexpr size_t kUnknown = size_t{4} << 30;

size_t installed_memory() {
#if defined(_WIN32)
  MEMORYSTATUSEX status{};
  status.dwLength = sizeof status;
  return GlobalMemoryStatusEx(&status) ? static_cast<size_t>(status.ullTotalPhys) : kUnknown;
#elif defined(__APPLE__)
  uint64_t bytes = 0;
  size_t length = sizeof bytes;
  return sysctlbyname("hw.memsize", &bytes, &length, nullptr, 0) == 0 ? bytes : kUnknown;
#else
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page = sysconf(_SC_PAGE_SIZE);
  return pages > 0 && page > 0 ? static_cast<size_t>(pages) * static_cast<size_t>(page) : kUnknown;
#endif
}

}  // namespace

size_t physical_memory_bytes() {
  size_t bytes = installed_memory();
  // cgroup v2; "max" does not parse and changes nothing.
  std::ifstream limit("/sys/fs/cgroup/memory.max");
  uint64_t value = 0;
  if (limit >> value && value > 0) bytes = std::min<size_t>(bytes, value);
  return bytes;
}

}  // namespace pm

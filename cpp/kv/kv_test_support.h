// Memory, bytes and folders for tests.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "kv/page_bytes.h"
#include "kv/page_pool.h"

namespace pm {

// Every slot holds one number: what its token is.
class FakePageBytes : public PageBytes {
 public:
  FakePageBytes(size_t groups, size_t pages)
      : contents_(groups, std::vector<uint64_t>(pages * kPageTokens, 0)) {}

  size_t page_bytes(size_t) const override { return kPageTokens * sizeof(uint64_t); }
  void read(size_t group, PageId page, std::span<uint8_t> to) const override {
    std::memcpy(to.data(), &contents_[group][size_t{page} * kPageTokens], to.size());
  }
  void write(size_t group, PageId page, std::span<const uint8_t> from) override {
    std::memcpy(&contents_[group][size_t{page} * kPageTokens], from.data(), from.size());
  }
  uint64_t& slot(size_t group, SlotId slot) { return contents_[group][slot]; }

 private:
  std::vector<std::vector<uint64_t>> contents_;
};

// Slabs that fail when told to, and notice misuse.
class FakeSlabs : public SlabSource {
 public:
  bool allocate(size_t index) override {
    if (allocations++ == fail_at) return false;
    EXPECT_TRUE(live.insert(index).second) << "slab allocated twice";
    return true;
  }
  void release(size_t index) override { EXPECT_EQ(live.erase(index), 1u); }

  std::set<size_t> live;
  size_t allocations = 0;
  size_t fail_at = SIZE_MAX;
};

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::random_device random;
    path = std::filesystem::temp_directory_path() /
           ("polymind-kv-test-" + std::to_string(random()) + std::to_string(random()));
    std::filesystem::create_directories(path);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  size_t files() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(path),
                                             std::filesystem::directory_iterator()));
  }
  std::filesystem::path path;
};

inline std::vector<uint8_t> read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// In place: replacing a file by truncating it first makes some file systems wait for the disk.
inline void write_file(const std::filesystem::path& path, std::span<const uint8_t> bytes) {
  if (!std::filesystem::exists(path)) std::ofstream(path, std::ios::binary);
  std::fstream out(path, std::ios::binary | std::ios::in | std::ios::out);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
  out.close();
  std::filesystem::resize_file(path, bytes.size());
}

// Value of an error's detail; empty if there is none.
inline std::string detail(const Error& error, const std::string& key) {
  for (const auto& [name, value] : error.details) {
    if (name == key) return value;
  }
  return "";
}

}  // namespace pm

#if defined(__linux__) || defined(__APPLE__)
#include <sys/resource.h>

#include <csignal>

namespace pm {

// While it lives, files cannot grow beyond `bytes`: what a full disk looks like to a writer.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  ~FullDisk() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

}  // namespace pm
#define POLYMIND_TEST_FULL_DISK 1
#endif

// Files at byte offsets, with errors as values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "core/result.h"

namespace pm {

class File {
 public:
  // Fails if there is such a file already. Only the owner may read it: it holds conversations.
  static Result<File> create(const std::filesystem::path& path);
  static Result<File> open(const std::filesystem::path& path);

  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  // All of `bytes`. A full disk is kOutOfMemory.
  Status write_at(uint64_t offset, std::span<const uint8_t> bytes);
  // Bytes read: fewer only at the end of the file.
  Result<size_t> read_at(uint64_t offset, std::span<uint8_t> bytes);
  Result<uint64_t> size() const;
  // The bytes reach the disk before this returns.
  Status sync();
  // Nobody else may lock the file as long as it is open here. False: somebody did.
  bool lock();

 private:
  explicit File(intptr_t handle) : handle_(handle) {}
  intptr_t handle_ = -1;  // a file descriptor; on Windows a HANDLE
};

}  // namespace pm

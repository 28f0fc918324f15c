// Where the bytes of a GGUF header come from, and a cursor that never leaves them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <span>
#include <string>

#include "core/result.h"

namespace pm::gguf {

class Source {
 public:
  virtual ~Source() = default;
  virtual uint64_t size() const = 0;
  // Copies exactly `count` bytes from the current position. Precondition: they exist according to
  // size(). False when the device fails or the file shrank meanwhile.
  virtual bool read(void* target, uint64_t count) = 0;
};

class MemorySource final : public Source {
 public:
  explicit MemorySource(std::span<const std::byte> bytes) : bytes_(bytes) {}
  uint64_t size() const override { return bytes_.size(); }
  bool read(void* target, uint64_t count) override {
    if (count > bytes_.size() - position_) return false;
    if (count != 0) std::memcpy(target, bytes_.data() + position_, count);
    position_ += count;
    return true;
  }

 private:
  std::span<const std::byte> bytes_;
  uint64_t position_ = 0;
};

class FileSource final : public Source {
 public:
  // Errors: kModelNotFound, kModelInvalid (a folder, a device, an empty file).
  static Result<FileSource> open(const std::string& path);
  uint64_t size() const override { return size_; }
  bool read(void* target, uint64_t count) override;

 private:
  std::ifstream stream_;
  uint64_t size_ = 0;
};

// Reads little-endian values and remembers the position for error messages.
class Cursor {
 public:
  Cursor(Source& source, uint64_t end) : source_(source), end_(end) {}

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return end_ - position_; }

  bool read_bytes(void* target, uint64_t count) {
    if (count > remaining() || !source_.read(target, count)) return false;
    position_ += count;
    return true;
  }

  template <typename T>
  bool read(T& target) {
    return read_bytes(&target, sizeof(T));
  }

 private:
  Source& source_;
  uint64_t end_;
  uint64_t position_ = 0;
};

}  // namespace pm::gguf

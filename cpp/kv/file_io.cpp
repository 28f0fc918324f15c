#include "kv/file_io.h"

#include <algorithm>
#include <string>
#include <system_error>
#include <utility>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#endif

namespace pm {
namespace {

std::error_code last_error() {
#if defined(_WIN32)
  return {static_cast<int>(GetLastError()), std::system_category()};
#else
  return {errno, std::generic_category()};
#endif
}

bool disk_is_full(const std::error_code& code) {
#if defined(EDQUOT)
  if (code == std::error_code(EDQUOT, std::generic_category())) return true;
#endif
  return code == std::errc::no_space_on_device || code == std::errc::file_too_large;
}

Error io_error(const char* action, const std::error_code& code) {
  const bool full = disk_is_full(code);
  return {full ? ErrorCode::kOutOfMemory : ErrorCode::kInvalidRequest,
          std::string(action) + ": " + code.message(),
          {{"reason", full ? "disk_full" : "file"}}};
}

// One call writes or reads at most this much.
constexpr size_t kMaxPiece = size_t{1} << 30;

#if defined(_WIN32)

HANDLE handle_of(intptr_t handle) { return reinterpret_cast<HANDLE>(handle); }

OVERLAPPED at_offset(uint64_t offset) {
  OVERLAPPED place{};
  place.Offset = static_cast<DWORD>(offset);
  place.OffsetHigh = static_cast<DWORD>(offset >> 32);
  return place;
}

// Bytes moved; -1: failure; 0: end of the file.
int64_t write_piece(intptr_t handle, uint64_t offset, std::span<const uint8_t> bytes) {
  OVERLAPPED place = at_offset(offset);
  DWORD done = 0;
  const auto count = static_cast<DWORD>(bytes.size());
  return WriteFile(handle_of(handle), bytes.data(), count, &done, &place) ? done : -1;
}

int64_t read_piece(intptr_t handle, uint64_t offset, std::span<uint8_t> bytes) {
  OVERLAPPED place = at_offset(offset);
  DWORD done = 0;
  const auto count = static_cast<DWORD>(bytes.size());
  if (ReadFile(handle_of(handle), bytes.data(), count, &done, &place)) return done;
  return GetLastError() == ERROR_HANDLE_EOF ? 0 : -1;
}

bool interrupted() { return false; }

#else

int64_t write_piece(intptr_t handle, uint64_t offset, std::span<const uint8_t> bytes) {
  return pwrite(static_cast<int>(handle), bytes.data(), bytes.size(), static_cast<off_t>(offset));
}

int64_t read_piece(intptr_t handle, uint64_t offset, std::span<uint8_t> bytes) {
  return pread(static_cast<int>(handle), bytes.data(), bytes.size(), static_cast<off_t>(offset));
}

bool interrupted() { return errno == EINTR; }

#endif

}  // namespace

#if defined(_WIN32)

Result<File> File::create(const std::filesystem::path& path) {
  // No sharing: this is the lock as well.
  const HANDLE handle = CreateFileW(path.c_str(), GENERIC_READ | GENERIC_WRITE | DELETE, 0, nullptr,
                                    CREATE_NEW, FILE_ATTRIBUTE_NORMAL, nullptr);
  if (handle == INVALID_HANDLE_VALUE) return io_error("creating a file", last_error());
  return File(reinterpret_cast<intptr_t>(handle));
}

Result<File> File::open(const std::filesystem::path& path) {
  const HANDLE handle = CreateFileW(path.c_str(), GENERIC_READ, FILE_SHARE_READ, nullptr,
                                    OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, nullptr);
  if (handle == INVALID_HANDLE_VALUE) return io_error("opening a file", last_error());
  return File(reinterpret_cast<intptr_t>(handle));
}

File::~File() {
  if (handle_ != -1) CloseHandle(handle_of(handle_));
}

Result<uint64_t> File::size() const {
  LARGE_INTEGER size;
  if (!GetFileSizeEx(handle_of(handle_), &size)) return io_error("reading a file", last_error());
  return static_cast<uint64_t>(size.QuadPart);
}

Status File::sync() {
  if (!FlushFileBuffers(handle_of(handle_))) return io_error("writing a file", last_error());
  return {};
}

bool File::lock() { return true; }

#else

Result<File> File::create(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (descriptor < 0) return io_error("creating a file", last_error());
  return File(descriptor);
}

Result<File> File::open(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return io_error("opening a file", last_error());
  return File(descriptor);
}

File::~File() {
  if (handle_ != -1) ::close(static_cast<int>(handle_));
}

Result<uint64_t> File::size() const {
  struct stat info;
  if (fstat(static_cast<int>(handle_), &info) != 0) return io_error("reading a file", last_error());
  return static_cast<uint64_t>(info.st_size);
}

Status File::sync() {
  if (fsync(static_cast<int>(handle_)) != 0) return io_error("writing a file", last_error());
  return {};
}

bool File::lock() { return flock(static_cast<int>(handle_), LOCK_EX | LOCK_NB) == 0; }

#endif

File::File(File&& other) noexcept : handle_(std::exchange(other.handle_, -1)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(handle_, other.handle_);
  return *this;
}

Status File::write_at(uint64_t offset, std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const auto piece = bytes.first(std::min(bytes.size(), kMaxPiece));
    const int64_t done = write_piece(handle_, offset, piece);
    if (done < 0 && interrupted()) continue;
    if (done < 0) return io_error("writing a file", last_error());
    offset += static_cast<uint64_t>(done);
    bytes = bytes.subspan(static_cast<size_t>(done));
  }
  return {};
}

Result<size_t> File::read_at(uint64_t offset, std::span<uint8_t> bytes) {
  size_t total = 0;
  while (total < bytes.size()) {
    const auto piece = bytes.subspan(total, std::min(bytes.size() - total, kMaxPiece));
    const int64_t done = read_piece(handle_, offset + total, piece);
    if (done < 0 && interrupted()) continue;
    if (done < 0) return io_error("reading a file", last_error());
    if (done == 0) break;
    total += static_cast<size_t>(done);
  }
  return total;
}

}  // namespace pm

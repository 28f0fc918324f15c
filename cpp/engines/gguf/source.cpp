#include "engines/gguf/source.h"

#include <filesystem>
#include <system_error>

namespace pm::gguf {
namespace {

std::filesystem::path to_path(const std::string& utf8) {
  return std::filesystem::path(
      std::u8string(reinterpret_cast<const char8_t*>(utf8.data()), utf8.size()));
}

}  // namespace

Result<FileSource> FileSource::open(const std::string& path) {
  std::error_code code;
  const auto status = std::filesystem::status(to_path(path), code);
  if (status.type() == std::filesystem::file_type::not_found) {
    return Error{ErrorCode::kModelNotFound,
                 "expected a GGUF file at " + path + ", found nothing",
                 {{"path", path}}};
  }
  if (code || !std::filesystem::is_regular_file(status)) {
    return Error{ErrorCode::kModelInvalid,
                 "expected a GGUF file at " + path + ", found something that is not a regular file",
                 {{"path", path}}};
  }
  FileSource source;
  source.size_ = std::filesystem::file_size(to_path(path), code);
  source.stream_.open(to_path(path), std::ios::binary);
  if (code || !source.stream_) {
    return Error{
        ErrorCode::kModelInvalid,
        "expected a readable GGUF file at " + path + ", found that it cannot be opened for reading",
        {{"path", path}}};
  }
  return source;
}

bool FileSource::read(void* target, uint64_t count) {
  stream_.read(static_cast<char*>(target), static_cast<std::streamsize>(count));
  return static_cast<uint64_t>(stream_.gcount()) == count;
}

}  // namespace pm::gguf

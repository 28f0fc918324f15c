#include "kv/saved_file.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <system_error>
#include <utility>

namespace pm {
namespace {

Error broken(const char* found) {
  return {ErrorCode::kInvalidRequest,
          std::string("expected a saved conversation, found ") + found,
          {{"reason", "damaged"}}};
}

void put(std::vector<uint8_t>& bytes, uint64_t value) {
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<uint8_t>(value >> (8 * i)));
}

uint64_t get(std::span<const uint8_t> bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < 8; ++i) value |= uint64_t{bytes[i]} << (8 * i);
  return value;
}

// Beside the target, so that renaming never crosses a file system.
std::filesystem::path temporary_name(const std::filesystem::path& path) {
  std::random_device random;
  std::filesystem::path name = path;
  name += "." + std::to_string(random()) + ".partial";
  return name;
}

}  // namespace

SavedFileWriter::SavedFileWriter(File file, std::filesystem::path path,
                                 std::filesystem::path temporary, RecordLayout layout)
    : file_(std::make_unique<File>(std::move(file))),
      path_(std::move(path)),
      temporary_(std::move(temporary)),
      layout_(std::move(layout)) {}

SavedFileWriter::~SavedFileWriter() {
  if (!file_) return;
  file_.reset();
  std::error_code ignored;
  std::filesystem::remove(temporary_, ignored);
}

Result<SavedFileWriter> SavedFileWriter::create(const std::filesystem::path& path,
                                                RecordLayout layout, const SavedHead& head) {
  std::filesystem::path temporary = temporary_name(path);
  auto file = File::create(temporary);
  if (!file) return file.error();
  SavedFileWriter writer(std::move(file).value(), path, std::move(temporary), std::move(layout));

  KvRecord record;
  record.kind = RecordKind::kHead;
  put(record.payload, head.groups.size());
  for (const SavedHead::Group& group : head.groups) {
    put(record.payload, group.first);
    put(record.payload, group.pages);
    writer.promised_ += group.pages;
  }
  record.payload.insert(record.payload.end(), head.notes.begin(), head.notes.end());
  PM_TRY(writer.write(record));
  return writer;
}

Status SavedFileWriter::write(const KvRecord& record) {
  const std::vector<uint8_t> bytes = encode_record(layout_, record);
  PM_TRY(file_->write_at(offset_, bytes));
  offset_ += bytes.size();
  return {};
}

Status SavedFileWriter::add(const KvRecord& record) {
  if (promised_ == 0) return Error{ErrorCode::kInternal, "more pages than the head promised"};
  PM_TRY(write(record));
  --promised_;
  return {};
}

Status SavedFileWriter::commit() {
  if (promised_ != 0) return Error{ErrorCode::kInternal, "fewer pages than the head promised"};
  PM_TRY(file_->sync());
  file_.reset();
  std::error_code error;
  std::filesystem::rename(temporary_, path_, error);
  if (!error) return {};
  std::error_code ignored;
  std::filesystem::remove(temporary_, ignored);
  return Error{ErrorCode::kInvalidRequest,
               "naming the saved conversation: " + error.message(),
               {{"reason", "file"}}};
}

Result<SavedFileReader> SavedFileReader::open(const std::filesystem::path& path,
                                              RecordLayout layout) {
  auto file = File::open(path);
  if (!file) return file.error();
  const auto size = file.value().size();
  if (!size) return size.error();
  SavedFileReader reader(std::move(file).value(), std::move(layout), size.value());
  const auto head = reader.read();
  if (!head) return head.error();
  PM_TRY(reader.take_head(head.value()));
  return reader;
}

Result<KvRecord> SavedFileReader::read() {
  std::vector<uint8_t> bytes(kRecordHeaderBytes);
  auto got = file_.read_at(offset_, bytes);
  if (!got) return got.error();
  bytes.resize(got.value());
  const auto size = record_size(layout_, bytes, size_ - std::min(offset_, size_));
  if (!size) return size.error();
  // No more than the file has: a wrong length cannot ask for memory.
  bytes.resize(size.value());
  got = file_.read_at(offset_, bytes);
  if (!got) return got.error();
  bytes.resize(got.value());
  offset_ += bytes.size();
  return decode_record(layout_, bytes);
}

Status SavedFileReader::take_head(const KvRecord& record) {
  std::span<const uint8_t> rest(record.payload);
  if (record.kind != RecordKind::kHead || rest.size() < 8) return broken("no head");
  const uint64_t count = get(rest);
  rest = rest.subspan(8);
  if (count != layout_.page_bytes.size() || rest.size() < 16 * count) {
    return broken("other layer groups");
  }
  for (uint64_t i = 0; i < count; ++i) {
    head_.groups.push_back({get(rest), get(rest.subspan(8))});
    // Every page is longer than a byte: no count beyond the file's size can be kept.
    if (head_.groups.back().pages > size_) return broken("more pages than bytes");
    left_ += head_.groups.back().pages;
    rest = rest.subspan(16);
  }
  head_.notes.assign(rest.begin(), rest.end());
  if (left_ == 0 && offset_ != size_) return broken("bytes after the end");
  return {};
}

Result<KvRecord> SavedFileReader::next() {
  if (left_ == 0) return Error{ErrorCode::kInternal, "the saved conversation has no more pages"};
  auto record = read();
  if (!record) return record;
  if (record.value().kind != RecordKind::kPage) return broken("a second head");
  if (--left_ == 0 && offset_ != size_) return broken("bytes after the end");
  return record;
}

}  // namespace pm

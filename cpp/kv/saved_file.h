// A saved conversation: records one after the other in a file of the user's choice. A head record
// says how many pages follow, so a file that was cut between two records is noticed, too.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "kv/file_io.h"
#include "kv/kv_record.h"

namespace pm {

struct SavedHead {
  // Per layer group: FullPages::first, and how many page records follow (group after group).
  struct Group {
    uint64_t first = 0;
    uint64_t pages = 0;
  };
  std::vector<Group> groups;
  std::vector<uint8_t> notes;  // the caller's: tokens, settings
};

// The file appears under its name only when it is complete. Plain blocking calls.
class SavedFileWriter {
 public:
  static Result<SavedFileWriter> create(const std::filesystem::path& path, RecordLayout layout,
                                        const SavedHead& head);
  SavedFileWriter(SavedFileWriter&&) = default;
  ~SavedFileWriter();

  Status add(const KvRecord& record);
  // All pages that the head promised were added: makes the file durable and gives it its name.
  Status commit();

 private:
  SavedFileWriter(File file, std::filesystem::path path, std::filesystem::path temporary,
                  RecordLayout layout);
  Status write(const KvRecord& record);

  std::unique_ptr<File> file_;  // null: committed, or moved from
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  RecordLayout layout_;
  uint64_t offset_ = 0;
  uint64_t promised_ = 0;
};

class SavedFileReader {
 public:
  static Result<SavedFileReader> open(const std::filesystem::path& path, RecordLayout layout);
  const SavedHead& head() const { return head_; }
  // The next page record; after the last one the file must end.
  Result<KvRecord> next();

 private:
  SavedFileReader(File file, RecordLayout layout, uint64_t size)
      : file_(std::move(file)), layout_(std::move(layout)), size_(size) {}
  Result<KvRecord> read();
  Status take_head(const KvRecord& record);

  File file_;
  RecordLayout layout_;
  SavedHead head_;
  uint64_t size_;
  uint64_t offset_ = 0;
  uint64_t left_ = 0;  // pages
};

}  // namespace pm

#include "kv/saved_file.h"

#include <gtest/gtest.h>

#include "kv/kv_test_support.h"

namespace pm {
namespace {

const RecordLayout kLayout{{}, {}, {40, 24}};

KvRecord page(uint32_t group, uint8_t content) {
  KvRecord record;
  record.live = 1;
  record.groups = 1u << group;
  record.payload.assign(kLayout.payload_bytes(record.groups), 0);
  record.payload.back() = content;
  return record;
}

SavedHead head() { return {{{0, 2}, {5, 1}}, {'n', 'o', 't', 'e'}}; }

Status save(const std::filesystem::path& path, const SavedHead& head) {
  auto writer = SavedFileWriter::create(path, kLayout, head);
  if (!writer) return writer.error();
  PM_TRY(writer.value().add(page(0, 1)));
  PM_TRY(writer.value().add(page(0, 2)));
  PM_TRY(writer.value().add(page(1, 3)));
  return writer.value().commit();
}

// The last bytes of the pages; or the first error.
Result<std::vector<uint8_t>> load(const std::filesystem::path& path,
                                  const RecordLayout& layout = kLayout) {
  auto reader = SavedFileReader::open(path, layout);
  if (!reader) return reader.error();
  uint64_t pages = 0;
  for (const auto& group : reader.value().head().groups) pages += group.pages;
  std::vector<uint8_t> contents;
  for (; pages > 0; --pages) {
    const auto record = reader.value().next();
    if (!record) return record.error();
    contents.push_back(record.value().payload.back());
  }
  return contents;
}

TEST(SavedFile, ComesBackAsItWent) {
  TemporaryFolder folder;
  const auto path = folder.path / "conversation";
  write_file(path, std::vector<uint8_t>{1, 2, 3});  // replaced
  ASSERT_TRUE(save(path, head()));
  EXPECT_EQ(folder.files(), 1u);
  auto reader = SavedFileReader::open(path, kLayout);
  ASSERT_TRUE(reader);
  const SavedHead& found = reader.value().head();
  ASSERT_EQ(found.groups.size(), 2u);
  EXPECT_EQ(found.groups[1].first, 5u);
  EXPECT_EQ(found.groups[1].pages, 1u);
  EXPECT_EQ(found.notes, head().notes);
  const auto contents = load(path);
  ASSERT_TRUE(contents);
  EXPECT_EQ(contents.value(), (std::vector<uint8_t>{1, 2, 3}));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(reader.value().next());
  EXPECT_FALSE(reader.value().next());
}

TEST(SavedFile, AppearsOnlyWhenComplete) {
  TemporaryFolder folder;
  const auto path = folder.path / "conversation";
  ASSERT_TRUE(save(path, head()));
  const auto before = read_file(path);
  {
    auto writer = SavedFileWriter::create(path, kLayout, head());
    ASSERT_TRUE(writer);
    SavedFileWriter moved = std::move(writer).value();
    ASSERT_TRUE(moved.add(page(0, 9)));
    EXPECT_FALSE(moved.commit());  // two pages are missing
    EXPECT_EQ(read_file(path), before);
    EXPECT_EQ(folder.files(), 2u);
  }
  EXPECT_EQ(folder.files(), 1u);
  EXPECT_EQ(read_file(path), before);
  EXPECT_FALSE(save(path, {{{0, 1}, {0, 0}}, {}}));  // more pages than promised
  EXPECT_FALSE(save(folder.path / "missing" / "conversation", head()));
  EXPECT_FALSE(save(folder.path, head()));  // a folder has that name
  EXPECT_EQ(folder.files(), 1u);
}

TEST(SavedFile, EveryTruncationIsNoticed) {
  TemporaryFolder folder;
  const auto path = folder.path / "conversation";
  ASSERT_TRUE(save(path, head()));
  const auto bytes = read_file(path);
  for (size_t length = 0; length < bytes.size(); ++length) {
    write_file(path, std::span(bytes).first(length));
    const auto result = load(path);
    ASSERT_FALSE(result) << length;
    EXPECT_EQ(detail(result.error(), "reason"), "truncated") << length;
    EXPECT_EQ(result.error().code, ErrorCode::kInvalidRequest);
  }
  auto longer = bytes;
  longer.push_back(0);
  write_file(path, longer);
  EXPECT_FALSE(load(path));
}

TEST(SavedFile, RandomDamageIsNoticed) {
  TemporaryFolder folder;
  const auto path = folder.path / "conversation";
  ASSERT_TRUE(save(path, head()));
  const auto bytes = read_file(path);
  std::mt19937 random(1);
  for (int round = 0; round < 3000; ++round) {
    auto damaged = bytes;
    const size_t flips = 1 + random() % 4;
    for (size_t i = 0; i < flips; ++i) {
      damaged[random() % damaged.size()] ^= static_cast<uint8_t>(1u << (random() % 8));
    }
    if (damaged == bytes) continue;  // flipped back
    write_file(path, damaged);
    ASSERT_FALSE(load(path)) << round;
  }
}

TEST(SavedFile, RecordsInTheWrongOrderAreNoticed) {
  TemporaryFolder folder;
  const auto path = folder.path / "conversation";
  ASSERT_TRUE(save(path, head()));
  auto bytes = read_file(path);
  const auto whole = bytes;
  const size_t first = kLayout.record_bytes(8 + 2 * 16 + 4);
  // The head twice.
  bytes.insert(bytes.begin(), whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(first));
  write_file(path, bytes);
  EXPECT_FALSE(load(path));
  // No head.
  write_file(path, std::span(whole).subspan(first));
  EXPECT_FALSE(load(path));
}

TEST(SavedFile, AnotherModelIsNamed) {
  TemporaryFolder folder;
  const auto path = folder.path / "conversation";
  ASSERT_TRUE(save(path, head()));
  RecordLayout other = kLayout;
  other.model.bytes[0] = 1;
  const auto result = load(path, other);
  ASSERT_FALSE(result);
  EXPECT_EQ(detail(result.error(), "reason"), "model");
  EXPECT_FALSE(load(folder.path / "nothing"));
  EXPECT_FALSE(load(folder.path));
}

#ifdef POLYMIND_TEST_FULL_DISK
TEST(SavedFile, AFullDiskLeavesNothingBehind) {
  TemporaryFolder folder;
  const auto path = folder.path / "conversation";
  ASSERT_TRUE(save(path, head()));
  const auto before = read_file(path);
  for (const rlim_t room : {rlim_t{0}, rlim_t{200}, rlim_t{before.size() - 1}}) {
    const FullDisk full(room);
    const Status status = save(path, head());
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kOutOfMemory);
    EXPECT_EQ(detail(status.error(), "reason"), "disk_full");
    EXPECT_EQ(folder.files(), 1u);
  }
  EXPECT_EQ(read_file(path), before);
}
#endif

}  // namespace
}  // namespace pm

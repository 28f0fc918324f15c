#include "kv/spill_file.h"

#include <gtest/gtest.h>

#include <condition_variable>

#include "kv/kv_test_support.h"

namespace pm {
namespace {

const RecordLayout kLayout{{}, {}, {64, 32}};
const size_t kSlot = kLayout.max_record_bytes();

Digest named(int name) {
  Digest digest;
  std::memcpy(digest.bytes.data(), &name, sizeof(name));
  return digest;
}

KvRecord page(int name, uint32_t groups = 3) {
  KvRecord record;
  record.digest = named(name);
  record.live = kAllSlots;
  record.groups = groups;
  record.payload.assign(kLayout.payload_bytes(groups), 0);
  record.payload.back() = static_cast<uint8_t>(name);
  return record;
}

class SpillFileTest : public ::testing::Test {
 protected:
  std::unique_ptr<SpillFile> open(size_t records, size_t queue_bytes = size_t{1} << 20) {
    auto file = SpillFile::open({folder.path, records * kSlot + kSlot / 2, queue_bytes}, kLayout);
    EXPECT_TRUE(file);
    return std::move(file).value();
  }
  // The last byte of the page; -1: a miss; -2: not even asked for.
  static int fetch(SpillFile& file, int name) {
    if (!file.fetch(named(name))) return -2;
    file.flush();
    const auto answers = file.poll();
    EXPECT_EQ(answers.size(), 1u);
    EXPECT_EQ(answers[0].digest, named(name));
    return answers[0].record ? answers[0].record->payload.back() : -1;
  }

  TemporaryFolder folder;
};

TEST_F(SpillFileTest, GivesBackWhatItWasGiven) {
  auto file = open(4);
  EXPECT_EQ(file->find(named(1)), 0u);
  EXPECT_EQ(fetch(*file, 1), -2);
  EXPECT_TRUE(file->store(page(1)));
  EXPECT_TRUE(file->store(page(2, 1)));
  EXPECT_EQ(file->find(named(1)), 3u);
  EXPECT_EQ(file->find(named(2)), 1u);
  EXPECT_EQ(fetch(*file, 2), 2);
  EXPECT_EQ(fetch(*file, 1), 1);
  EXPECT_EQ(file->stats().records, 2u);
  EXPECT_EQ(file->stats().pages, 3u);
  EXPECT_EQ(file->stats().fetched, 2u);
  EXPECT_TRUE(file->store(page(2, 1)));  // nothing new
  EXPECT_EQ(file->stats().stored, 2u);
  EXPECT_TRUE(file->store(page(2, 3)));  // another group's page
  EXPECT_EQ(file->find(named(2)), 3u);
  EXPECT_EQ(fetch(*file, 2), 2);
  EXPECT_EQ(file->stats().pages, 4u);
}

TEST_F(SpillFileTest, AnswersInOrderAndWakes) {
  auto file = open(8);
  std::mutex mutex;
  std::condition_variable woken;
  int wakes = 0;
  file->set_wake([&] {
    std::lock_guard lock(mutex);
    ++wakes;
    woken.notify_one();
  });
  for (int i = 0; i < 5; ++i) file->store(page(i));
  for (const int i : {3, 0, 4}) ASSERT_TRUE(file->fetch(named(i)));
  {
    std::unique_lock lock(mutex);
    woken.wait(lock, [&] { return wakes == 3; });
  }
  file->flush();
  const auto answers = file->poll();
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(answers[0].record->payload.back(), 3);
  EXPECT_EQ(answers[1].record->payload.back(), 0);
  EXPECT_EQ(answers[2].record->payload.back(), 4);
  EXPECT_TRUE(file->poll().empty());
}

TEST_F(SpillFileTest, DisplacesTheLeastRecentlyUsed) {
  auto file = open(3);
  for (int i = 1; i <= 3; ++i) file->store(page(i));
  EXPECT_EQ(fetch(*file, 1), 1);
  file->store(page(2));  // known: counts as use
  file->store(page(4));  // instead of 3
  EXPECT_EQ(file->find(named(3)), 0u);
  file->store(page(5));  // instead of 1
  EXPECT_EQ(file->find(named(1)), 0u);
  EXPECT_EQ(fetch(*file, 2), 2);
  EXPECT_EQ(fetch(*file, 4), 4);
  EXPECT_EQ(fetch(*file, 5), 5);
  EXPECT_EQ(file->stats().displaced, 2u);
  EXPECT_EQ(file->stats().records, 3u);
  EXPECT_LE(std::filesystem::file_size(file->path()), 3 * kSlot);
}

// A fetch that was asked for before its slot went to another record still gets its own.
TEST_F(SpillFileTest, AFetchBeforeADisplacementIsAnswered) {
  auto file = open(1);
  file->store(page(1));
  ASSERT_TRUE(file->fetch(named(1)));
  file->store(page(2));
  file->flush();
  const auto answers = file->poll();
  ASSERT_EQ(answers.size(), 1u);
  ASSERT_TRUE(answers[0].record);
  EXPECT_EQ(answers[0].record->payload.back(), 1);
  EXPECT_EQ(fetch(*file, 2), 2);
}

TEST_F(SpillFileTest, DropsWhatTheQueueCannotHold) {
  const size_t payload = page(1).payload.size();
  auto file = open(100, payload - 1);
  EXPECT_FALSE(file->accepts(payload));
  EXPECT_FALSE(file->store(page(1)));
  EXPECT_EQ(file->find(named(1)), 0u);
  EXPECT_EQ(file->stats().dropped, 1u);
  EXPECT_TRUE(file->store(page(2, 2)));
  EXPECT_EQ(file->stats().records, 1u);
  file->flush();
  EXPECT_TRUE(file->store(page(3, 1)));  // the queue is empty again
  EXPECT_EQ(file->stats().dropped, 1u);
}

TEST_F(SpillFileTest, DamageIsAMiss) {
  auto file = open(4);
  for (int i = 0; i < 4; ++i) file->store(page(i));
  file->flush();
  auto bytes = read_file(file->path());
  bytes[200] ^= 1;            // in record 0
  bytes[kSlot + 48] ^= 0x80;  // the digest of record 1
  bytes.pop_back();           // record 3
  write_file(file->path(), bytes);
  EXPECT_EQ(fetch(*file, 0), -1);
  EXPECT_EQ(fetch(*file, 0), -2);  // forgotten
  EXPECT_EQ(fetch(*file, 1), -1);
  EXPECT_EQ(fetch(*file, 2), 2);
  EXPECT_EQ(fetch(*file, 3), -1);
  EXPECT_EQ(file->stats().missed, 3u);
  EXPECT_EQ(file->stats().records, 1u);
  // The slots are used again.
  for (int i = 10; i < 13; ++i) file->store(page(i));
  for (int i = 10; i < 13; ++i) EXPECT_EQ(fetch(*file, i), i);
  EXPECT_EQ(fetch(*file, 2), 2);
}

// Records that swapped places are intact, but not the ones asked for.
TEST_F(SpillFileTest, AnotherPageIsAMiss) {
  auto file = open(2);
  file->store(page(1));
  file->store(page(2));
  file->flush();
  auto bytes = read_file(file->path());
  std::swap_ranges(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(kSlot),
                   bytes.begin() + static_cast<std::ptrdiff_t>(kSlot));
  write_file(file->path(), bytes);
  EXPECT_EQ(fetch(*file, 1), -1);
  EXPECT_EQ(fetch(*file, 2), -1);
}

TEST_F(SpillFileTest, EveryTruncationIsAMiss) {
  auto file = open(1);
  file->store(page(1));
  file->flush();
  const auto bytes = read_file(file->path());
  for (size_t length = 0; length < bytes.size(); ++length) {
    write_file(file->path(), std::span(bytes).first(length));
    ASSERT_EQ(fetch(*file, 1), -1) << length;
    file->store(page(1));  // forgotten with the miss
    file->flush();
  }
  EXPECT_EQ(fetch(*file, 1), 1);
}

#ifdef POLYMIND_TEST_FULL_DISK
TEST_F(SpillFileTest, AFullDiskIsAMiss) {
  auto file = open(4);
  file->store(page(1));
  file->flush();
  {
    const FullDisk full(kSlot + 10);
    file->store(page(2));
    ASSERT_TRUE(file->fetch(named(2)));
    file->flush();
  }
  const auto answers = file->poll();
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_FALSE(answers[0].record);
  EXPECT_EQ(file->stats().failed, 1u);
  EXPECT_EQ(file->find(named(2)), 0u);
  EXPECT_EQ(fetch(*file, 1), 1);
  file->store(page(2));  // there is room again
  EXPECT_EQ(fetch(*file, 2), 2);
}
#endif

TEST_F(SpillFileTest, RefusesWhatCannotWork) {
  const auto option = [&](const SpillOptions& options) {
    const auto file = SpillFile::open(options, kLayout);
    if (file) return std::string();
    EXPECT_EQ(file.error().code, ErrorCode::kInvalidRequest);
    return detail(file.error(), "option");
  };
  EXPECT_EQ(option({folder.path, kSlot - 1}), "kv.spill.bytes");
  EXPECT_EQ(option({folder.path, kSlot}), "");
  EXPECT_EQ(option({folder.path / "new" / "folder", kSlot}), "");
  write_file(folder.path / "file", std::vector<uint8_t>{1});
  EXPECT_EQ(option({folder.path / "file", kSlot}), "kv.spill.dir");
  EXPECT_EQ(option({folder.path / "file" / "below", kSlot}), "kv.spill.dir");
#if defined(__linux__)
  EXPECT_EQ(option({"/proc", kSlot}), "kv.spill.dir");  // a folder, but not for files
#endif
}

TEST_F(SpillFileTest, TheFileGoesWithItsProcess) {
  {
    auto first = open(1);
    auto second = open(1);
    EXPECT_EQ(folder.files(), 2u);  // the second one respects the first
    first->store(page(1));
    EXPECT_EQ(fetch(*first, 1), 1);
  }
  EXPECT_EQ(folder.files(), 0u);
  write_file(folder.path / "dead.polymind-kv", std::vector<uint8_t>(10));
  write_file(folder.path / "other.txt", std::vector<uint8_t>(10));
  const auto file = open(1);
  EXPECT_FALSE(std::filesystem::exists(folder.path / "dead.polymind-kv"));
  EXPECT_EQ(folder.files(), 2u);
}

TEST_F(SpillFileTest, StopsWithWorkWaiting) {
  auto file = open(200, size_t{64} << 20);
  for (int i = 0; i < 200; ++i) file->store(page(i));
  for (int i = 0; i < 200; ++i) file->fetch(named(i));
  file.reset();
  EXPECT_EQ(folder.files(), 0u);
}

}  // namespace
}  // namespace pm

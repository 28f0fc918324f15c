#include "kv/spill_file.h"

#include <algorithm>
#include <bit>
#include <future>
#include <random>
#include <string>
#include <system_error>
#include <utility>

namespace pm {
namespace {

constexpr const char* kSuffix = ".polymind-kv";

Error unusable(const std::string& option, const std::string& expected, const std::string& found) {
  return {ErrorCode::kInvalidRequest,
          option + ": expected " + expected + ", found " + found,
          {{"option", option}}};
}

// What a process that died left behind. A living one holds a lock on its file.
void remove_abandoned(const std::filesystem::path& dir) {
  std::error_code error;
  std::filesystem::directory_iterator files(dir, error);
  for (; !error && files != std::filesystem::directory_iterator(); files.increment(error)) {
    const std::filesystem::path path = files->path();
    if (path.extension() != kSuffix) continue;
    bool abandoned = false;
    if (auto file = File::open(path)) abandoned = file.value().lock();
    std::error_code ignored;
    if (abandoned) std::filesystem::remove(path, ignored);
  }
}

Result<File> create_in(const std::filesystem::path& dir, std::filesystem::path& path) {
  std::random_device random;
  path = dir / (std::to_string(random()) + "-" + std::to_string(random()) + kSuffix);
  return File::create(path);
}

}  // namespace

Result<std::unique_ptr<SpillFile>> SpillFile::open(const SpillOptions& options,
                                                   RecordLayout layout) {
  const size_t record = layout.max_record_bytes();
  if (options.bytes < record) {
    return unusable("kv.spill.bytes", "at least " + std::to_string(record) + " (one page)",
                    std::to_string(options.bytes));
  }
  std::error_code error;
  std::filesystem::create_directories(options.dir, error);
  if (error) return unusable("kv.spill.dir", "a folder", error.message());
  remove_abandoned(options.dir);
  std::filesystem::path path;
  auto file = create_in(options.dir, path);
  if (!file) {
    return unusable("kv.spill.dir", "a folder that can be written to", file.error().message);
  }
  file.value().lock();
  return std::unique_ptr<SpillFile>(
      new SpillFile(std::move(file).value(), std::move(path), options, std::move(layout)));
}

SpillFile::SpillFile(File file, std::filesystem::path path, const SpillOptions& options,
                     RecordLayout layout)
    : file_(std::make_unique<File>(std::move(file))),
      path_(std::move(path)),
      layout_(std::move(layout)),
      slot_bytes_(layout_.max_record_bytes()),
      slot_count_(options.bytes / slot_bytes_),
      queue_bytes_(options.queue_bytes) {}

SpillFile::~SpillFile() {
  worker_.stop();
  file_.reset();
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

uint32_t SpillFile::find(const Digest& digest) const {
  const auto found = slots_.find(digest);
  return found == slots_.end() ? 0 : found->second.groups;
}

bool SpillFile::accepts(size_t payload_bytes) const {
  return queued_.load(std::memory_order_relaxed) + payload_bytes <= queue_bytes_;
}

// `job` runs on the worker; `bytes` of memory wait with it.
bool SpillFile::enqueue(size_t bytes, std::function<void()> job) {
  if (!accepts(bytes)) return false;
  queued_ += bytes;
  worker_.post([this, bytes, job = std::move(job)] {
    job();
    queued_ -= bytes;
  });
  return true;
}

void SpillFile::forget(const Digest& digest) {
  const auto found = slots_.find(digest);
  if (found == slots_.end()) return;
  free_slots_.push_back(found->second.number);
  stats_.pages -= static_cast<size_t>(std::popcount(found->second.groups));
  --stats_.records;
  recency_.erase(found->second.recency);
  slots_.erase(found);
}

// A place for a record that is not in the file.
uint64_t SpillFile::free_slot() {
  if (free_slots_.empty() && fresh_slot_ < slot_count_) return fresh_slot_++;
  if (free_slots_.empty()) {
    ++stats_.displaced;
    forget(Digest(recency_.front()));
  }
  const uint64_t slot = free_slots_.back();
  free_slots_.pop_back();
  return slot;
}

bool SpillFile::store(KvRecord record) {
  const Digest digest = record.digest;
  const uint32_t groups = record.groups;
  const uint32_t known = find(digest);
  if (known != 0 && (groups & ~known) == 0) {
    recency_.splice(recency_.end(), recency_, slots_.at(digest).recency);
    return true;
  }
  const size_t bytes = record.payload.size();
  if (!accepts(bytes)) {
    ++stats_.dropped;
    return false;
  }
  forget(digest);
  const uint64_t slot = free_slot();
  slots_[digest] = {slot, groups, recency_.insert(recency_.end(), digest)};
  ++stats_.records;
  ++stats_.stored;
  stats_.pages += static_cast<size_t>(std::popcount(groups));
  // std::function wants what can be copied.
  const auto shared = std::make_shared<const KvRecord>(std::move(record));
  enqueue(bytes, [this, slot, shared] { write_slot(slot, *shared); });
  return true;
}

void SpillFile::write_slot(uint64_t slot, const KvRecord& record) {
  try {
    if (file_->write_at(slot * slot_bytes_, encode_record(layout_, record))) return;
  } catch (const std::bad_alloc&) {
    // Not written.
  }
  std::lock_guard lock(mutex_);
  failures_.push_back(record.digest);
  if (wake_) wake_();
}

bool SpillFile::fetch(const Digest& digest) {
  const auto found = slots_.find(digest);
  if (found == slots_.end()) return false;
  const Slot& slot = found->second;
  const size_t bytes = layout_.record_bytes(layout_.payload_bytes(slot.groups));
  const auto job = [this, number = slot.number, digest, bytes] {
    read_slot(number, digest, bytes);
  };
  if (!enqueue(bytes, job)) return false;
  recency_.splice(recency_.end(), recency_, slot.recency);
  return true;
}

void SpillFile::read_slot(uint64_t slot, const Digest& digest, size_t bytes) {
  Fetched answer{digest, std::nullopt};
  try {
    std::vector<uint8_t> buffer(bytes);
    if (const auto got = file_->read_at(slot * slot_bytes_, buffer)) {
      auto record = decode_record(layout_, std::span(buffer).first(got.value()));
      // Another record may have got the slot meanwhile.
      if (record && record.value().digest == digest) answer.record = std::move(record).value();
    }
  } catch (const std::bad_alloc&) {
    // A miss.
  }
  std::lock_guard lock(mutex_);
  answers_.push_back(std::move(answer));
  if (wake_) wake_();
}

std::vector<SpillFile::Fetched> SpillFile::poll() {
  std::vector<Fetched> answers;
  std::vector<Digest> failures;
  {
    std::lock_guard lock(mutex_);
    answers.swap(answers_);
    failures.swap(failures_);
  }
  for (const Digest& digest : failures) {
    ++stats_.failed;
    forget(digest);
  }
  for (const Fetched& answer : answers) {
    ++(answer.record ? stats_.fetched : stats_.missed);
    if (!answer.record) forget(answer.digest);
  }
  return answers;
}

void SpillFile::set_wake(std::function<void()> wake) {
  std::lock_guard lock(mutex_);
  wake_ = std::move(wake);
}

void SpillFile::flush() {
  std::promise<void> done;
  worker_.post([&done] { done.set_value(); });
  done.get_future().wait();
}

}  // namespace pm

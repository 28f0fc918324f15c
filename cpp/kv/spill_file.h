// Idle prefixes that had to leave memory, in a file of bounded size.
//
// The owner's thread only copies bytes and posts jobs; a worker encodes, writes, reads and checks.
// What does not fit into the queue is not spilled; what cannot be read back whole is a miss. The
// file belongs to this process and goes with it.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "core/worker.h"
#include "kv/file_io.h"
#include "kv/kv_record.h"

namespace pm {

struct SpillOptions {
  std::filesystem::path dir;
  uint64_t bytes = 0;                     // of the file
  size_t queue_bytes = size_t{64} << 20;  // of jobs that wait for the disk
};

struct SpillStats {
  size_t records = 0;      // in the file, or on their way
  size_t pages = 0;        // of those, all layer groups
  uint64_t stored = 0;     // records
  uint64_t dropped = 0;    // not spilled: the queue was full
  uint64_t displaced = 0;  // least recently used, to make room
  uint64_t failed = 0;     // writes that the disk refused
  uint64_t fetched = 0;
  uint64_t missed = 0;  // fetches that found nothing usable
};

// All functions belong to one thread.
class SpillFile {
 public:
  struct Fetched {
    Digest digest;
    std::optional<KvRecord> record;  // nothing: a miss, the file has it no more
  };

  // kInvalidRequest: the folder cannot be written to, or `bytes` is less than one record.
  static Result<std::unique_ptr<SpillFile>> open(const SpillOptions& options, RecordLayout layout);
  ~SpillFile();

  // Layer groups of the page that are in the file; 0: not there.
  uint32_t find(const Digest& digest) const;
  // Would store() take a record with this payload? Saves copying it for nothing.
  bool accepts(size_t payload_bytes) const;
  // False: the queue is full, nothing happens.
  bool store(KvRecord record);
  // Asks for a page; the answer comes through poll(). False: it is not there or the queue is full.
  bool fetch(const Digest& digest);
  // Answers since the last call, in the order of the fetches. Never waits.
  std::vector<Fetched> poll();
  // Called on the worker's thread whenever poll() will have something.
  void set_wake(std::function<void()> wake);
  // Waits until the worker has done all that was asked of it (tests, shutdown).
  void flush();

  SpillStats stats() const { return stats_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  struct Slot {
    uint64_t number;
    uint32_t groups;
    std::list<Digest>::iterator recency;
  };

  SpillFile(File file, std::filesystem::path path, const SpillOptions& options,
            RecordLayout layout);
  uint64_t free_slot();
  void forget(const Digest& digest);
  bool enqueue(size_t bytes, std::function<void()> job);
  void write_slot(uint64_t slot, const KvRecord& record);
  void read_slot(uint64_t slot, const Digest& digest, size_t bytes);

  std::unique_ptr<File> file_;  // the worker's
  const std::filesystem::path path_;
  const RecordLayout layout_;
  const uint64_t slot_bytes_;
  const uint64_t slot_count_;
  const size_t queue_bytes_;
  std::unordered_map<Digest, Slot, DigestHash> slots_;
  std::list<Digest> recency_;  // least recently used first
  std::vector<uint64_t> free_slots_;
  uint64_t fresh_slot_ = 0;
  SpillStats stats_;
  std::atomic<size_t> queued_{0};

  std::mutex mutex_;
  std::vector<Fetched> answers_;  // by the worker
  std::vector<Digest> failures_;
  std::function<void()> wake_;

  Worker worker_{"mm-spill"};
};

}  // namespace pm

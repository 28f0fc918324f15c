// Images and audio → embeddings, through llama.cpp's mtmd. One encoder thread calls encode();
// decode() runs on the engine thread and touches only what mtmd never changes after loading.
#pragma once

#include <atomic>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "engines/llama/model.h"
#include "mtmd.h"
#include "scheduler/request.h"

namespace pm::llama {

// Least recently used encoder outputs, up to a number of bytes. Thread-safe.
class EncoderCache {
 public:
  explicit EncoderCache(size_t capacity_bytes) : capacity_bytes_(capacity_bytes) {}
  std::shared_ptr<const MediaEmbedding> find(const std::string& key);
  void insert(const std::string& key, std::shared_ptr<const MediaEmbedding> embedding);

  struct Counters {
    int64_t hits = 0;
    int64_t misses = 0;
    int64_t bytes = 0;
  };
  Counters counters() const;

 private:
  struct Entry {
    std::string key;
    std::shared_ptr<const MediaEmbedding> embedding;
  };
  const size_t capacity_bytes_;
  mutable std::mutex mutex_;
  std::list<Entry> entries_;  // most recent first
  std::unordered_map<std::string, std::list<Entry>::iterator> index_;
  Counters counters_;
};

// A piece of a rendered prompt: text, or the medium with that index.
struct PromptPart {
  std::string text;
  bool parse_special = true;
  int media = -1;
};

class MediaEncoder {
 public:
  static Result<std::shared_ptr<MediaEncoder>> load(std::shared_ptr<Model> model,
                                                    const LoadOptions& options);

  bool supports_vision() const { return mtmd_support_vision(context_.get()); }
  bool supports_audio() const { return mtmd_support_audio(context_.get()); }
  EncoderCache& cache() { return cache_; }

  // Tokenizes the parts and encodes the media among them.
  Result<Prompt> encode(const std::vector<PromptPart>& parts, const std::vector<MediaInput>& media,
                        bool add_special, const CancelToken& cancel);

  Result<MediaStep> decode(llama_context* context, SeqId seq, const MediaEmbedding& media,
                           size_t offset, Pos pos, size_t budget);

 private:
  MediaEncoder(std::shared_ptr<Model> model, mtmd_context* context, size_t cache_bytes);

  struct FreeContext {
    void operator()(mtmd_context* context) const { mtmd_free(context); }
  };
  struct FreeBitmap {
    void operator()(mtmd_bitmap* bitmap) const { mtmd_bitmap_free(bitmap); }
  };
  using BitmapPtr = std::unique_ptr<mtmd_bitmap, FreeBitmap>;

  Result<MediaStep> decode_unguarded(llama_context* context, SeqId seq, const MediaEmbedding& media,
                                     size_t offset, Pos pos, size_t budget);
  Result<BitmapPtr> make_bitmap(const MediaInput& media, size_t index) const;
  Result<std::shared_ptr<const MediaEmbedding>> encode_chunk(const mtmd_input_chunk* chunk,
                                                             const std::string& cache_key);

  std::shared_ptr<Model> model_;
  std::unique_ptr<mtmd_context, FreeContext> context_;
  Digest projector_;  // of the file: what it makes of an image
  EncoderCache cache_;
};

}  // namespace pm::llama

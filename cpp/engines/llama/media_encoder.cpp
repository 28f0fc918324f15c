#include "engines/llama/media_encoder.h"

#include <algorithm>
#include <map>

#include "engines/llama/backend.h"
#include "mtmd-helper.h"

namespace pm::llama {
namespace {

struct FreeChunks {
  void operator()(mtmd_input_chunks* chunks) const { mtmd_input_chunks_free(chunks); }
};

size_t bytes_of(const MediaEmbedding& embedding) { return embedding.values.size() * sizeof(float); }

}  // namespace

// ---- cache ----

std::shared_ptr<const MediaEmbedding> EncoderCache::find(const std::string& key) {
  std::lock_guard lock(mutex_);
  const auto found = index_.find(key);
  if (found == index_.end()) {
    ++counters_.misses;
    return nullptr;
  }
  ++counters_.hits;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->embedding;
}

void EncoderCache::insert(const std::string& key, std::shared_ptr<const MediaEmbedding> embedding) {
  const size_t bytes = bytes_of(*embedding);
  std::lock_guard lock(mutex_);
  if (bytes > capacity_bytes_ || index_.contains(key)) return;
  while (static_cast<size_t>(counters_.bytes) + bytes > capacity_bytes_) {
    counters_.bytes -= static_cast<int64_t>(bytes_of(*entries_.back().embedding));
    index_.erase(entries_.back().key);
    entries_.pop_back();
  }
  entries_.push_front({key, std::move(embedding)});
  index_[key] = entries_.begin();
  counters_.bytes += static_cast<int64_t>(bytes);
}

EncoderCache::Counters EncoderCache::counters() const {
  std::lock_guard lock(mutex_);
  return counters_;
}

// ---- encoder ----

MediaEncoder::MediaEncoder(std::shared_ptr<Model> model, mtmd_context* context, size_t cache_bytes)
    : model_(std::move(model)), context_(context), cache_(cache_bytes) {}

Result<std::shared_ptr<MediaEncoder>> MediaEncoder::load(std::shared_ptr<Model> model,
                                                         const LoadOptions& options) {
  std::shared_ptr<MediaEncoder> encoder;
  LogCapture log;
  const Status status = guarded(ErrorCode::kModelInvalid, "mmproj", [&]() -> Status {
    mtmd_context_params params = mtmd_context_params_default();
    params.use_gpu = false;
    params.print_timings = false;
    params.n_threads = options.threads;
    params.warmup = false;
    mtmd_context* context = mtmd_init_from_file(options.mmproj.c_str(), model->get(), params);
    if (context == nullptr) {
      return Error{ErrorCode::kAbiMismatch,
                   "expected a multimodal projector that fits the model: " +
                       log.reason("llama.cpp gave no reason")};
    }
    encoder.reset(new MediaEncoder(model, context, options.media_cache_bytes));
    encoder->projector_ = sample_file(options.mmproj);
    return {};
  });
  if (!status) return status.error();
  return encoder;
}

Result<MediaEncoder::BitmapPtr> MediaEncoder::make_bitmap(const MediaInput& media,
                                                          size_t index) const {
  const std::string where = "media " + std::to_string(index);
  BitmapPtr bitmap;
  if (!media.is_audio) {
    if (!supports_vision()) {
      return Error{ErrorCode::kMediaInvalid, where + ": this model takes no images"};
    }
    bitmap.reset(mtmd_bitmap_init(media.width, media.height, media.data.data()));
  } else {
    if (!supports_audio()) {
      return Error{ErrorCode::kMediaInvalid, where + ": this model takes no audio"};
    }
    bitmap.reset(mtmd_helper_bitmap_init_from_buf(context_.get(), media.data.data(),
                                                  media.data.size(), false,
                                                  mtmd_helper_init_opt_default())
                     .bitmap);
    if (!bitmap || !mtmd_bitmap_is_audio(bitmap.get())) {
      return Error{ErrorCode::kMediaInvalid,
                   where + ": expected a WAV, MP3 or FLAC file, found something else"};
    }
  }
  mtmd_bitmap_set_id(bitmap.get(), media.digest.c_str());
  return bitmap;
}

Result<Prompt> MediaEncoder::encode(const std::vector<PromptPart>& parts,
                                    const std::vector<MediaInput>& media, bool add_special,
                                    const CancelToken& cancel) {
  std::vector<BitmapPtr> bitmaps;
  for (size_t i = 0; i < media.size(); ++i) {
    auto bitmap = make_bitmap(media[i], i);
    if (!bitmap) return bitmap.error();
    bitmaps.push_back(std::move(bitmap).value());
  }

  std::vector<mtmd_input_text> texts(parts.size());
  std::vector<mtmd_input_part> inputs(parts.size());
  std::vector<const mtmd_input_part*> pointers(parts.size());
  std::map<std::string, int> uses;  // digest → times it appears in this prompt
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].media >= 0) {
      if (static_cast<size_t>(parts[i].media) >= bitmaps.size()) {
        return Error{ErrorCode::kInvalidRequest, "expected the index of a medium of this request"};
      }
      inputs[i].bitmap = bitmaps[static_cast<size_t>(parts[i].media)].get();
      ++uses[media[static_cast<size_t>(parts[i].media)].digest];
    } else {
      texts[i] = {parts[i].text.data(), parts[i].text.size(), false, parts[i].parse_special};
      inputs[i].text = &texts[i];
    }
    pointers[i] = &inputs[i];
  }

  Prompt prompt;
  LogCapture log;
  const Status status = guarded(ErrorCode::kMediaInvalid, "media", [&]() -> Status {
    std::unique_ptr<mtmd_input_chunks, FreeChunks> chunks(mtmd_input_chunks_init());
    const int32_t code = mtmd_tokenize_from_parts(context_.get(), chunks.get(), pointers.data(),
                                                  pointers.size(), add_special);
    if (code != 0) {
      return Error{ErrorCode::kMediaInvalid,
                   "the media could not be preprocessed: " + log.reason("no reason given")};
    }
    // An image may become several chunks (tiles); the same image twice gives them twice.
    std::map<std::string, int> chunks_of;
    const size_t count = mtmd_input_chunks_size(chunks.get());
    for (size_t i = 0; i < count; ++i) {
      const auto* chunk = mtmd_input_chunks_get(chunks.get(), i);
      if (mtmd_input_chunk_get_type(chunk) != MTMD_INPUT_CHUNK_TYPE_TEXT) {
        ++chunks_of[mtmd_input_chunk_get_id(chunk)];
      }
    }
    std::map<std::string, int> seen;
    for (size_t i = 0; i < count; ++i) {
      const auto* chunk = mtmd_input_chunks_get(chunks.get(), i);
      if (mtmd_input_chunk_get_type(chunk) == MTMD_INPUT_CHUNK_TYPE_TEXT) {
        size_t n = 0;
        const llama_token* tokens = mtmd_input_chunk_get_tokens_text(chunk, &n);
        prompt.push_back({std::vector<Token>(tokens, tokens + n), nullptr});
        continue;
      }
      // The caller no longer wants it: stop before the expensive part.
      if (cancel.cancelled()) return Error{ErrorCode::kCancelled, "the run was cancelled"};
      const std::string id = mtmd_input_chunk_get_id(chunk);
      const int tiles = std::max(1, chunks_of[id] / std::max(1, uses[id]));
      auto embedding = encode_chunk(chunk, id + "#" + std::to_string(seen[id]++ % tiles));
      if (!embedding) return embedding.error();
      prompt.push_back({{}, std::move(embedding).value()});
    }
    return {};
  });
  if (!status) return status.error();
  return prompt;
}

Result<std::shared_ptr<const MediaEmbedding>> MediaEncoder::encode_chunk(
    const mtmd_input_chunk* chunk, const std::string& cache_key) {
  if (auto cached = cache_.find(cache_key)) return cached;
  LogCapture log;
  int32_t code = 0;
  PM_TRY(caught(ErrorCode::kInternal, "encoder", [&]() -> Status {
    code = mtmd_encode_chunk(context_.get(), chunk);
    return {};
  }));
  if (code != 0) {
    return Error{ErrorCode::kMediaInvalid,
                 "the encoder failed: " + log.reason("llama.cpp gave no reason")};
  }
  auto embedding = std::make_shared<MediaEmbedding>();
  embedding->token_count = mtmd_input_chunk_get_n_tokens(chunk);
  embedding->is_audio = mtmd_input_chunk_get_type(chunk) == MTMD_INPUT_CHUNK_TYPE_AUDIO;
  const size_t width = static_cast<size_t>(llama_model_n_embd_inp(model_->get()));
  const float* values = mtmd_get_output_embd(context_.get());
  embedding->values.assign(values, values + embedding->token_count * width);
  std::vector<uint8_t> name(cache_key.begin(), cache_key.end());
  name.insert(name.end(), projector_.bytes.begin(), projector_.bytes.end());
  embedding->digest = digest_of(name);
  embedding->positions = mtmd_input_chunk_get_n_pos(chunk);
  embedding->divisible =
      !mtmd_decode_use_non_causal(context_.get(), chunk) && !mtmd_decode_use_mrope(context_.get());
  // Positions only; the pixels are not kept.
  embedding->layout = std::shared_ptr<mtmd_input_chunk>(mtmd_input_chunk_get_placeholder(chunk),
                                                        mtmd_input_chunk_free);
  std::shared_ptr<const MediaEmbedding> shared = std::move(embedding);
  cache_.insert(cache_key, shared);
  return shared;
}

Result<MediaStep> MediaEncoder::decode(llama_context* context, SeqId seq,
                                       const MediaEmbedding& media, size_t offset, Pos pos,
                                       size_t budget) {
  MediaStep step;
  PM_TRY(caught(ErrorCode::kInternal, "media", [&]() -> Status {
    auto decoded = decode_unguarded(context, seq, media, offset, pos, budget);
    if (!decoded) return decoded.error();
    step = decoded.value();
    return {};
  }));
  return step;
}

Result<MediaStep> MediaEncoder::decode_unguarded(llama_context* context, SeqId seq,
                                                 const MediaEmbedding& media, size_t offset,
                                                 Pos pos, size_t budget) {
  auto* chunk = static_cast<mtmd_input_chunk*>(media.layout.get());
  const auto width = static_cast<size_t>(llama_model_n_embd_inp(model_->get()));
  LogCapture log;
  int32_t code = 0;
  MediaStep step;
  const bool non_causal = mtmd_decode_use_non_causal(context_.get(), chunk);
  // All of it in one batch: it would otherwise see only part of itself, or fail an assertion.
  const size_t at_once = std::min(llama_n_batch(context), llama_n_ubatch(context));
  if (non_causal && media.token_count > at_once) {
    return Error{ErrorCode::kMediaInvalid,
                 "expected a medium of at most " + std::to_string(at_once) +
                     " tokens (batch.tokens_per_step, 512 at most), which this model must see at "
                     "once, found " +
                     std::to_string(media.token_count)};
  }
  if (non_causal || mtmd_decode_use_mrope(context_.get())) {
    // Every embedding attends to every other, or positions are two-dimensional.
    auto* values = const_cast<float*>(media.values.data());
    step.tokens = media.token_count;
    code = mtmd_helper_decode_image_chunk(context_.get(), context, chunk, values, pos, seq,
                                          static_cast<int32_t>(llama_n_batch(context)),
                                          &step.next_pos, nullptr, nullptr);
  } else {
    step.tokens = std::min(budget, media.token_count - offset);
    step.next_pos = pos + static_cast<Pos>(step.tokens);
    std::vector<llama_pos> positions(step.tokens);
    std::vector<int32_t> sequence_counts(step.tokens, 1);
    std::vector<llama_seq_id*> sequences(step.tokens, &seq);
    std::vector<int8_t> outputs(step.tokens, 0);
    for (size_t i = 0; i < step.tokens; ++i) positions[i] = pos + static_cast<Pos>(i);
    llama_batch batch{};
    batch.n_tokens = static_cast<int32_t>(step.tokens);
    batch.embd = const_cast<float*>(media.values.data() + offset * width);
    batch.pos = positions.data();
    batch.n_seq_id = sequence_counts.data();
    batch.seq_id = sequences.data();
    batch.logits = outputs.data();
    code = llama_decode(context, batch);
  }
  if (code == 0) return step;
  if (code == 2) return Error{ErrorCode::kDisposed, "the engine was disposed"};
  return Error{ErrorCode::kInternal, "the media could not be evaluated (code " +
                                         std::to_string(code) +
                                         "): " + log.reason("no reason given")};
}

}  // namespace pm::llama

// What the scheduler needs from a model. engines/llama implements it; tests use a fake.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "core/result.h"
#include "kv/digest.h"
#include "kv/sequence_memory.h"
#include "scheduler/events.h"

namespace pm {

using Token = int32_t;

// Encoded media: [token_count, embedding_width] floats ready for prefill. Shared between requests
// through the encoder-output cache; never written after it was made.
struct MediaEmbedding {
  std::vector<float> values;
  size_t token_count = 0;
  bool is_audio = false;
  // Names the content and all that its keys and values depend on besides what stands before it.
  Digest digest;
  Pos positions = 0;  // it advances the sequence's position by that much
  // False: all of it is evaluated in one step (it attends to itself, or positions are 2-D).
  bool divisible = true;
  // The runner's own description of positions and attention (opaque to the scheduler).
  std::shared_ptr<void> layout;
};

// A stretch of the prompt: either tokens or one encoded medium.
struct PromptChunk {
  std::vector<Token> tokens;
  std::shared_ptr<const MediaEmbedding> media;
  size_t size() const { return media ? media->token_count : tokens.size(); }
};

using Prompt = std::vector<PromptChunk>;

// Chooses the next token of one request; owned by that request, used on the engine thread only.
class TokenSampler {
 public:
  virtual ~TokenSampler() = default;
  // `logits`: [vocabulary]; may be changed in place.
  virtual Result<Token> sample(std::span<float> logits) = 0;
};

// `count` tokens of sequence `seq` that start at position `pos`.
struct TokenSpan {
  SeqId seq = 0;
  Pos pos = 0;
  const Token* tokens = nullptr;
  size_t count = 0;
  bool wants_logits = false;  // of the last token
};

struct MediaStep {
  size_t tokens = 0;  // embeddings consumed
  Pos next_pos = 0;   // position after them
};

class ModelRunner {
 public:
  virtual ~ModelRunner() = default;

  virtual SequenceMemory& memory() = 0;
  // Sequences that may exist at once: ids 0 … count-1.
  virtual size_t sequence_count() const = 0;
  // Tokens one sequence may hold.
  virtual size_t context_tokens() const = 0;

  // Evaluates the spans in one batch. After success logits(i) belongs to spans[i].
  virtual Status decode(std::span<const TokenSpan> spans) = 0;
  virtual std::span<float> logits(size_t span_index) = 0;

  // Evaluates at most `budget` embeddings of `media` from `offset` on (more where the model must
  // see the whole medium at once).
  virtual Result<MediaStep> decode_media(SeqId seq, const MediaEmbedding& media, size_t offset,
                                         Pos pos, size_t budget) = 0;

  virtual bool is_end(Token token) const = 0;
  // Raw bytes; may end inside a UTF-8 character. Tags such as <tool_call> are rendered.
  virtual std::string piece(Token token) const = 0;

  // The engine stops: makes a running decode(), and every later one, fail with kDisposed. Callable
  // from any thread.
  virtual void interrupt() = 0;
};

}  // namespace pm

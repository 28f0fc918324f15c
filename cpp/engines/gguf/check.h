// Semantic checks of a model before llama.cpp loads it. llama.cpp treats model files as trusted:
// many inconsistent values end in GGML_ASSERT (which kills the process), a division by zero or a
// null pointer. Each rule here stands for such a place, or for a value that no exporter writes.
#pragma once

#include "core/result.h"
#include "engines/gguf/gguf.h"

namespace pm::gguf {

enum class ModelKind {
  // A causal language model (any architecture that llama.cpp can generate text with).
  kText,
  // A multimodal projector for libmtmd: vision and/or audio encoder with its projector.
  kProjector,
};

// Errors: kModelInvalid with the key or tensor, what was expected and what was found.
Status check_model(const GgufFile& file, ModelKind kind);

// The parts of check_model, in the order it runs them.
Status check_tensor_types(const GgufFile& file);
Status check_text_parameters(const GgufFile& file);
Status check_vocabulary(const GgufFile& file);
Status check_projector(const GgufFile& file);

}  // namespace pm::gguf

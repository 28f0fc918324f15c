// Per-request samplers: greedy in one pass over the logits, everything else through llama.cpp's
// sampler chain, in its usual order (grammar, top-k, top-p, min-p, temperature, distribution).
#pragma once

#include <memory>

#include "engines/llama/model.h"
#include "scheduler/request.h"

namespace pm::llama {

// Fails with kInvalidRequest for a grammar or schema that cannot be compiled.
Result<std::unique_ptr<TokenSampler>> make_sampler(std::shared_ptr<const Model> model,
                                                   const SamplingParams& params);

// Index of the largest value, the first one among equals. NaN never wins; 0 if all are NaN.
size_t argmax(std::span<const float> values);

}  // namespace pm::llama

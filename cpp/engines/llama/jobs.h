// Work between two steps that is not generation: scoring and embedding a text. Each call of a job
// evaluates one bounded chunk, so running requests are delayed by one chunk at most.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engines/llama/runner.h"
#include "scheduler/engine.h"

namespace pm::llama {

struct Score {
  std::vector<Token> tokens;
  std::vector<float> logprobs;  // NaN for the first
};

// `done` is called exactly once, on the engine thread; if the engine stops first, with kDisposed.
EngineJob make_score_job(std::shared_ptr<Model> model, std::string text, CancelTokenPtr cancel,
                         std::function<void(Result<Score>)> done);
// Mean of the last hidden states, L2-normalized: [embedding width].
EngineJob make_embed_job(std::shared_ptr<Model> model, std::string text, CancelTokenPtr cancel,
                         std::function<void(Result<std::vector<float>>)> done);

}  // namespace pm::llama

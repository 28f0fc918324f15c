#include "engines/llama/jobs.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

namespace pm::llama {
namespace {

// log softmax(row)[token], in double: the vocabulary is large and the terms are tiny.
float log_probability(const float* row, size_t size, Token token) {
  const float highest = *std::max_element(row, row + size);
  double sum = 0;
  for (size_t i = 0; i < size; ++i) sum += std::exp(static_cast<double>(row[i] - highest));
  return static_cast<float>(row[token] - highest - std::log(sum));
}

// What both jobs share: tokens, chunks, cancellation, and the promise to call `done` once.
template <typename T>
class ChunkedJob {
 public:
  ChunkedJob(std::shared_ptr<Model> model, std::string text, CancelTokenPtr cancel,
             std::function<void(Result<T>)> done)
      : model_(std::move(model)),
        text_(std::move(text)),
        cancel_(std::move(cancel)),
        done_(std::move(done)) {}
  // Destroyed before it could run: the caller still gets an answer.
  virtual ~ChunkedJob() {
    if (!done_) return;
    done_(cancel_->cancelled() ? Error{ErrorCode::kCancelled, "the run was cancelled"}
                               : Error{ErrorCode::kDisposed, "the engine was disposed"});
  }

  bool run(ModelRunner& any_runner, SeqId seq) {
    auto& runner = static_cast<Runner&>(any_runner);
    if (cancel_->cancelled()) {
      return answer(Error{ErrorCode::kCancelled, "the run was cancelled"});
    }
    if (tokens_.empty()) {
      const Status status = tokenize(runner.context_tokens());
      if (!status) return answer(status.error());
      if (!runner.memory().reserve(seq, tokens_.size())) {
        return answer(Error{ErrorCode::kOutOfMemory,
                            "expected a KV cache with room for " + std::to_string(tokens_.size()) +
                                " tokens now, found less: raise kv.budget_bytes"});
      }
    }
    const size_t count = std::min(runner.max_outputs(), tokens_.size() - at_);
    const Status status = runner.decode_all_outputs(
        seq, static_cast<Pos>(at_), tokens_.data() + at_, count, wants_embeddings(), rows_);
    if (!status) return answer(status.error());
    consume(rows_.data(), rows_.size() / count, at_, count);
    at_ += count;
    return at_ == tokens_.size() && answer(finish());
  }

 protected:
  virtual bool wants_embeddings() const = 0;
  // `rows`: [count, width], the outputs of tokens_[first …].
  virtual void consume(const float* rows, size_t width, size_t first, size_t count) = 0;
  virtual T finish() = 0;

  std::shared_ptr<Model> model_;
  std::vector<Token> tokens_;

 private:
  // On the engine thread, at the first turn: never on the JavaScript thread. A text that cannot fit
  // is refused by its length before it costs anything.
  Status tokenize(size_t context_tokens) {
    if (text_.size() <= context_tokens * model_->longest_piece()) {
      tokens_ = model_->tokenize(text_, true, false);
      if (!tokens_.empty() && tokens_.size() <= context_tokens) return {};
    }
    return Error{ErrorCode::kContextOverflow,
                 "expected a text of 1 to " + std::to_string(context_tokens) + " tokens, found " +
                     std::to_string(text_.size()) + " bytes of text"};
  }

  bool answer(Result<T> result) {
    std::exchange(done_, nullptr)(std::move(result));
    return true;
  }

  std::string text_;
  CancelTokenPtr cancel_;
  std::function<void(Result<T>)> done_;
  size_t at_ = 0;
  std::vector<float> rows_;
};

class ScoreJob final : public ChunkedJob<Score> {
 public:
  using ChunkedJob::ChunkedJob;

 protected:
  bool wants_embeddings() const override { return false; }
  void consume(const float* rows, size_t width, size_t first, size_t count) override {
    if (logprobs_.empty()) logprobs_.push_back(std::numeric_limits<float>::quiet_NaN());
    for (size_t i = 0; i < count && first + i + 1 < tokens_.size(); ++i) {
      logprobs_.push_back(log_probability(rows + i * width, width, tokens_[first + i + 1]));
    }
  }
  Score finish() override { return {std::move(tokens_), std::move(logprobs_)}; }

 private:
  std::vector<float> logprobs_;
};

class EmbedJob final : public ChunkedJob<std::vector<float>> {
 public:
  using ChunkedJob::ChunkedJob;

 protected:
  bool wants_embeddings() const override { return true; }
  void consume(const float* rows, size_t width, size_t, size_t count) override {
    sum_.resize(width);
    for (size_t i = 0; i < count; ++i) {
      for (size_t d = 0; d < width; ++d) sum_[d] += rows[i * width + d];
    }
  }
  std::vector<float> finish() override {
    double square = 0;
    for (const double v : sum_) square += v * v;
    const double scale = square > 0 ? 1 / std::sqrt(square) : 0;
    std::vector<float> unit(sum_.size());
    for (size_t d = 0; d < sum_.size(); ++d) unit[d] = static_cast<float>(sum_[d] * scale);
    return unit;
  }

 private:
  std::vector<double> sum_;
};

template <typename Job>
EngineJob as_engine_job(std::shared_ptr<Job> job) {
  return [job = std::move(job)](ModelRunner& runner, SeqId seq) { return job->run(runner, seq); };
}

}  // namespace

EngineJob make_score_job(std::shared_ptr<Model> model, std::string text, CancelTokenPtr cancel,
                         std::function<void(Result<Score>)> done) {
  return as_engine_job(std::make_shared<ScoreJob>(std::move(model), std::move(text),
                                                  std::move(cancel), std::move(done)));
}

EngineJob make_embed_job(std::shared_ptr<Model> model, std::string text, CancelTokenPtr cancel,
                         std::function<void(Result<std::vector<float>>)> done) {
  return as_engine_job(std::make_shared<EmbedJob>(std::move(model), std::move(text),
                                                  std::move(cancel), std::move(done)));
}

}  // namespace pm::llama

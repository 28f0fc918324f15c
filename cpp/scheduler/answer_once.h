// A callback that is called exactly once, whatever becomes of the job that carries it: dropped with
// its last copy unanswered, it says that the engine was disposed.
#pragma once

#include <atomic>
#include <functional>
#include <memory>

#include "core/result.h"

namespace pm {

template <typename T>
class AnswerOnce {
 public:
  using Callback = std::function<void(Result<T>)>;

  explicit AnswerOnce(Callback callback) : state_(std::make_shared<State>(std::move(callback))) {}

  void operator()(Result<T> answer) const {
    if (!state_->answered.exchange(true)) state_->callback(std::move(answer));
  }

 private:
  struct State {
    explicit State(Callback c) : callback(std::move(c)) {}
    ~State() {
      if (!answered) callback(Error{ErrorCode::kDisposed, "the engine was disposed"});
    }
    Callback callback;
    std::atomic<bool> answered{false};
  };
  std::shared_ptr<State> state_;
};

template <typename T>
AnswerOnce(std::function<void(Result<T>)>) -> AnswerOnce<T>;

}  // namespace pm

// One engine thread that owns the model and every sequence, and batches them continuously.
//
// Lifetime rules:
//  1. All public functions but the destructor may be called from any thread and never block.
//  2. `sink` runs on the engine thread, one call per step that had something to say.
//  3. Every submitted request gets exactly one terminal event (kFinish or kError), also on stop().
//  4. stop() joins; nothing is reported after it returns.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>

#include "core/worker.h"
#include "kv/kv_record.h"
#include "scheduler/answer_once.h"
#include "scheduler/sequence.h"
#include "scheduler/stats.h"
#include "scheduler/step_planner.h"

namespace pm {

struct EngineConfig {
  size_t max_requests = 8;  // sequences that run at the same time
  StepLimits limits;
};

using EventSink = std::function<void(EventBatch&&)>;
// Exclusive use of the model and of one free sequence between two steps; called again until it
// returns true. Dropped (destroyed) without a call when the engine stops first.
using EngineJob = std::function<bool(ModelRunner&, SeqId)>;

class Engine {
 public:
  Engine(std::unique_ptr<ModelRunner> runner, std::shared_ptr<PromptPreparer> preparer,
         EngineConfig config, EventSink sink);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // False after stop(): the request was not taken and no event will come.
  bool submit(RequestPtr request);
  void cancel(RequestId id);
  void finish(RequestId id);
  void tool_result(RequestId id, std::string call_id, std::string content);
  // False after stop(). A job whose token is cancelled before it got a sequence is destroyed; call
  // wake() after cancelling.
  bool run_job(EngineJob job, CancelTokenPtr cancel);

  // Tokens and pages that went to a file or came from it.
  struct SavedPrefix {
    size_t tokens = 0;
    size_t pages = 0;
  };
  using SavedCallback = std::function<void(Result<SavedPrefix>)>;
  // Writes what the KV cache holds of the request's prompt to `path`. `done` is called once, on any
  // thread.
  void save_prefix(RequestPtr request, std::string path, SavedCallback done);
  // Brings it back, in this engine or another with the same model and settings.
  void load_prefix(std::string path, SavedCallback done);

  void wake();
  // `done` is called once, on the engine thread between two steps, or here after stop().
  void inspect_memory(std::function<void(std::vector<PoolPicture>)> done);
  EngineStats stats() const { return stats_cell_.read(); }

  // Ends every request with `reason` and joins. Idempotent.
  void stop(const Error& reason);

 private:
  struct Submit {
    RequestPtr request;
  };
  struct Prepared {
    RequestId id;
    Result<PreparedPrompt> result;
  };
  struct Cancel {
    RequestId id;
  };
  struct Finish {
    RequestId id;
  };
  struct ToolResult {
    RequestId id;
    std::string call_id;
    std::string content;
  };
  struct ToolTokens {
    RequestId id;
    Result<ToolAnswer> result;
  };
  struct NewJob {
    EngineJob run;
    CancelTokenPtr cancel;
  };
  struct Wake {};
  struct Capture {
    DigestChain chain;
    std::string path;
    AnswerOnce<SavedPrefix> done;
  };
  struct Restore {
    std::vector<KvRecord> pages;
    AnswerOnce<SavedPrefix> done;
  };
  struct Inspect {
    std::function<void(std::vector<PoolPicture>)> done;
  };
  using Command = std::variant<Submit, Prepared, Cancel, Finish, ToolResult, ToolTokens, NewJob,
                               Wake, Inspect, Capture, Restore>;

  bool post(Command command);
  void loop();
  void turn();
  template <typename Work>
  void guarded(Work work);
  void give_memory();
  void fail_all(const Error& error);
  bool wait_for_work();
  std::deque<Command> take_commands();

  void apply(Submit& command);
  void apply(Prepared& command);
  void apply(Cancel& command);
  void apply(Finish& command);
  void apply(ToolResult& command);
  void apply(ToolTokens& command);
  void apply(NewJob& command);
  void apply(Wake&) {}
  void apply(Capture& command);
  void apply(Restore& command);
  void apply(Inspect& command) { command.done(runner_->memory().pictures()); }

  void check_budgets();
  void admit();
  bool admit_one(Sequence& sequence, SeqId slot);
  size_t adopt_prefix(const Sequence& sequence, SeqId slot);
  bool computed_by_another(const Sequence& sequence) const;
  void admit_answers();
  void begin_answer(Sequence& sequence);
  void make_room();
  bool nothing_runs() const;
  Error pool_too_small() const;
  bool preempt_for(const Sequence& sequence);
  bool preempt_idle();
  void preempt(Sequence& sequence);
  void restart_with_answer(Sequence& sequence);
  void publish_prefixes();
  void run_jobs();
  void step();
  void step_tokens();
  void step_media();
  void sample_after_decode(Sequence& sequence, size_t span_index);
  void accept(Sequence& sequence, Token token);
  void report(Sequence& sequence, std::vector<Segment>& segments);
  void open_tool_call(Sequence& sequence, std::string body);

  size_t token_limit(const Sequence& sequence) const;
  size_t tokens_to_reserve(const Sequence& sequence, size_t next) const;
  bool runnable() const;
  bool job_waits() const;
  std::optional<Clock::time_point> next_deadline() const;
  Sequence* find(RequestId id);

  void end(Sequence& sequence, FinishReason reason);
  void fail(Sequence& sequence, Error error);
  void retire(Sequence& sequence, Event event);
  void remove_retired();
  void publish();
  void measure_memory();

  std::unique_ptr<ModelRunner> runner_;
  std::shared_ptr<PromptPreparer> preparer_;
  const EngineConfig config_;
  EventSink sink_;
  // Where digests of prompts start; none if the memory keeps no prefixes.
  std::optional<Digest> chain_root_;

  // Arrival order; admission and fairness follow it.
  std::deque<std::unique_ptr<Sequence>> sequences_;
  std::vector<SeqId> free_slots_;
  struct RunningJob {
    EngineJob run;
    CancelTokenPtr cancel;
    SeqId seq = -1;  // -1: waits for a free slot
  };
  std::vector<RunningJob> jobs_;
  EventBatch events_;
  EngineStats stats_;
  Clock::time_point memory_measured_{};
  StatsCell stats_cell_;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Command> inbox_;
  std::optional<Error> stop_reason_;

  // Lets the memory's own thread wake this engine as long as it lives.
  struct Waker {
    std::mutex mutex;
    Engine* engine;
  };
  std::shared_ptr<Waker> waker_;

  std::mutex stop_mutex_;
  // Text-only prompts never queue behind an image.
  Worker text_lane_{"mm-prepare"};
  Worker media_lane_{"mm-media"};
  Worker disk_lane_{"mm-disk"};
  std::thread thread_;
};

}  // namespace pm

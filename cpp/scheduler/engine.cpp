#include "scheduler/engine.h"

#include <algorithm>

namespace pm {
namespace {

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// Nothing may throw out of a lane: the process would end.
template <typename T, typename Work>
Result<T> without_throwing(Work work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kOutOfMemory, "out of memory while preparing the prompt"};
  } catch (const std::exception& e) {
    return Error{ErrorCode::kInternal, std::string("preparing the prompt: ") + e.what()};
  }
}

Clock::time_point budget_deadline(const Request& request) {
  return request.submitted + std::chrono::duration_cast<Clock::duration>(
                                 std::chrono::duration<double, std::milli>(request.budget_ms));
}

}  // namespace

Engine::Engine(std::unique_ptr<ModelRunner> runner, std::shared_ptr<PromptPreparer> preparer,
               EngineConfig config, EventSink sink)
    : runner_(std::move(runner)),
      preparer_(std::move(preparer)),
      config_(config),
      sink_(std::move(sink)) {
  const size_t slots = std::min(config_.max_requests, runner_->sequence_count());
  for (size_t i = slots; i > 0; --i) free_slots_.push_back(static_cast<SeqId>(i - 1));
  stats_.kv_capacity = static_cast<int64_t>(runner_->memory().capacity());
  stats_cell_.write(stats_);
  thread_ = std::thread([this] {
    set_thread_name("mm-engine");
    loop();
  });
}

Engine::~Engine() { stop(Error{ErrorCode::kDisposed, "the engine was disposed"}); }

void Engine::stop(const Error& reason) {
  std::lock_guard stopping(stop_mutex_);
  {
    std::lock_guard lock(mutex_);
    if (!stop_reason_) stop_reason_ = reason;
  }
  runner_->interrupt();
  wake_.notify_one();

  // Lanes first: a job that finishes now posts into an inbox nobody reads any more.
  text_lane_.stop();
  media_lane_.stop();
  if (thread_.joinable()) thread_.join();
}

bool Engine::post(Command command) {
  {
    std::lock_guard lock(mutex_);
    if (stop_reason_) return false;
    inbox_.push_back(std::move(command));
  }
  wake_.notify_one();
  return true;
}

bool Engine::submit(RequestPtr request) { return post(Submit{std::move(request)}); }
void Engine::wake() { post(Wake{}); }
void Engine::cancel(RequestId id) { post(Cancel{id}); }
void Engine::finish(RequestId id) { post(Finish{id}); }
void Engine::tool_result(RequestId id, std::string call_id, std::string content) {
  post(ToolResult{id, std::move(call_id), std::move(content)});
}
bool Engine::run_job(EngineJob job, CancelTokenPtr cancel) {
  return post(NewJob{std::move(job), std::move(cancel)});
}

// ---- the engine thread ----

void Engine::loop() {
  while (wait_for_work()) {
    auto commands = take_commands();
    for (auto& command : commands) {
      std::visit([this](auto& c) { apply(c); }, command);
    }
    check_budgets();
    remove_retired();
    if (!job_waits()) admit();
    admit_answers();
    run_jobs();
    step();
    remove_retired();
    // Again: what the step freed must be given on before this thread may go to sleep. Jobs that
    // wait for a slot were there first.
    if (!job_waits()) admit();
    admit_answers();
    publish();
  }
  // Stopped: every live request, and every one still in the inbox, gets its terminal event.
  for (auto& command : take_commands()) {
    if (auto* submit = std::get_if<Submit>(&command)) apply(*submit);
  }
  for (auto& sequence : sequences_) fail(*sequence, *stop_reason_);
  jobs_.clear();
  remove_retired();
  publish();
}

bool Engine::runnable() const {
  const bool job_can_run = std::any_of(jobs_.begin(), jobs_.end(), [this](const RunningJob& job) {
    return job.seq >= 0 || !free_slots_.empty() || job.cancel->cancelled();
  });
  if (job_can_run) return true;
  return std::any_of(sequences_.begin(), sequences_.end(), [](const auto& s) {
    return s->phase == Phase::kPrefill || s->phase == Phase::kDecode;
  });
}

bool Engine::job_waits() const {
  return std::any_of(jobs_.begin(), jobs_.end(), [](const RunningJob& job) { return job.seq < 0; });
}

std::optional<Clock::time_point> Engine::next_deadline() const {
  std::optional<Clock::time_point> next;
  for (const auto& sequence : sequences_) {
    if (sequence->request->budget_ms <= 0) continue;
    const auto deadline = budget_deadline(*sequence->request);
    if (!next || deadline < *next) next = deadline;
  }
  return next;
}

// False: the engine was told to stop.
bool Engine::wait_for_work() {
  const bool busy = runnable();
  std::unique_lock lock(mutex_);
  const auto ready = [this] { return stop_reason_.has_value() || !inbox_.empty(); };
  if (!busy) {
    if (const auto deadline = next_deadline()) {
      wake_.wait_until(lock, *deadline, ready);
    } else {
      wake_.wait(lock, ready);
    }
  }
  return !stop_reason_.has_value();
}

std::deque<Engine::Command> Engine::take_commands() {
  std::lock_guard lock(mutex_);
  return std::exchange(inbox_, {});
}

Sequence* Engine::find(RequestId id) {
  for (auto& sequence : sequences_) {
    if (sequence->id() == id) return sequence.get();
  }
  return nullptr;
}

void Engine::apply(Submit& command) {
  const RequestPtr request = command.request;
  sequences_.push_back(std::make_unique<Sequence>(request));
  Worker& lane = request->media.empty() ? text_lane_ : media_lane_;
  lane.post([this, request] {
    if (request->cancel->cancelled()) return;
    post(Prepared{request->id,
                  without_throwing<PreparedPrompt>([&] { return preparer_->prepare(*request); })});
  });
}

void Engine::apply(Prepared& command) {
  Sequence* sequence = find(command.id);
  if (!sequence) return;  // cancelled meanwhile
  if (!command.result) return fail(*sequence, command.result.error());
  PreparedPrompt prepared = std::move(command.result).value();
  sequence->prompt = std::move(prepared.prompt);
  sequence->sampler = std::move(prepared.sampler);
  sequence->stream = TextStream(sequence->request->stop, prepared.starts_in_reasoning);
  sequence->encode_ms = prepared.encode_ms;
  stats_.encode_ms += prepared.encode_ms;

  for (const auto& chunk : sequence->prompt) {
    sequence->usage.input_tokens += static_cast<int64_t>(chunk.size());
    if (!chunk.media) continue;
    auto& counter =
        chunk.media->is_audio ? sequence->usage.audio_tokens : sequence->usage.image_tokens;
    counter += static_cast<int64_t>(chunk.size());
  }
  const size_t prompt_tokens = sequence->prompt_tokens();
  if (prompt_tokens == 0 || sequence->prompt.back().media) {
    return fail(*sequence,
                {ErrorCode::kInvalidRequest, "expected a prompt that ends with text, found none"});
  }
  const size_t context = runner_->context_tokens();
  if (prompt_tokens >= context) {
    return fail(*sequence, {ErrorCode::kContextOverflow,
                            "expected a prompt of fewer than " + std::to_string(context) +
                                " tokens (the context), found " + std::to_string(prompt_tokens),
                            {{"context_tokens", std::to_string(context)},
                             {"prompt_tokens", std::to_string(prompt_tokens)}}});
  }
  sequence->phase = Phase::kWaiting;
}

void Engine::apply(Cancel& command) {
  if (Sequence* sequence = find(command.id)) {
    fail(*sequence, {ErrorCode::kCancelled, "the run was cancelled"});
  }
}

void Engine::apply(Finish& command) {
  if (Sequence* sequence = find(command.id)) end(*sequence, FinishReason::kStop);
}

void Engine::apply(ToolResult& command) {
  Sequence* sequence = find(command.id);
  const bool expected =
      sequence && sequence->phase == Phase::kToolWait && sequence->call_id == command.call_id;
  if (!expected) return;  // answered twice, or the run has ended
  sequence->call_id.clear();
  const RequestPtr request = sequence->request;
  text_lane_.post(
      [this, request, body = sequence->call_body, content = std::move(command.content)] {
        if (request->cancel->cancelled()) return;
        post(ToolTokens{request->id, without_throwing<ToolAnswer>([&] {
                          return preparer_->tool_answer(*request, body, content);
                        })});
      });
}

void Engine::apply(ToolTokens& command) {
  Sequence* sequence = find(command.id);
  if (!sequence || sequence->phase != Phase::kToolWait) return;
  if (!command.result) return fail(*sequence, command.result.error());
  const int64_t limit = sequence->request->max_tokens;
  if (limit > 0 && sequence->usage.output_tokens >= limit) {
    return end(*sequence, FinishReason::kLength);
  }
  ToolAnswer answer = std::move(command.result).value();
  sequence->answer = std::move(answer.tokens);
  sequence->answer_reasons = answer.starts_in_reasoning;
  // The token that closed the call has been sampled but not evaluated yet.
  sequence->answer.insert(sequence->answer.begin(), sequence->next_token);
  sequence->phase = Phase::kAnswerWait;
}

void Engine::apply(NewJob& command) {
  jobs_.push_back({std::move(command.run), std::move(command.cancel)});
}

void Engine::check_budgets() {
  const auto now = Clock::now();
  for (auto& sequence : sequences_) {
    const Request& request = *sequence->request;
    if (request.budget_ms > 0 && now >= budget_deadline(request)) {
      end(*sequence, FinishReason::kBudget);
    }
  }
}

// Tokens the sequence may come to hold: what it has, what the prompt brings, what it may generate.
size_t Engine::token_limit(const Sequence& sequence) const {
  const size_t context = runner_->context_tokens();
  const size_t known = sequence.kv_tokens + sequence.prompt_tokens() + sequence.answer.size();
  if (sequence.request->max_tokens <= 0) return context;
  const int64_t left = sequence.request->max_tokens - sequence.usage.output_tokens;
  return std::min(context, known + static_cast<size_t>(std::max<int64_t>(0, left)));
}

// Strictly in order of arrival: a large request is never overtaken for ever by small ones.
void Engine::admit() {
  for (auto& sequence : sequences_) {
    if (sequence->phase != Phase::kWaiting) continue;
    if (free_slots_.empty()) return;
    const SeqId slot = free_slots_.back();
    if (!runner_->memory().reserve(slot, token_limit(*sequence))) return;
    free_slots_.pop_back();
    sequence->seq = slot;
    sequence->phase = Phase::kPrefill;
    sequence->admitted = Clock::now();
    Event event;
    event.id = sequence->id();
    event.type = EventType::kStart;
    event.usage = sequence->usage;
    events_.push_back(std::move(event));
  }
}

// Tool answers make sequences longer than they were admitted for.
void Engine::admit_answers() {
  const size_t context = runner_->context_tokens();
  bool others_progress = runnable();
  for (auto& sequence : sequences_) {
    others_progress |= sequence->phase == Phase::kToolWait;
  }
  for (auto& sequence : sequences_) {
    if (sequence->phase != Phase::kAnswerWait) continue;
    const size_t needed = sequence->kv_tokens + sequence->answer.size();
    if (needed >= context) {
      fail(*sequence,
           {ErrorCode::kContextOverflow,
            "expected a tool result that leaves room in the context of " + std::to_string(context) +
                " tokens, found " + std::to_string(needed) + " tokens with it"});
      continue;
    }
    if (!runner_->memory().reserve(sequence->seq, token_limit(*sequence))) {
      if (others_progress) continue;  // they will give memory back
      fail(*sequence, {ErrorCode::kOutOfMemory,
                       "the KV cache has no room for the tool result: every sequence waits"});
      continue;
    }
    sequence->tool_wait_ms += ms_since(sequence->tool_wait_start);
    sequence->usage.input_tokens += static_cast<int64_t>(sequence->answer.size()) - 1;
    sequence->prompt.clear();
    sequence->prompt.push_back(PromptChunk{std::move(sequence->answer), nullptr});
    sequence->answer.clear();
    sequence->chunk = 0;
    sequence->offset = 0;
    sequence->next_token = -1;
    sequence->phase = Phase::kPrefill;
    others_progress = true;
    std::vector<Segment> segments;
    sequence->stream.resume(sequence->answer_reasons, segments);
    report(*sequence, segments);
  }
}

void Engine::run_jobs() {
  std::erase_if(jobs_, [this](RunningJob& job) {
    if (job.seq < 0) {
      if (job.cancel->cancelled()) return true;  // destroyed: it answers by itself
      if (free_slots_.empty()) return false;
      job.seq = free_slots_.back();
      free_slots_.pop_back();
    }
    if (!job.run(*runner_, job.seq)) return false;
    runner_->memory().release(job.seq);
    free_slots_.push_back(job.seq);
    return true;
  });
}

void Engine::step() {
  step_tokens();
  step_media();
}

// One batch: the next token of every decoding sequence and a chunk of every prompt.
void Engine::step_tokens() {
  std::vector<Sequence*> members;
  std::vector<TokenSpan> spans;
  for (auto& sequence : sequences_) {
    if (sequence->phase != Phase::kDecode) continue;
    members.push_back(sequence.get());
    spans.push_back({sequence->seq, sequence->pos, &sequence->next_token, 1, true});
  }
  const size_t decoding = members.size();

  std::vector<Sequence*> prefilling;
  std::vector<size_t> remaining;
  for (auto& sequence : sequences_) {
    if (sequence->phase != Phase::kPrefill || sequence->at_media()) continue;
    prefilling.push_back(sequence.get());
    remaining.push_back(sequence->current_remaining());
  }
  const auto shares = plan_prefill(remaining, decoding, config_.limits);
  for (size_t i = 0; i < prefilling.size(); ++i) {
    if (shares[i] == 0) continue;
    Sequence& s = *prefilling[i];
    const bool last = s.chunk + 1 == s.prompt.size() && shares[i] == remaining[i];
    members.push_back(&s);
    spans.push_back({s.seq, s.pos, s.current().tokens.data() + s.offset, shares[i], last});
  }
  if (spans.empty()) return;

  const auto started = Clock::now();
  const Status status = runner_->decode(spans);
  const double elapsed = ms_since(started);
  ++stats_.steps;
  if (!status) {
    // Which tokens reached the cache is unknown: none of these sequences can go on.
    for (Sequence* s : members) fail(*s, status.error());
    return;
  }
  (decoding > 0 ? stats_.decode_ms : stats_.prefill_ms) += elapsed;

  const auto sampling = Clock::now();
  for (size_t i = 0; i < members.size(); ++i) {
    Sequence& s = *members[i];
    s.pos += static_cast<Pos>(spans[i].count);
    if (i < decoding) {
      ++s.kv_tokens;
    } else {
      stats_.prompt_tokens += static_cast<int64_t>(spans[i].count);
      s.consumed(spans[i].count);
    }
    if (spans[i].wants_logits) sample_after_decode(s, i);
  }
  stats_.sample_ms += ms_since(sampling);
}

// One medium a step, the oldest first, so that decoding sequences wait for one at most.
void Engine::step_media() {
  for (auto& sequence : sequences_) {
    Sequence& s = *sequence;
    if (s.phase != Phase::kPrefill || !s.at_media()) continue;
    const auto started = Clock::now();
    const auto result = runner_->decode_media(s.seq, *s.current().media, s.offset, s.pos,
                                              config_.limits.tokens_per_step);
    stats_.prefill_ms += ms_since(started);
    ++stats_.steps;
    if (!result) return fail(s, result.error());
    stats_.prompt_tokens += static_cast<int64_t>(result.value().tokens);
    s.pos = result.value().next_pos;
    s.consumed(result.value().tokens);
    return;
  }
}

void Engine::sample_after_decode(Sequence& sequence, size_t span_index) {
  const auto token = sequence.sampler->sample(runner_->logits(span_index));
  if (!token) return fail(sequence, token.error());
  accept(sequence, token.value());
}

void Engine::accept(Sequence& s, Token token) {
  if (!s.has_first_token) {
    s.has_first_token = true;
    s.first_token = Clock::now();
  }
  s.phase = Phase::kDecode;
  s.next_token = token;
  if (runner_->is_end(token)) return end(s, FinishReason::kStop);
  ++s.usage.output_tokens;
  ++stats_.output_tokens;

  std::vector<Segment> segments;
  s.stream.feed(runner_->piece(token), segments);
  report(s, segments);
  if (s.stream.stopped()) return end(s, FinishReason::kStop);
  if (s.phase == Phase::kToolWait) return;
  const bool enough = s.request->max_tokens > 0 && s.usage.output_tokens >= s.request->max_tokens;
  // The token just sampled still needs a slot of the context.
  const bool full = s.kv_tokens + 1 >= runner_->context_tokens();
  if (enough || full) end(s, FinishReason::kLength);
}

void Engine::report(Sequence& s, std::vector<Segment>& segments) {
  for (auto& segment : segments) {
    if (segment.kind == Segment::Kind::kToolCall) {
      open_tool_call(s, std::move(segment.text));
      continue;
    }
    Event event;
    event.id = s.id();
    event.type = segment.kind == Segment::Kind::kText ? EventType::kText : EventType::kReasoning;
    event.text = std::move(segment.text);
    events_.push_back(std::move(event));
  }
}

void Engine::open_tool_call(Sequence& s, std::string body) {
  s.phase = Phase::kToolWait;
  s.tool_wait_start = Clock::now();
  s.call_id = "call_" + std::to_string(s.id()) + "_" + std::to_string(s.calls++);
  s.call_body = body;
  Event event;
  event.id = s.id();
  event.type = EventType::kToolCall;
  event.call_id = s.call_id;
  event.text = std::move(body);
  events_.push_back(std::move(event));
}

// ---- ends ----

void Engine::end(Sequence& s, FinishReason reason) {
  if (s.request->cancel->cancelled()) return;  // already retired
  std::vector<Segment> segments;
  const std::string unfinished = s.stream.unfinished_tool_call();
  s.stream.flush(segments);
  report(s, segments);
  Event event;
  event.type = EventType::kFinish;
  event.reason = reason;
  event.text = unfinished;
  ++stats_.finished;
  retire(s, std::move(event));
}

void Engine::fail(Sequence& s, Error error) {
  if (s.request->cancel->cancelled()) return;  // already retired
  Event event;
  event.type = EventType::kError;
  ++(error.code == ErrorCode::kCancelled ? stats_.cancelled : stats_.failed);
  event.error = std::move(error);
  retire(s, std::move(event));
}

// Frees the slot at once; the object goes at the end of the step.
void Engine::retire(Sequence& s, Event event) {
  event.id = s.id();
  event.usage = s.usage;
  event.timings = s.timings(Clock::now());
  stats_.queue_ms += event.timings.queue_ms;
  events_.push_back(std::move(event));
  // Also tells the lanes not to prepare it any more.
  s.request->cancel->cancel();
  if (s.seq >= 0) {
    runner_->memory().release(s.seq);
    free_slots_.push_back(s.seq);
    s.seq = -1;
  }
  s.phase = Phase::kPreparing;  // takes no part in this step any more
}

void Engine::remove_retired() {
  std::erase_if(sequences_, [](const auto& s) { return s->request->cancel->cancelled(); });
}

void Engine::publish() {
  stats_.running = 0;
  stats_.waiting = 0;
  for (const auto& s : sequences_) ++(s->seq >= 0 ? stats_.running : stats_.waiting);
  stats_.kv_reserved = static_cast<int64_t>(runner_->memory().reserved());
  stats_cell_.write(stats_);
  if (!events_.empty()) sink_(std::exchange(events_, {}));
}

}  // namespace pm

#include "scheduler/engine.h"

#include <algorithm>

#include "kv/prefix_store.h"
#include "kv/saved_file.h"

namespace pm {
namespace {

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

Error no_prefix_cache() {
  return {ErrorCode::kEngineUnavailable,
          "conversations are saved from the prefix cache, which this engine has not: it needs the "
          "paged KV cache (see info().kv) and kv.prefix_cache"};
}

Status write_pages(const std::string& path, const RecordLayout& layout,
                   const std::vector<KvRecord>& pages) {
  SavedHead head;
  head.groups.resize(layout.page_bytes.size());
  head.groups[0].pages = pages.size();  // a record holds the page of every group
  auto file = SavedFileWriter::create(path, layout, head);
  if (!file) return file.error();
  for (const KvRecord& page : pages) PM_TRY(file.value().add(page));
  return file.value().commit();
}

Result<std::vector<KvRecord>> read_pages(const std::string& path, const RecordLayout& layout) {
  auto file = SavedFileReader::open(path, layout);
  if (!file) return file.error();
  std::vector<KvRecord> pages;
  for (const auto& group : file.value().head().groups) {
    for (uint64_t i = 0; i < group.pages; ++i) {
      auto page = file.value().next();
      if (!page) return page.error();
      pages.push_back(std::move(page).value());
    }
  }
  return pages;
}

Error answer_too_long(size_t context, size_t needed) {
  return {ErrorCode::kContextOverflow,
          "expected a tool result that leaves room in the context of " + std::to_string(context) +
              " tokens, found " + std::to_string(needed) + " tokens with it"};
}

// How long a sequence that waits for its tool keeps pages that others wait for.
constexpr double kToolPatienceMs = 20;
constexpr double kMemoryReportMs = 100;

DigestChain digest_prompt(const Digest& root, const Prompt& prompt) {
  DigestChain chain(root);
  for (const PromptChunk& chunk : prompt) {
    for (const Token token : chunk.tokens) chain.add_token(token);
    for (size_t i = 0; chunk.media && i < chunk.media->token_count; ++i) {
      chain.add_media(chunk.media->digest, static_cast<uint32_t>(i));
    }
  }
  return chain;
}

// Nothing may throw out of a lane: the process would end.
template <typename T, typename Work>
Result<T> without_throwing(Work work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kOutOfMemory, "out of memory off the engine thread"};
  } catch (const std::exception& e) {
    return Error{ErrorCode::kInternal, e.what()};
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
  if (runner_->memory().caches_prefixes()) chain_root_ = runner_->memory().chain_root();
  waker_ = std::make_shared<Waker>();
  waker_->engine = this;
  runner_->memory().set_wake([waker = waker_] {
    std::lock_guard lock(waker->mutex);
    if (waker->engine) waker->engine->wake();
  });
  measure_memory();
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
  disk_lane_.stop();
  if (thread_.joinable()) thread_.join();
  std::lock_guard lock(waker_->mutex);
  waker_->engine = nullptr;
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
void Engine::save_prefix(RequestPtr request, std::string path, SavedCallback done) {
  if (!chain_root_) return done(no_prefix_cache());
  Worker& lane = request->media.empty() ? text_lane_ : media_lane_;
  lane.post([this, request, path = std::move(path), done = AnswerOnce(std::move(done))] {
    auto prepared = without_throwing<PreparedPrompt>([&] { return preparer_->prepare(*request); });
    if (!prepared) return done(prepared.error());
    post(Capture{digest_prompt(*chain_root_, prepared.value().prompt), path, done});
  });
}

void Engine::load_prefix(std::string path, SavedCallback done) {
  if (!chain_root_) return done(no_prefix_cache());
  const RecordLayout layout = runner_->memory().prefix_store()->layout();
  disk_lane_.post([this, layout, path = std::move(path), done = AnswerOnce(std::move(done))] {
    auto pages = without_throwing<std::vector<KvRecord>>([&] { return read_pages(path, layout); });
    if (!pages) return done(pages.error());
    post(Restore{std::move(pages).value(), done});
  });
}

void Engine::inspect_memory(std::function<void(std::vector<PoolPicture>)> done) {
  if (!post(Inspect{done})) done({});
}
bool Engine::run_job(EngineJob job, CancelTokenPtr cancel) {
  return post(NewJob{std::move(job), std::move(cancel)});
}

// ---- the engine thread ----

void Engine::loop() {
  while (wait_for_work()) {
    auto commands = take_commands();
    for (auto& command : commands) {
      guarded([&] { std::visit([this](auto& c) { apply(c); }, command); });
    }
    guarded([this] { turn(); });
    publish();
  }
  // Stopped: every live request, and every one still in the inbox, gets its terminal event.
  for (auto& command : take_commands()) {
    if (auto* submit = std::get_if<Submit>(&command)) apply(*submit);
    if (auto* inspect = std::get_if<Inspect>(&command)) apply(*inspect);
  }
  for (auto& sequence : sequences_) fail(*sequence, *stop_reason_);
  jobs_.clear();
  remove_retired();
  publish();
}

void Engine::turn() {
  check_budgets();
  remove_retired();
  give_memory();
  run_jobs();
  step();
  remove_retired();
  // Again: what the step freed must be given on before this thread may go to sleep.
  give_memory();
}

// Whatever the work throws (memory is short) ends the requests, not the process.
template <typename Work>
void Engine::guarded(Work work) {
  try {
    work();
  } catch (const std::bad_alloc&) {
    fail_all({ErrorCode::kOutOfMemory, "out of memory on the engine thread"});
  } catch (const std::exception& e) {
    fail_all({ErrorCode::kInternal, std::string("engine thread: ") + e.what()});
  }
}

void Engine::fail_all(const Error& error) {
  for (auto& sequence : sequences_) fail(*sequence, error);
  remove_retired();
}

// Answers first: their sequences are older than those that wait. Jobs that wait for a slot were
// there before new sequences.
void Engine::give_memory() {
  admit_answers();
  remove_retired();
  if (!job_waits()) admit();
  remove_retired();
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
  const auto consider = [&next](Clock::time_point deadline) {
    if (!next || deadline < *next) next = deadline;
  };
  const bool somebody_waits = std::any_of(sequences_.begin(), sequences_.end(), [](const auto& s) {
    return s->phase == Phase::kWaiting;
  });
  const auto patience = std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double, std::milli>(kToolPatienceMs));
  for (const auto& sequence : sequences_) {
    if (sequence->request->budget_ms > 0) consider(budget_deadline(*sequence->request));
    const bool may_give_way = sequence->phase == Phase::kToolWait && sequence->seq >= 0;
    if (somebody_waits && may_give_way && runner_->memory().grows()) {
      consider(sequence->tool_wait_start + patience);
    }
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
    post(Prepared{request->id, without_throwing<PreparedPrompt>([&]() -> Result<PreparedPrompt> {
                    auto prepared = preparer_->prepare(*request);
                    // Encoded by now: pixels would otherwise stay until the answer is complete.
                    request->media = {};
                    if (prepared && chain_root_) {
                      prepared.value().chain = digest_prompt(*chain_root_, prepared.value().prompt);
                    }
                    return prepared;
                  })});
  });
}

void Engine::apply(Prepared& command) {
  Sequence* sequence = find(command.id);
  if (!sequence) return;  // cancelled meanwhile
  if (!command.result) return fail(*sequence, command.result.error());
  PreparedPrompt prepared = std::move(command.result).value();
  sequence->prompt = std::move(prepared.prompt);
  sequence->sampler = std::move(prepared.sampler);
  sequence->chain = std::move(prepared.chain);
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
  if (sequence->seq >= 0) return;
  restart_with_answer(*sequence);  // preempted while the tool ran
}

void Engine::apply(NewJob& command) {
  jobs_.push_back({std::move(command.run), std::move(command.cancel)});
}

void Engine::apply(Capture& command) {
  PrefixStore& store = *runner_->memory().prefix_store();
  auto captured =
      without_throwing<std::vector<KvRecord>>([&] { return store.capture(command.chain.pages()); });
  if (!captured) return command.done(captured.error());
  auto pages = std::make_shared<std::vector<KvRecord>>(std::move(captured).value());
  disk_lane_.post([layout = store.layout(), pages, path = command.path, done = command.done] {
    const auto written = without_throwing<void>([&] { return write_pages(path, layout, *pages); });
    if (!written) return done(written.error());
    done(SavedPrefix{pages->size() * kPageTokens, pages->size()});
  });
}

void Engine::apply(Restore& command) {
  const size_t pages = runner_->memory().prefix_store()->restore(command.pages);
  if (pages < command.pages.size()) {
    return command.done(
        Error{ErrorCode::kOutOfMemory, "expected a KV cache with room for " +
                                           std::to_string(command.pages.size()) + " pages, found " +
                                           std::to_string(pages) + ": raise kv.budget_bytes"});
  }
  command.done(SavedPrefix{pages * kPageTokens, pages});
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

// What must be promised before the sequence evaluates `next` more tokens.
size_t Engine::tokens_to_reserve(const Sequence& sequence, size_t next) const {
  const size_t limit = token_limit(sequence);
  return runner_->memory().grows() ? std::min(limit, sequence.kv_tokens + next) : limit;
}

// In order of arrival: a large request is never overtaken for ever by small ones.
void Engine::admit() {
  for (auto& sequence : sequences_) {
    if (sequence->phase != Phase::kWaiting) continue;
    if (computed_by_another(*sequence)) continue;  // soon it need not compute that itself
    if (runner_->memory().fetch_prefix(sequence->lookup())) continue;  // the disk wakes us
    bool admitted = !free_slots_.empty() && admit_one(*sequence, free_slots_.back());
    while (!admitted && preempt_idle()) admitted = admit_one(*sequence, free_slots_.back());
    if (!admitted) {
      if (!nothing_runs()) return;
      fail(*sequence, pool_too_small());
      continue;
    }
    free_slots_.pop_back();
    sequence->phase = Phase::kPrefill;
    if (sequence->started) continue;
    sequence->started = true;
    sequence->admitted = Clock::now();
    Event event;
    event.id = sequence->id();
    event.type = EventType::kStart;
    event.usage = sequence->usage;
    events_.push_back(std::move(event));
  }
}

// Gives the sequence a slot, what is known of its prompt, and room for the rest.
bool Engine::admit_one(Sequence& sequence, SeqId slot) {
  SequenceMemory& memory = runner_->memory();
  const auto lookup = sequence.lookup();
  const size_t found = adopt_prefix(sequence, slot) * kPageTokens;
  const size_t prompt = sequence.prompt_tokens();
  bool fits = true;
  if (memory.grows()) {
    // Those that run will grow, too: without a page for each, admitting means preempting soon.
    const auto running = static_cast<size_t>(std::count_if(
        sequences_.begin(), sequences_.end(), [](const auto& s) { return s->seq >= 0; }));
    const size_t limit = token_limit(sequence);
    fits = memory.reserve(slot, prompt + 1 + running * kPageTokens) &&
           memory.reserve(slot, std::min(limit, prompt + 1));
  } else {
    fits = memory.reserve(slot, token_limit(sequence));
  }
  if (!fits) {
    memory.release(slot);
    return false;
  }
  sequence.seq = slot;
  if (!sequence.started) {
    sequence.usage.cached_tokens = static_cast<int64_t>(found);
    stats_.prefix_lookup_tokens += static_cast<int64_t>(lookup.size() * kPageTokens);
    stats_.prefix_hit_tokens += static_cast<int64_t>(found);
  }
  sequence.skip(found);
  return true;
}

// Starts `slot` with the known pages of the prompt; a page count after which it can go on.
size_t Engine::adopt_prefix(const Sequence& sequence, SeqId slot) {
  SequenceMemory& memory = runner_->memory();
  const auto lookup = sequence.lookup();
  size_t pages = sequence.usable_pages(memory.find_prefix(lookup));
  for (;;) {
    const size_t found = memory.adopt_prefix(slot, lookup.first(pages));
    // A window may make it fewer than were asked for.
    pages = sequence.usable_pages(found);
    if (pages == found) return found;
    memory.release(slot);
  }
}

// A sequence that runs is about to compute pages this one needs and nobody has yet.
bool Engine::computed_by_another(const Sequence& sequence) const {
  const auto wanted = sequence.lookup();
  if (wanted.empty()) return false;
  const size_t known = sequence.usable_pages(runner_->memory().find_prefix(wanted));
  return std::any_of(sequences_.begin(), sequences_.end(), [&](const auto& other) {
    if (other->phase != Phase::kPrefill || !other->chain) return false;
    const auto pages = other->chain->pages();
    const auto common = sequence.usable_pages(static_cast<size_t>(
        std::mismatch(wanted.begin(), wanted.end(), pages.begin(), pages.end()).first -
        wanted.begin()));
    return common > known && other->kv_tokens < common * kPageTokens;
  });
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
      fail(*sequence, answer_too_long(context, needed));
      continue;
    }
    const size_t room = tokens_to_reserve(*sequence, sequence->answer.size() + 1);
    bool fits = runner_->memory().reserve(sequence->seq, room);
    while (!fits && preempt_for(*sequence)) fits = runner_->memory().reserve(sequence->seq, room);
    if (!fits) {
      if (others_progress) continue;  // they will give memory back
      fail(*sequence, {ErrorCode::kOutOfMemory,
                       "the KV cache has no room for the tool result: every sequence waits"});
      continue;
    }
    begin_answer(*sequence);
    sequence->phase = Phase::kPrefill;
    others_progress = true;
  }
}

// The tool's answer becomes what is to be evaluated next.
void Engine::begin_answer(Sequence& s) {
  s.tool_wait_ms += ms_since(s.tool_wait_start);
  s.usage.input_tokens += static_cast<int64_t>(s.answer.size()) - 1;
  if (s.chain) {
    for (const Token token : s.answer) s.chain->add_token(token);
  }
  // A preempted sequence has its past to evaluate first.
  if (s.seq >= 0) s.prompt.clear();
  s.prompt.push_back(PromptChunk{std::move(s.answer), nullptr});
  s.answer.clear();
  s.chunk = 0;
  s.offset = 0;
  s.next_token = -1;
  std::vector<Segment> segments;
  s.stream.resume(s.answer_reasons, segments);
  report(s, segments);
}

// Every decoding sequence gets room for one more token; where the pool is dry, the one that came
// last gives its pages back and starts anew when there is room.
void Engine::make_room() {
  if (!runner_->memory().grows()) return;
  for (auto& sequence : sequences_) {
    Sequence& s = *sequence;
    while (s.phase == Phase::kDecode &&
           !runner_->memory().reserve(s.seq, tokens_to_reserve(s, 1))) {
      if (preempt_for(s)) continue;
      preempt(s);  // the others were there first
      if (nothing_runs()) fail(s, pool_too_small());
    }
  }
}

// Neither a sequence nor a job holds memory.
bool Engine::nothing_runs() const {
  return std::none_of(sequences_.begin(), sequences_.end(),
                      [](const auto& s) { return s->seq >= 0; }) &&
         std::none_of(jobs_.begin(), jobs_.end(), [](const auto& job) { return job.seq >= 0; });
}

Error Engine::pool_too_small() const {
  return {ErrorCode::kOutOfMemory, "expected a KV cache with room for this run, found one of " +
                                       std::to_string(runner_->memory().capacity()) +
                                       " tokens: raise kv.budget_bytes"};
}

// Preempts the latest sequence that came after `s`. False: there is none.
bool Engine::preempt_for(const Sequence& s) {
  for (auto it = sequences_.rbegin(); it != sequences_.rend() && it->get() != &s; ++it) {
    Sequence& other = **it;
    if (other.seq < 0 || !runner_->memory().grows()) continue;
    preempt(other);
    return true;
  }
  return false;
}

// Preempts the latest sequence whose tool takes its time: others wait, and it might wait for one of
// them itself.
bool Engine::preempt_idle() {
  if (!runner_->memory().grows()) return false;
  for (auto it = sequences_.rbegin(); it != sequences_.rend(); ++it) {
    Sequence& s = **it;
    if (s.phase != Phase::kToolWait || s.seq < 0) continue;
    if (ms_since(s.tool_wait_start) < kToolPatienceMs) continue;
    preempt(s);
    return true;
  }
  return false;
}

void Engine::preempt(Sequence& s) {
  runner_->memory().release(s.seq);
  free_slots_.push_back(s.seq);
  s.seq = -1;
  s.rewind();
  ++stats_.preemptions;
  if (s.phase == Phase::kToolWait) return;
  if (s.phase == Phase::kAnswerWait) return restart_with_answer(s);
  s.phase = Phase::kWaiting;
}

// A preempted sequence starts anew with the tool's answer at its end.
void Engine::restart_with_answer(Sequence& s) {
  begin_answer(s);
  s.phase = Phase::kWaiting;
  const size_t context = runner_->context_tokens();
  const size_t needed = s.prompt_tokens();
  if (needed >= context) fail(s, answer_too_long(context, needed));
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
  make_room();
  step_tokens();
  step_media();
  publish_prefixes();
}

// Full pages are offered while their sequence still runs.
void Engine::publish_prefixes() {
  for (const auto& s : sequences_) {
    if (s->seq >= 0 && s->chain) runner_->memory().publish_prefix(s->seq, s->chain->pages());
  }
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
      s.consumed_next_token();
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

void Engine::measure_memory() {
  stats_.memory = runner_->memory().stats();
  memory_measured_ = Clock::now();
}

void Engine::publish() {
  stats_.running = 0;
  stats_.waiting = 0;
  for (const auto& s : sequences_) ++(s->seq >= 0 ? stats_.running : stats_.waiting);
  // Counting pages costs time: at times, and always before this thread goes to sleep.
  if (stats_.running == 0) runner_->memory().on_idle();
  if (stats_.running == 0 || ms_since(memory_measured_) > kMemoryReportMs) measure_memory();
  stats_cell_.write(stats_);
  if (!events_.empty()) sink_(std::exchange(events_, {}));
}

}  // namespace pm

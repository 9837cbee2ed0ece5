#include "clients/cpp/src/txn_engine.h"

#include <algorithm>

#include "broker/protocol/messages.h"
#include "clients/cpp/src/client_impl.h"
#include "log/base/check.h"

namespace tidemark::client_core {

namespace {

namespace fbs = protocol::fbs;

constexpr int64_t kMetadataPauseNs = 50 * kNsPerMs;

// The answer says that what the client knows about the partition's place is old.
bool is_about_place(ErrorCode code) {
  return code == ErrorCode::kNotLeader || code == ErrorCode::kWrongShard ||
         code == ErrorCode::kUnknownTopic || code == ErrorCode::kUnknownPartition;
}

std::optional<bool> outcome_of(fbs::TxnState state) {
  switch (state) {
    case fbs::TxnState::kCommitted:
      return true;
    case fbs::TxnState::kRolledBack:
      return false;
    case fbs::TxnState::kNone:
    case fbs::TxnState::kOpen:
    case fbs::TxnState::kParked:
      break;
  }
  return std::nullopt;
}

}  // namespace

TxnEngine::TxnEngine(TxnEngineOptions options, std::shared_ptr<TxnBuffer> buffer, Cluster& cluster,
                     uint64_t seed)
    : options_(options), buffer_(std::move(buffer)), cluster_(cluster), random_(seed) {
  TxnSender::Answers answers;
  answers.part = [this](PartJob job, const Status& status, uint32_t retry_after_ms) {
    on_part(std::move(job), status, retry_after_ms);
  };
  answers.end = [this](const EndJob& job, const Status& status, fbs::TxnState state,
                       uint32_t retry_after_ms) { on_end(job, status, state, retry_after_ms); };
  sender_ = std::make_shared<TxnSender>(cluster, buffer_->options().group, std::move(answers));
}

TxnEngine::~TxnEngine() { sender_->stop(); }

MonotonicTime TxnEngine::run(MonotonicTime now) {
  for (TxnNews& news : buffer_->take_news()) {
    take(news);
  }
  resolve_topics();
  expire(now);
  take_retries(now);
  sender_->flush();
  MonotonicTime next = kNever;
  if (!listed_.empty()) {
    next = std::min(next, MonotonicTime{listed_.begin()->first.first});
  }
  if (!retries_.empty()) {
    next = std::min(next, MonotonicTime{retries_.begin()->first});
  }
  return next;
}

// --- news ---

void TxnEngine::take(TxnNews& news) {
  const std::shared_ptr<Txn>& txn = news.txn;
  take_parts(txn, news.parts);
  switch (news.kind) {
    case TxnNews::Kind::kParts:
      break;
    case TxnNews::Kind::kHeld:
      if (!txn->holding && !place(txn)) {
        txn->holding = true;
        holding_.push_back(txn);
      }
      break;
    case TxnNews::Kind::kPrepare:
      seal_late(news);
      txn->preparing.push_back(std::move(news.prepare));
      list(txn);
      settle(txn);
      break;
    case TxnNews::Kind::kCommit:
      seal_late(news);
      on_commit(txn, std::move(news.end), news.failure);
      break;
    case TxnNews::Kind::kRollback:
      on_rollback(txn, std::move(news.end));
      break;
    case TxnNews::Kind::kDrop:
      on_rollback(txn, std::nullopt);
      break;
  }
}

// What was held when the program asked may have been placed meanwhile, and then nobody sealed it.
void TxnEngine::seal_late(TxnNews& news) {
  if (!news.unsealed || news.txn->holding) {
    return;
  }
  TxnParts parts;
  const Status sealed = buffer_->seal_open(*news.txn, parts);
  take_parts(news.txn, parts);
  if (!sealed.ok()) {
    fail(news.txn, sealed);
  }
}

void TxnEngine::take_parts(const std::shared_ptr<Txn>& txn, TxnParts& parts) {
  for (auto& part : parts) {
    ++txn->unresolved;
    send_part({txn, std::move(part)});
  }
  parts.clear();
}

void TxnEngine::on_commit(const std::shared_ptr<Txn>& txn, EndWaiter waiter,
                          const Status& failure) {
  if (txn->phase == TxnPhase::kEnd && !txn->end_commit) {
    // A part failed just before, and the rollback is under way.
    buffer_->count_end(true, false);
    report_ends(*txn, {std::move(waiter)}, to_public(txn->part_failure));
    return;
  }
  txn->waiting.push_back(std::move(waiter));
  if (txn->phase != TxnPhase::kOpen) {
    list(txn);
    return;
  }
  txn->phase = TxnPhase::kParts;
  txn->end_commit = true;
  const Status& known = txn->part_failure.ok() ? failure : txn->part_failure;
  if (!known.ok()) {
    fail(txn, known);
    return;
  }
  list(txn);
  settle(txn);
}

void TxnEngine::on_rollback(const std::shared_ptr<Txn>& txn, std::optional<EndWaiter> waiter) {
  if (waiter) {
    txn->waiting.push_back(std::move(*waiter));
  } else {
    txn->background_until = {cluster_.clock().monotonic().ns +
                             buffer_->options().delivery_timeout_ms * kNsPerMs};
  }
  txn->parts_wanted = false;
  report_prepares(*txn, Status(ErrorCode::kConflict, "the transaction was rolled back"));
  if (txn->phase != TxnPhase::kEnd) {
    start_end(txn, false);
  }
  list(txn);
}

// --- metadata ---

void TxnEngine::ask(TxnTopic& topic) {
  if (topic.meta == nullptr) {
    topic.meta = cluster_.find(topic.name);
  }
  if (topic.meta != nullptr) {
    topic.need_version = topic.meta->version + 1;
  }
  cluster_.want(topic.name);
}

Status TxnEngine::learn(TxnTopic& topic) {
  if (topic.meta == nullptr) {
    topic.meta = cluster_.find(topic.name);
  }
  const TopicMeta* const meta = topic.meta;
  if (meta == nullptr || meta->version < topic.need_version) {
    return {};
  }
  if (meta->version != topic.seen_version && !error_is_retryable(meta->status.code())) {
    topic.seen_version = meta->version;
    std::vector<uint16_t> shards;
    if (meta->status.ok()) {
      for (const PartitionHome& home : meta->partitions) {
        shards.push_back(home.shard);
      }
    }
    buffer_->learn(topic, meta->id, std::move(shards));
  }
  return error_is_retryable(meta->status.code()) ? Status() : meta->status;
}

void TxnEngine::resolve_topics() {
  bool changed = false;
  std::vector<TxnTopic*> waiting = std::exchange(unknown_, {});
  for (TxnTopic* const topic : waiting) {
    const Status status = learn(*topic);
    const TopicMeta* const meta = topic->meta;
    const bool answered = meta != nullptr && meta->version >= topic->need_version &&
                          (meta->status.ok() || !status.ok());
    topic->asked = !answered;
    if (answered) {
      changed = true;
    } else {
      unknown_.push_back(topic);
    }
  }
  if (changed) {
    std::vector<std::shared_ptr<Txn>> holding = std::exchange(holding_, {});
    for (const std::shared_ptr<Txn>& txn : holding) {
      if (place(txn)) {
        txn->holding = false;
        settle(txn);
      } else {
        holding_.push_back(txn);
      }
    }
  }
}

// Places what the transaction holds; false: it goes on holding.
bool TxnEngine::place(const std::shared_ptr<Txn>& txn) {
  TxnParts parts;
  Result<TxnTopic*> next = buffer_->place_held(*txn, parts);
  while (next.ok() && *next != nullptr && is_known(**next)) {
    next = buffer_->place_held(*txn, parts);
  }
  Status status = next.status();
  const bool all = next.ok() && *next == nullptr;
  if (all && (!txn->preparing.empty() || txn->phase == TxnPhase::kParts)) {
    status = buffer_->seal_open(*txn, parts);
  }
  take_parts(txn, parts);
  if (status.ok() && !all) {
    status = wait_for(*txn, **next);
  }
  if (!status.ok()) {
    fail(txn, status);
  }
  return all || !status.ok();
}

bool TxnEngine::is_known(TxnTopic& topic) {
  return learn(topic).ok() && topic.meta != nullptr && topic.meta->status.ok() &&
         topic.meta->version >= topic.need_version;
}

// An error: the answer about the topic that the transaction waited for. What was answered before
// does not count, for the topic may have been created meanwhile.
Status TxnEngine::wait_for(Txn& txn, TxnTopic& topic) {
  if (!topic.asked && std::exchange(txn.waits_for, nullptr) == &topic) {
    return topic.meta->status;
  }
  txn.waits_for = &topic;
  if (!topic.asked) {
    topic.asked = true;
    ask(topic);
    unknown_.push_back(&topic);
  }
  return {};
}

Session* TxnEngine::route(const TxnPart& part, Status& gone) {
  TxnTopic& topic = *part.topic;
  gone = learn(topic);
  const TopicMeta* const meta = topic.meta;
  if (meta == nullptr || meta->version < topic.need_version || !gone.ok()) {
    return nullptr;
  }
  const uint32_t partition = part.batch.target.index.value();
  if (meta->status.ok() && meta->id != part.batch.target.topic.value()) {
    gone = Status(ErrorCode::kUnknownTopic, "topic \"" + topic.name + "\" was deleted");
    return nullptr;
  }
  if (meta->status.ok() && partition >= meta->partitions.size()) {
    gone = Status(ErrorCode::kUnknownPartition, "topic \"" + topic.name + "\" has no partition " +
                                                    std::to_string(partition) + " any more");
    return nullptr;
  }
  return meta->status.ok() ? cluster_.session_of(meta->partitions[partition]) : nullptr;
}

Session* TxnEngine::route_end(const Txn& txn) {
  const TopicMeta* const meta = txn.home_topic->meta;
  if (meta != nullptr && meta->status.ok() && txn.home_partition < meta->partitions.size() &&
      meta->partitions[txn.home_partition].shard == txn.home_shard) {
    Session* const session = cluster_.session_of(meta->partitions[txn.home_partition]);
    if (session != nullptr) {
      return session;
    }
  }
  return cluster_.session_of_shard(txn.home_shard);
}

// --- sending ---

void TxnEngine::send_part(PartJob job) {
  if (!job.txn->parts_wanted) {
    forget(job);
    return;
  }
  Status gone;
  Session* const session = route(*job.part, gone);
  if (session != nullptr) {
    sender_->add(*session, std::move(job));
  } else if (!gone.ok()) {
    forget(job);
    fail(job.txn, gone);
  } else {
    cluster_.want(job.part->topic->name);
    retries_.emplace(cluster_.clock().monotonic().ns + kMetadataPauseNs, Retry{std::move(job), 0});
  }
}

void TxnEngine::forget(PartJob& job) {
  --job.txn->unresolved;
  buffer_->release(*job.part);
}

void TxnEngine::on_part(PartJob job, const Status& status, uint32_t retry_after_ms) {
  Txn& txn = *job.txn;
  if (!txn.parts_wanted) {
    forget(job);
    return;
  }
  if (status.ok()) {
    forget(job);
    txn.home_halves += job.part->shard == txn.home_shard ? 1 : 0;
    settle(job.txn);
    return;
  }
  txn.last_error = status;
  const ErrorCode code = status.code();
  if (is_about_place(code)) {
    ask(*job.part->topic);
  } else if (code == ErrorCode::kUnavailable) {
    cluster_.want(job.part->topic->name);  // the leader may have moved
  }
  if (error_is_retryable(code) || is_about_place(code)) {
    retry_part(std::move(job), retry_after_ms);
    return;
  }
  if (code == ErrorCode::kFenced) {
    buffer_->fence(status);
  }
  forget(job);
  fail(job.txn, status);
}

void TxnEngine::send_end(const std::shared_ptr<Txn>& txn) {
  Session* const session = route_end(*txn);
  if (session == nullptr) {
    retry_end(txn, 0);
    return;
  }
  sender_->add(*session, EndJob{txn, txn->end_serial});
}

void TxnEngine::on_end(const EndJob& job, const Status& status, fbs::TxnState state,
                       uint32_t retry_after_ms) {
  const std::shared_ptr<Txn>& txn = job.txn;
  if (txn->phase != TxnPhase::kEnd || job.serial != txn->end_serial) {
    return;  // given up, or asked anew
  }
  txn->end_in_flight = false;
  const ErrorCode code = status.code();
  if (status.ok()) {
    finish(txn, Status(), txn->end_commit);
    return;
  }
  txn->end_error = status;
  if (error_is_retryable(code)) {
    txn->end_maybe_applied = txn->end_maybe_applied || error_outcome_unknown(code);
    if (is_about_place(code) || code == ErrorCode::kUnavailable) {
      cluster_.want(txn->home_topic->name);
    }
    retry_end(txn, retry_after_ms);
    return;
  }
  if (code == ErrorCode::kFenced) {
    buffer_->fence(status);
  }
  const std::optional<bool> recorded = outcome_of(state);
  if (code == ErrorCode::kConflict && recorded) {
    finish(txn, recorded_otherwise(txn->id(), *recorded), recorded);
    return;
  }
  finish(txn, status, std::nullopt);
}

MonotonicTime TxnEngine::retry_time(uint32_t attempts, uint32_t retry_after_ms) {
  constexpr uint32_t kDoublingsMax = 16;
  const int64_t step = std::min(options_.backoff_max_ns,
                                options_.backoff_min_ns << std::min(attempts, kDoublingsMax));
  Backoff pause(step, step);
  return {cluster_.clock().monotonic().ns +
          std::max(int64_t{retry_after_ms} * kNsPerMs, pause.next_ns(random_))};
}

void TxnEngine::retry_part(PartJob job, uint32_t retry_after_ms) {
  const uint32_t attempts = job.part->batch.attempts;
  const MonotonicTime at = retry_time(attempts > 0 ? attempts - 1 : 0, retry_after_ms);
  retries_.emplace(at.ns, Retry{std::move(job), 0});
}

void TxnEngine::retry_end(const std::shared_ptr<Txn>& txn, uint32_t retry_after_ms) {
  const uint32_t attempts = txn->end_attempts;
  const MonotonicTime at = retry_time(attempts > 0 ? attempts - 1 : 0, retry_after_ms);
  retries_.emplace(at.ns, Retry{{txn, nullptr}, txn->end_serial});
}

void TxnEngine::take_retries(MonotonicTime now) {
  while (!retries_.empty() && retries_.begin()->first <= now.ns) {
    Retry retry = std::move(retries_.begin()->second);
    retries_.erase(retries_.begin());
    const std::shared_ptr<Txn> txn = retry.part.txn;
    if (retry.part.part != nullptr) {
      send_part(std::move(retry.part));
    } else if (txn->phase == TxnPhase::kEnd && txn->end_serial == retry.end_serial) {
      send_end(txn);
    }
  }
}

// --- outcomes ---

void TxnEngine::settle(const std::shared_ptr<Txn>& txn) {
  const bool somebody_waits = !txn->preparing.empty() || txn->phase == TxnPhase::kParts;
  if (txn->holding || txn->unresolved > 0 || !somebody_waits) {
    return;
  }
  if (!txn->part_failure.ok()) {
    fail(txn, txn->part_failure);
    return;
  }
  buffer_->set_prepared(*txn);
  if (txn->phase == TxnPhase::kParts) {
    start_end(txn, true);
  }
  report_prepares(*txn, Status());
  list(txn);
}

void TxnEngine::fail(const std::shared_ptr<Txn>& txn, const Status& why) {
  txn->parts_wanted = false;
  if (txn->part_failure.ok()) {
    txn->part_failure = why;
  }
  const Status failure = txn->part_failure;
  buffer_->set_failure(*txn, failure);
  report_prepares(*txn, failure);
  if (txn->end_commit && txn->phase == TxnPhase::kParts) {
    std::vector<EndWaiter> waiters = std::exchange(txn->waiting, {});
    buffer_->count_end(true, false);
    if (failure.code() == ErrorCode::kFenced) {
      stop_end(*txn);
      buffer_->set_ended(*txn, std::nullopt, false);
    } else {
      roll_back_in_background(txn);
    }
    report_ends(*txn, std::move(waiters), to_public(failure));
  }
  list(txn);
}

void TxnEngine::roll_back_in_background(const std::shared_ptr<Txn>& txn) {
  buffer_->begin_background_end(*txn);
  txn->background_until = {cluster_.clock().monotonic().ns +
                           buffer_->options().delivery_timeout_ms * kNsPerMs};
  start_end(txn, false);
}

void TxnEngine::start_end(const std::shared_ptr<Txn>& txn, bool commit) {
  txn->phase = TxnPhase::kEnd;
  txn->end_commit = commit;
  ++txn->end_serial;
  txn->end_attempts = 0;
  txn->end_in_flight = false;
  txn->end_maybe_applied = false;
  txn->end_error = Status();
  if (!commit && !txn->sent) {
    finish(txn, Status(), false);  // the broker never heard of it
    return;
  }
  send_end(txn);
}

void TxnEngine::finish(const std::shared_ptr<Txn>& txn, const Status& status,
                       std::optional<bool> committed) {
  const bool forget = status.code() == ErrorCode::kNotFound;
  const bool background = txn->background_until != kNever;
  std::vector<EndWaiter> waiters = std::exchange(txn->waiting, {});
  buffer_->count_end(txn->end_commit, status.ok());
  stop_end(*txn);
  buffer_->set_ended(*txn, committed, forget);
  if (background) {
    buffer_->end_done();
  }
  list(txn);
  report_ends(*txn, std::move(waiters), to_public(status));
}

// What is under way does not count any more.
void TxnEngine::stop_end(Txn& txn) {
  txn.phase = TxnPhase::kOpen;
  ++txn.end_serial;
  txn.end_in_flight = false;
  txn.background_until = kNever;
}

void TxnEngine::report_prepares(Txn& txn, const Status& status) {
  for (PrepareWaiter& waiter : std::exchange(txn.preparing, {})) {
    buffer_->report(std::move(waiter), to_public(status));
  }
}

void TxnEngine::report_ends(Txn& txn, std::vector<EndWaiter> waiters,
                            const client::Status& status) {
  for (EndWaiter& waiter : waiters) {
    buffer_->report(std::move(waiter), {.status = status, .id = txn.id()});
  }
}

// --- deadlines ---

// Puts the transaction to its place among the deadlines, or takes it from there.
void TxnEngine::list(const std::shared_ptr<Txn>& txn) {
  MonotonicTime first = txn->background_until;
  for (const PrepareWaiter& waiter : txn->preparing) {
    first = std::min(first, waiter.deadline);
  }
  for (const EndWaiter& waiter : txn->waiting) {
    first = std::min(first, waiter.deadline);
  }
  if (first == txn->listed_at) {
    return;
  }
  if (txn->listed_at != kNever) {
    listed_.erase({txn->listed_at.ns, txn->number});
  }
  txn->listed_at = first;
  if (first != kNever) {
    listed_.emplace(std::pair(first.ns, txn->number), txn);
  }
}

void TxnEngine::expire(MonotonicTime now) {
  while (!listed_.empty() && listed_.begin()->first.first <= now.ns) {
    const std::shared_ptr<Txn> txn = listed_.begin()->second;
    expire_waiters(txn, now);
    list(txn);
  }
}

void TxnEngine::expire_waiters(const std::shared_ptr<Txn>& txn, MonotonicTime now) {
  const auto late_prepare =
      std::find_if(txn->preparing.begin(), txn->preparing.end(),
                   [now](const PrepareWaiter& waiter) { return waiter.deadline <= now; });
  if (late_prepare != txn->preparing.end()) {
    fail(txn, late(txn->last_error, txn->sent, late_prepare->timeout_ms));
  }
  const auto first_late =
      std::stable_partition(txn->waiting.begin(), txn->waiting.end(),
                            [now](const EndWaiter& waiter) { return waiter.deadline > now; });
  if (first_late != txn->waiting.end() && txn->phase == TxnPhase::kParts) {
    fail(txn, late(txn->last_error, txn->sent, first_late->timeout_ms));
    return;
  }
  std::vector<EndWaiter> waiters(std::make_move_iterator(first_late),
                                 std::make_move_iterator(txn->waiting.end()));
  txn->waiting.erase(first_late, txn->waiting.end());
  const bool background_over = txn->background_until <= now;
  if (waiters.empty() && !background_over) {
    return;
  }
  const bool maybe_applied = txn->end_in_flight || txn->end_maybe_applied;
  const Status error =
      late(txn->end_error, maybe_applied,
           waiters.empty() ? buffer_->options().delivery_timeout_ms : waiters.front().timeout_ms);
  buffer_->count_end(txn->end_commit, false);
  const bool over = txn->waiting.empty() && (background_over || txn->background_until == kNever);
  if (over) {
    stop_end(*txn);
    buffer_->set_ended(*txn, std::nullopt, false);
  } else if (background_over) {
    txn->background_until = kNever;
  }
  if (background_over) {
    buffer_->end_done();
  }
  report_ends(*txn, std::move(waiters), to_public(error));
}

Status TxnEngine::late(const Status& last_error, bool maybe_applied, int64_t timeout_ms) const {
  std::string text = "no success within " + std::to_string(timeout_ms) + " ms";
  const Status& why = last_error.ok() ? cluster_.metadata_error() : last_error;
  if (!why.ok()) {
    text += "; last error: " + why.to_string();
  }
  return {maybe_applied ? ErrorCode::kTimedOut : ErrorCode::kUnavailable, std::move(text)};
}

size_t TxnEngine::give_up() {
  for (TxnNews& news : buffer_->take_news()) {
    take(news);
  }
  size_t ends = 0;
  const auto listed = std::exchange(listed_, {});
  for (const auto& [key, txn] : listed) {
    txn->listed_at = kNever;
    txn->parts_wanted = false;
    const bool maybe_applied =
        txn->phase == TxnPhase::kEnd && (txn->end_in_flight || txn->end_maybe_applied);
    const Status why(maybe_applied ? ErrorCode::kOutcomeUnknown : ErrorCode::kCancelled,
                     "the producer was closed");
    report_prepares(*txn, why);
    std::vector<EndWaiter> waiters = std::exchange(txn->waiting, {});
    const bool background = txn->background_until != kNever;
    ends += waiters.size() + (background ? 1 : 0);
    stop_end(*txn);
    buffer_->set_ended(*txn, std::nullopt, false);
    if (background) {
      buffer_->end_done();
    }
    report_ends(*txn, std::move(waiters), to_public(why));
  }
  return ends;
}

}  // namespace tidemark::client_core

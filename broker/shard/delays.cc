// Delayed messages: schedule sets are taken in like batches; what is due is delivered by Advance
// records, one under way at a time, a little before its time and hidden until then.
#include <algorithm>
#include <utility>

#include "broker/delay/kv_slot_store.h"
#include "broker/delay/recurrence.h"
#include "broker/shard/shard.h"
#include "log/base/logging.h"
#include "log/format/schema/control_generated.h"

namespace tidemark::shard {

namespace {

// How long before its time a message is delivered and hidden: about what a write takes.
constexpr int64_t kAdvanceLeadMs = 5;
// Entries of one Advance, which hold the loop for less than half a microsecond each while they are
// applied. One follows the other; the longer that takes (a slow disk), the larger they are: half an
// entry for each microsecond from one to the next is about half a million a second, and leaves most
// of the loop to others.
constexpr uint32_t kAdvanceLimitMin = 256;
constexpr uint32_t kAdvanceLimitMax = 8192;
constexpr uint32_t kAdvanceLimitFirst = 1024;  // after a pause
constexpr int64_t kAdvancePauseNs = 50'000'000;

uint32_t advance_limit(int64_t since_last_ns) {
  if (since_last_ns >= kAdvancePauseNs) {
    return kAdvanceLimitFirst;
  }
  return static_cast<uint32_t>(
      std::clamp<int64_t>(since_last_ns / 2'000, kAdvanceLimitMin, kAdvanceLimitMax));
}

constexpr size_t kOccurrencesInFlightMax = 64;
constexpr int64_t kLoadRetryNs = 1'000'000'000;
// Occurrences of a cron schedule are whole seconds apart: so far behind the pending one the next is
// looked for, so that a small step of the wall clock does not find the same one again.
constexpr int64_t kOccurrenceSlackMs = 500;
// Entries in memory over what the wheel is to hold, above which new ones are refused for a while.
constexpr size_t kWheelOverloadFactor = 4;

std::string bound_text(const char* what, uint64_t bound) {
  return std::string(what) + "; the limit is " + std::to_string(bound);
}

// Wall times before 1970 are past due like any other; there is no arithmetic on them.
int64_t at_least_zero(int64_t ms) { return std::max<int64_t>(ms, 0); }

delay::Recurrence recurrence_of(const format::ScheduleItem& item) {
  delay::Recurrence recurrence;
  recurrence.kind = item.recurrence == format::RecurrenceKind::kEvery
                        ? delay::Recurrence::Kind::kEvery
                        : delay::Recurrence::Kind::kCron;
  recurrence.every_ms = item.every_ms;
  recurrence.zone = std::string(item.zone);
  recurrence.cron = std::string(item.cron);
  return recurrence;
}

// The receipts of a set as it lies in the log at `position`, as they were when it was applied.
Status read_receipts(ByteView set, LogPosition position, const delay::PendingDelays& delays,
                     std::vector<DelayReceipt>& out) {
  RETURN_IF_ERROR(format::verify_schedule_check(set));
  ASSIGN_OR_RETURN(format::ScheduleReader reader, format::ScheduleReader::open(set));
  format::ScheduleItem item;
  DelayReceipt receipt;
  receipt.id = reader.header().first_id;
  for (; reader.next(item); ++receipt.id) {
    delay::DelayTag tag;
    tag.partition = reader.header().partition;
    tag.special = !item.key.empty() || item.recurrence != format::RecurrenceKind::kNone;
    tag.bytes = static_cast<uint32_t>(item.batch.size());
    // An id that was given to nothing: the key of its item was taken.
    const bool taken =
        !item.key.empty() && !item.replace && delays.state(receipt.id) == delay::DelayState::kNone;
    receipt.error = taken ? ErrorCode::kAlreadyExists : ErrorCode::kOk;
    receipt.due_ms = taken ? 0 : item.due_ms;
    receipt.position = position + item.batch_offset;
    receipt.tag = tag.low();
    out.push_back(receipt);
  }
  return reader.status();
}

}  // namespace

// --- taking in

Status Shard::check_item(const format::ScheduleItem& item) const {
  ASSIGN_OR_RETURN(const format::BatchHeader header, format::validate_produced_batch(item.batch));
  if (header.record_count != 1 || header.transactional) {
    return Status(ErrorCode::kInvalidArgument, "a delayed message is a batch of one record, here " +
                                                   std::to_string(header.record_count));
  }
  if (item.due_kind == format::DueKind::kAfter &&
      (item.due_ms < 0 || item.due_ms > limits::kDelayMsMax)) {
    return Status(ErrorCode::kInvalidArgument,
                  "a delay of " + std::to_string(item.due_ms) + " ms; allowed are 0 to " +
                      std::to_string(limits::kDelayMsMax) + " (34 years)");
  }
  if (item.due_kind == format::DueKind::kAt && item.due_ms > now_.wall.ms + limits::kDelayMsMax) {
    return Status(ErrorCode::kInvalidArgument,
                  "due at " + std::to_string(item.due_ms) + ", more than 34 years ahead");
  }
  if (item.recurrence != format::RecurrenceKind::kNone) {
    return delay::check_recurrence(recurrence_of(item));
  }
  return Status();
}

Status Shard::check_schedule(PartitionId partition, ByteView set, uint32_t& retry_after_ms) const {
  RETURN_IF_ERROR(format::verify_schedule_check(set));
  ASSIGN_OR_RETURN(format::ScheduleReader reader, format::ScheduleReader::open(set));
  const format::ScheduleHeader& header = reader.header();
  if (header.partition != partition) {
    return Status(ErrorCode::kInvalidArgument, "a schedule set for another partition");
  }
  uint64_t bytes = 0;
  uint64_t keyed = 0;
  uint64_t recurring = 0;
  format::ScheduleItem item;
  while (reader.next(item)) {
    RETURN_IF_ERROR(check_item(item));
    RETURN_IF_ERROR(refuse_ids(partition, item.batch));
    bytes += item.batch.size();
    keyed += item.key.empty() ? 0 : 1;
    recurring += item.recurrence == format::RecurrenceKind::kNone ? 0 : 1;
  }
  RETURN_IF_ERROR(reader.status());
  const delay::PendingDelays& delays = views_.delays();
  const partition::DelayConfig& config = views_.find(partition)->config().delays;
  const auto waiting = scheduling_.find(partition);
  const uint64_t pending =
      delays.pending(partition) + (waiting == scheduling_.end() ? 0 : waiting->second);
  if (config.pending_max >= 0 &&
      pending + header.items > static_cast<uint64_t>(config.pending_max)) {
    return Status(ErrorCode::kLimitExceeded,
                  bound_text("delay_pending_max: too many delayed messages pending in a partition",
                             static_cast<uint64_t>(config.pending_max)));
  }
  if (config.bytes_max >= 0 &&
      delays.pending_bytes(partition) + bytes > static_cast<uint64_t>(config.bytes_max)) {
    return Status(ErrorCode::kLimitExceeded,
                  bound_text("delay_bytes_max: too many bytes of delayed messages in a partition",
                             static_cast<uint64_t>(config.bytes_max)));
  }
  if (keyed > 0 && delays.keyed() + keyed > limits::kDelayKeysPerShardMax) {
    return Status(ErrorCode::kLimitExceeded, bound_text("too many pending messages with a key",
                                                        limits::kDelayKeysPerShardMax));
  }
  if (recurring > 0 && delays.series() + recurring > limits::kDelaySeriesPerShardMax) {
    return Status(ErrorCode::kLimitExceeded,
                  bound_text("too many recurring messages", limits::kDelaySeriesPerShardMax));
  }
  if (delays.wheel().size() + header.items > limits::kDelayEntriesPerShardMax) {
    return Status(ErrorCode::kLimitExceeded, bound_text("too many delayed messages on a shard",
                                                        limits::kDelayEntriesPerShardMax));
  }
  if (delays.wheel().memory_entries() > kWheelOverloadFactor * options_.wheel.memory_entries_max) {
    retry_after_ms = limits::kRetryAfterMsDefault;
    return Status(ErrorCode::kOverloaded,
                  "delayed messages arrive faster than the timing wheel can store them");
  }
  return Status();
}

Status Shard::accept_schedule(PartitionId partition, ByteView set, const Now& now,
                              PendingRecord pending, uint32_t& retry_after_ms) {
  RETURN_IF_ERROR(check_room(partition, set.size(), retry_after_ms));
  RETURN_IF_ERROR(check_schedule(partition, set, retry_after_ms));
  const Result<format::ScheduleReader> reader = format::ScheduleReader::open(set);
  RETURN_IF_ERROR(check_fence(reader->header().producer_id, reader->header().producer_epoch));
  pending.bytes = static_cast<uint32_t>(set.size());
  pending.partition = partition;
  pending.items = reader->header().items;
  make_room_for(set.size());
  accepted_bytes_ += set.size();
  scheduling_[partition] += pending.items;
  write_schedule(set, pending.items, now);
  counters_.messages_in += pending.items;
  counters_.delays_in += pending.items;
  counters_.bytes_in += set.size();
  ++counters_.batches_in;
  gathering_.push_back(std::move(pending));
  return Status();
}

void Shard::write_schedule(ByteView set, uint32_t items, const Now& now) {
  next_delay_id_ = std::max(next_delay_id_, views_.delays().next_id());
  const MutableByteView stored = records_.add_schedule(set);
  format::stamp_schedule(stored, log_time(now), next_delay_id_);
  next_delay_id_ += items;
  // What is overdue is due now, and behind what the last Advance delivers: so it has the due time
  // here that it will have when it is applied, and a repeated set has the same receipts.
  const timerwheel::Key advanced = std::max(views_.delays().wheel().watermark(), advanced_to_);
  const int64_t earliest = std::max(log_time(now), 1 + static_cast<int64_t>(advanced.due));
  Result<format::ScheduleReader> reader = format::ScheduleReader::open(set);
  format::ScheduleItem item;
  while (reader->next(item)) {
    int64_t due = item.due_kind == format::DueKind::kAfter
                      ? clock_.after(now, item.due_ms)
                      : clock_.at(now, at_least_zero(item.due_ms));
    int64_t next = 0;
    if (item.recurrence == format::RecurrenceKind::kCron) {
      // Cron speaks of wall time.
      const delay::Recurrence recurrence = recurrence_of(item);
      const auto first = delay::next_occurrence(recurrence, 0, now.wall.ms);
      const auto second = first ? delay::next_occurrence(recurrence, 0, *first) : std::nullopt;
      due = clock_.at(now, first.value_or(now.wall.ms));
      next = second ? clock_.at(now, *second) : -1;
    }
    format::stamp_schedule_item(stored, item, std::max(due, earliest), next);
  }
  format::seal_schedule(stored);
}

bool Shard::is_repeated_set(PartitionId id, ByteView set, ProduceOp::Part& part) const {
  const partition::Partition* partition = views_.find(id);
  const Result<format::ScheduleReader> reader = format::ScheduleReader::open(set);
  if (partition == nullptr || !reader.ok() || reader->header().producer_id < 0 ||
      !may_write().ok() || !format::verify_schedule_check(set).ok()) {
    return false;
  }
  const partition::SequenceVerdict verdict =
      partition->producers().judge(format::sequence_header(reader->header(), set.size()));
  part.base = verdict.original_base;
  part.received_ms = partition->last_received_ms();
  part.duplicate = verdict.kind == partition::SequenceVerdict::Kind::kDuplicate;
  return part.duplicate;
}

// A set that is stored already: its receipts are read from the log, where it lies.
void Shard::resolve_repeated_set(std::shared_ptr<ProduceOp> op, size_t part) {
  const LogPosition at{op->parts[part].base.value()};
  const LogPosition record{at.value() - format::kRecordHeaderBytes};
  const auto finish = [this, op, part](const Status& status) {
    if (!status.ok()) {
      op->parts[part].status =
          Status(ErrorCode::kOutcomeUnknown,
                 "the set is stored, its receipts cannot be read: " + status.to_string());
      op->parts[part].receipts.clear();
    }
    if (--op->unanswered == 0) {
      finish_produce(*op);
    }
  };
  source_->read_log(
      record, format::kRecordHeaderBytes, [this, op, part, at, finish](Result<SharedBytes> head) {
        if (!head.ok()) {
          return finish(head.error());
        }
        const size_t bytes = load_le<uint32_t>(head->data());
        source_->read_log(at, std::min(bytes, limits::kBatchBytesMax),
                          [this, op, part, at, finish](Result<SharedBytes> set) {
                            finish(set.ok() ? read_receipts(set->view(), at, views_.delays(),
                                                            op->parts[part].receipts)
                                            : set.error());
                          });
      });
}

// --- delivering

void Shard::drive_delays(const Now& now) {
  reveal(now);
  if (role_ != replica::Role::kLeader || stopping_) {
    return;
  }
  load_slots(now);
  propose_advance(now);
  look_up_occurrences(now);
}

void Shard::load_slots(const Now& now) {
  if (loading_ || checkpointing_ || now.monotonic < next_load_) {
    return;
  }
  timerwheel::TieredWheel& wheel = views_.delays().wheel();
  // What is due already cannot wait for its slot to be split.
  const auto reach = static_cast<timerwheel::Tick>(clock_.ms(now) + kAdvanceLeadMs);
  std::optional<timerwheel::TieredWheel::LoadPlan> plan =
      wheel.plan_load(static_cast<timerwheel::Tick>(clock_.ms(now)), wheel.horizon().due <= reach);
  if (!plan.has_value()) {
    return;
  }
  loading_ = true;
  auto shared = std::make_shared<timerwheel::TieredWheel::LoadPlan>(std::move(*plan));
  source_->with_store(
      [shared](kv::ReadView& view) {
        delay::KvSlotStore store(view, nullptr);
        if (const timerwheel::Failure failure = shared->run(store); failure.has_value()) {
          return Status(ErrorCode::kCorrupted, *failure);
        }
        return delay::PendingDelays::patch(view, shared->loaded());
      },
      [this, shared](const Status& status) {
        loading_ = false;
        if (status.ok()) {
          views_.delays().wheel().finish_load(*shared);
        } else {
          next_load_ = MonotonicTime{now_.monotonic.ns + kLoadRetryNs};
          log_line(LogLevel::kError,
                   "delay_load_failed shard=" + std::to_string(options_.shard.value()) +
                       " error=\"" + status.to_string() + "\"");
        }
      });
}

void Shard::propose_advance(const Now& now) {
  const timerwheel::TieredWheel& wheel = views_.delays().wheel();
  const std::optional<timerwheel::Tick> due = wheel.next_due();
  if (advancing_ || !due.has_value() || now.monotonic < next_advance_ || !may_write().ok()) {
    return;
  }
  const auto reach = static_cast<timerwheel::Tick>(clock_.ms(now) + kAdvanceLeadMs);
  if (*due > reach) {
    return;
  }
  // Never beyond what is in memory.
  timerwheel::Key until = timerwheel::last_key(reach);
  if (const timerwheel::Key horizon = wheel.horizon(); until >= horizon) {
    until = horizon.id > 0 ? timerwheel::Key{horizon.due, horizon.id - 1}
                           : timerwheel::last_key(horizon.due - 1);
  }
  if (until.due < *due) {
    return;
  }
  flatbuffers::FlatBufferBuilder body;
  format::fbs::AdvanceBuilder record(body);
  record.add_now_ms(static_cast<int64_t>(until.due));
  record.add_until_id(until.id);
  record.add_limit(advance_limit(now.monotonic.ns - advanced_at_.ns));
  record.add_time_ms(log_time(now));
  body.Finish(record.Finish());
  PendingRecord pending;
  pending.kind = PendingRecord::Kind::kAdvance;
  advancing_ = true;
  advanced_at_ = now.monotonic;
  advanced_to_ = until;
  gather(format::RecordKind::kAdvance, body, std::move(pending));
}

// Cron needs the time zones of this machine, which an apply must not depend on: the leader looks
// ahead by one occurrence and writes it down.
void Shard::look_up_occurrences(const Now& now) {
  for (const uint64_t id : views_.delays().want_next()) {
    if (occurrences_in_flight_.size() >= kOccurrencesInFlightMax || !may_write().ok()) {
      return;
    }
    if (!occurrences_in_flight_.insert(id).second) {
      continue;
    }
    const delay::Series& series = *views_.delays().series_of(id);
    const int64_t after = series.entry.due == 0 ? now.wall.ms
                                                : static_cast<int64_t>(series.entry.due) -
                                                      clock_.ahead_ms(now) + kOccurrenceSlackMs;
    const auto next = delay::next_occurrence(series.recurrence, 0, after);
    flatbuffers::FlatBufferBuilder body;
    format::fbs::DelayNextBuilder record(body);
    record.add_id(id);
    record.add_next_due_ms(next ? clock_.at(now, *next) : 0);
    body.Finish(record.Finish());
    PendingRecord pending;
    pending.kind = PendingRecord::Kind::kDelayNext;
    pending.delay_id = id;
    gather(format::RecordKind::kDelayNext, body, std::move(pending));
  }
}

// What the last entry delivered is hidden as long as its time has not come.
void Shard::take_fired() {
  const int64_t now_ms = clock_.started() ? clock_.ms(now_) : INT64_MIN;
  for (const Fired& fired : views_.fired()) {
    ++counters_.delays_fired;
    if (clock_.started() && fired.due_ms > now_ms) {
      hidden_.push_back({fired.due_ms, fired.partition});
      hidden_offsets_[fired.partition].push_back(fired.offset);
      continue;
    }
    if (role_ == replica::Role::kLeader) {
      show_lateness(fired.due_ms);
    }
    if (changed_.empty() || changed_.back() != fired.partition) {
      changed_.push_back(fired.partition);
    }
  }
}

void Shard::reveal(const Now& now) {
  const int64_t now_ms = clock_.ms(now);
  while (!hidden_.empty() && hidden_.front().due_ms <= now_ms) {
    const Hidden shown = hidden_.front();
    hidden_.pop_front();
    const auto offsets = hidden_offsets_.find(shown.partition);
    offsets->second.pop_front();
    if (offsets->second.empty()) {
      hidden_offsets_.erase(offsets);
    }
    show_lateness(shown.due_ms);
    if (changed_.empty() || changed_.back() != shown.partition) {
      changed_.push_back(shown.partition);
    }
  }
}

void Shard::show_lateness(int64_t due_ms) {
  const int64_t late_ms = clock_.started() ? std::max<int64_t>(clock_.ms(now_) - due_ms, 0) : 0;
  counters_.lateness.record(static_cast<uint64_t>(late_ms));
}

Offset Shard::visible_end(const partition::Partition& partition) const {
  const auto it = hidden_offsets_.find(partition.id());
  return it == hidden_offsets_.end() ? partition.end() : it->second.front();
}

void Shard::add_delay_stats(ShardStats& stats) const {
  stats.delays_in = counters_.delays_in;
  stats.delays_fired = counters_.delays_fired;
  stats.delays_cancelled = counters_.delays_cancelled;
  stats.delays_rescheduled = counters_.delays_rescheduled;
  stats.delays_late_skipped = views_.late().skipped;
  stats.delays_dead_lettered = views_.late().dead_lettered;
  stats.relocated_bytes = counters_.relocated_bytes;
  stats.lateness = counters_.lateness;
  const delay::PendingDelays& delays = views_.delays();
  stats.wheel_entries = delays.wheel().size();
  stats.wheel_memory_bytes = delays.wheel().memory_bytes();
  for (const auto& [id, topic] : views_.catalog().topics()) {
    stats.topic_names.emplace(id.value(), topic.name);
  }
  const int64_t now_ms = clock_.started() ? clock_.ms(now_) : views_.log_time_ms();
  for (const auto& [bucket, count] : delays.buckets()) {
    const int64_t from_ms = bucket.number * delay::PendingDelays::kBucketMs;
    stats.pending_by_topic[bucket.topic.value()] += count;
    if (from_ms + delay::PendingDelays::kBucketMs <= now_ms) {
      stats.delays_overdue += count;
    }
    size_t horizon = 0;
    while (horizon < ShardStats::kHorizonsMs.size() &&
           from_ms - now_ms >= ShardStats::kHorizonsMs[horizon]) {
      ++horizon;
    }
    stats.pending_by_horizon[horizon] += count;
  }
}

std::optional<MonotonicTime> Shard::next_wake() const {
  std::optional<MonotonicTime> wake;
  if (!clock_.started()) {
    return wake;
  }
  if (const auto queues = queue_desk_.next_wake_ms(); queues.has_value()) {
    wake = clock_.monotonic(*queues);
  }
  if (!hidden_.empty()) {
    const MonotonicTime at = clock_.monotonic(hidden_.front().due_ms);
    wake = wake.has_value() ? std::min(*wake, at) : at;
  }
  if (!advancing_ && !stopping_ && may_write().ok()) {
    if (const auto due = views_.delays().wheel().next_due(); due.has_value()) {
      const MonotonicTime at =
          std::max(clock_.monotonic(static_cast<int64_t>(*due) - kAdvanceLeadMs), next_advance_);
      wake = wake.has_value() ? std::min(*wake, at) : at;
    }
  }
  return wake;
}

}  // namespace tidemark::shard

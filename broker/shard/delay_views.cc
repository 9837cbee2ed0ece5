// Views: records about delayed messages.
#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "broker/shard/views.h"
#include "log/base/coverage_mark.h"
#include "log/format/control_record.h"
#include "log/format/schedule_set.h"

namespace tidemark::shard {

namespace fbs = format::fbs;
using format::control_table;

namespace {

std::optional<delay::Recurrence> recurrence_of(const format::ScheduleItem& item) {
  delay::Recurrence recurrence;
  switch (item.recurrence) {
    case format::RecurrenceKind::kNone:
      return std::nullopt;
    case format::RecurrenceKind::kEvery:
      recurrence.kind = delay::Recurrence::Kind::kEvery;
      recurrence.every_ms = item.every_ms;
      return recurrence;
    case format::RecurrenceKind::kCron:
      recurrence.kind = delay::Recurrence::Kind::kCron;
      recurrence.zone = std::string(item.zone);
      recurrence.cron = std::string(item.cron);
      return recurrence;
  }
  return std::nullopt;
}

// The entry that a record names; by key: nullopt if nothing is pending under it.
template <typename Record>
std::optional<timerwheel::Entry> named(const delay::PendingDelays& delays, const Record& record,
                                       uint64_t position) {
  const TopicId topic{record.topic()};
  const delay::DelayTag tag = delay::DelayTag::unpack(topic, record.tag());
  if (record.key() == nullptr) {
    return timerwheel::Entry{static_cast<timerwheel::Tick>(record.due_ms()), record.id(), position,
                             tag.packed()};
  }
  const timerwheel::Entry* found =
      delays.find_key(tag.partition, format::control_text(record.key()));
  return found == nullptr ? std::nullopt : std::optional(*found);
}

delay::DelayName name_of(const timerwheel::Entry& entry) {
  return {entry.id, static_cast<int64_t>(entry.due),
          delay::DelayTag::unpack(entry.tag).partition.topic, static_cast<uint32_t>(entry.tag)};
}

}  // namespace

void Views::apply_schedule(const format::LogRecord& record, LogPosition payload_position,
                           RecordOutcome& outcome) {
  Result<format::ScheduleReader> set = format::ScheduleReader::open(record.body);
  TIDEMARK_CHECK(set.ok(), set.error().to_string());
  const format::ScheduleHeader& header = set->header();
  const LogPosition position = payload_position + record.body_offset;
  outcome.partition = header.partition;
  outcome.first_receipt = static_cast<uint32_t>(receipts_.size());
  advance_time(header.received_ms);
  if (is_fenced(header.producer_id, header.producer_epoch)) {
    outcome.error = outcome.append.error = ErrorCode::kFenced;
    return;
  }
  const auto it = partitions_.find(header.partition);
  if (it == partitions_.end()) {
    outcome.error = outcome.append.error = ErrorCode::kUnknownPartition;
    return;
  }
  // What a producer's retry is answered with is the set itself: where it lies is remembered.
  outcome.append =
      it->second.accept_sequence(format::sequence_header(header, record.body.size()),
                                 Offset{position.value()}, header.received_ms, records_applied_);
  outcome.error = outcome.append.error;
  if (outcome.error != ErrorCode::kOk || outcome.append.duplicate) {
    return;
  }
  format::ScheduleItem item;
  for (uint64_t id = header.first_id; set->next(item); ++id) {
    take_item(header, item, id, position + item.batch_offset);
  }
  TIDEMARK_CHECK(set->status().ok(), set->status().to_string());
  outcome.receipts = static_cast<uint32_t>(receipts_.size()) - outcome.first_receipt;
}

void Views::take_item(const format::ScheduleHeader& header, const format::ScheduleItem& item,
                      uint64_t id, LogPosition position) {
  delay::NewDelay delay;
  delay.id = id;
  delay.due_ms = item.due_ms;
  delay.position = position;
  delay.tag.partition = header.partition;
  delay.tag.bytes = static_cast<uint32_t>(item.batch.size());
  delay.tag.special = !item.key.empty() || item.recurrence != format::RecurrenceKind::kNone;
  delay.key = item.key;
  delay.replace = item.replace;
  delay.recurrence = recurrence_of(item);
  delay.next_due_ms = item.next_due_ms;
  const delay::AddOutcome added = delays_.add(delay);
  DelayReceipt receipt;
  receipt.error = added.key_taken ? ErrorCode::kAlreadyExists : ErrorCode::kOk;
  receipt.id = id;
  receipt.due_ms = added.due_ms;
  receipt.position = position;
  receipt.tag = delay.tag.low();
  receipts_.push_back(receipt);
}

void Views::apply_advance(ByteView body) {
  const auto& record = control_table<fbs::Advance>(body);
  // What is due may be reached in steps: how late it is goes by the time of the step, not by how
  // far it reaches.
  const int64_t time_ms = std::max(record.now_ms(), record.time_ms());
  advance_time(time_ms);
  reach({static_cast<timerwheel::Tick>(std::max<int64_t>(record.now_ms(), 0)), record.until_id()});
  due_.clear();
  delays_.take_due(record.now_ms(), record.until_id(), record.limit(), due_);
  for (const delay::DueDelay& due : due_) {
    deliver(due, time_ms);
  }
}

// Brings everything up to `until` into memory. A leader has done so before it proposed, and keeps
// it there until this is applied.
void Views::reach(timerwheel::Key until) {
  timerwheel::TieredWheel& wheel = delays_.wheel();
  while (wheel.horizon() <= until) {
    std::optional<timerwheel::TieredWheel::LoadPlan> plan = wheel.plan_load(until.due, true);
    if (!plan.has_value()) {
      continue;  // the horizon moved without reading
    }
    TIDEMARK_CHECK(slot_loader_ != nullptr, "due messages are loaded before they are asked for");
    const Status loaded = slot_loader_(*plan);
    TIDEMARK_CHECK(loaded.ok(), "slots of the timing wheel: " + loaded.to_string());
    wheel.finish_load(*plan);
  }
}

void Views::deliver(const delay::DueDelay& due, int64_t now_ms) {
  auto it = partitions_.find(due.tag.partition);
  if (it != partitions_.end()) {
    const partition::PartitionConfig& config = it->second.config();
    if (config.delays.late_max_ms >= 0 && now_ms - due.due_ms > config.delays.late_max_ms &&
        config.delays.late_policy != partition::LatePolicy::kDeliver) {
      const bool dead_letter = config.delays.late_policy == partition::LatePolicy::kDeadLetter;
      ++(dead_letter ? late_.dead_lettered : late_.skipped);
      it = dead_letter ? partitions_.find(config.late_partition) : partitions_.end();
    }
  }
  if (it == partitions_.end()) {
    TIDEMARK_COVERAGE_MARK(delay_due_without_partition);
    if (!due.recurring) {
      delays_.skipped(due.id);
    }
    return;
  }
  const Offset offset = it->second.append_reference(due.position, 1, due.tag.bytes, log_time_ms_);
  fired_.push_back({it->first, due.due_ms, offset});
}

void Views::apply_delay_cancel(ByteView body, RecordOutcome& outcome) {
  const auto& record = control_table<fbs::DelayCancel>(body);
  advance_time(record.time_ms());
  const auto entry = named(delays_, record, 0);
  outcome.change = entry ? delays_.cancel(name_of(*entry)) : delay::ChangeOutcome::kNotFound;
}

void Views::apply_delay_reschedule(ByteView body, RecordOutcome& outcome) {
  const auto& record = control_table<fbs::DelayReschedule>(body);
  advance_time(record.time_ms());
  const auto entry = named(delays_, record, record.position());
  DelayReceipt receipt;
  receipt.id = record.new_id();
  receipt.due_ms = record.new_due_ms();
  if (entry) {
    receipt.position = LogPosition{entry->position};
    receipt.tag = static_cast<uint32_t>(entry->tag);
    outcome.change =
        delays_.reschedule(name_of(*entry), receipt.position, record.new_id(), receipt.due_ms);
  }
  outcome.first_receipt = static_cast<uint32_t>(receipts_.size());
  outcome.receipts = 1;
  receipts_.push_back(receipt);
}

void Views::apply_delay_next(ByteView body) {
  const auto& record = control_table<fbs::DelayNext>(body);
  delays_.set_next(record.id(), record.next_due_ms());
}

void Views::apply_relocate(const format::LogRecord& record, LogPosition payload_position) {
  const Result<format::RelocateRecord> moved = format::decode_relocate(record);
  TIDEMARK_CHECK(moved.ok(), moved.error().to_string());
  delays_.relocate(moved->id, moved->due_ms, payload_position + moved->batch_offset);
}

void Views::apply_relocated(ByteView body) {
  const auto& record = control_table<fbs::Relocated>(body);
  advance_time(record.time_ms());
  delays_.relocated_below(LogPosition{record.position()});
}

}  // namespace tidemark::shard

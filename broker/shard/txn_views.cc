// Views: records about transactions and their producers.
#include <algorithm>
#include <string>
#include <utility>

#include "broker/shard/views.h"
#include "log/base/coverage_mark.h"
#include "log/format/control_record.h"
#include "log/format/schedule_set.h"

namespace tidemark::shard {

namespace fbs = format::fbs;
using format::control_table;
using format::control_text;

namespace {

std::vector<txn::TxnKey> keys_of(const fbs::TxnNames& record) {
  std::vector<txn::TxnKey> keys;
  if (record.names() != nullptr) {
    for (const fbs::TxnName* name : *record.names()) {
      keys.push_back({name->producer(), name->number()});
    }
  }
  return keys;
}

// What the table keeps of a stored part.
txn::Half half_of(const format::HalfRecord& record, LogPosition payload_position) {
  txn::Half half;
  half.index = record.index;
  half.partition = record.partition;
  half.position = payload_position + record.payload_offset;
  half.bytes = static_cast<uint32_t>(record.payload.size());
  if (!record.schedule) {
    const Result<format::BatchHeader> header = format::decode_batch_header(record.payload);
    TIDEMARK_CHECK(header.ok(), header.error().to_string());
    half.messages = header->record_count;
    return half;
  }
  Result<format::ScheduleReader> set = format::ScheduleReader::open(record.payload);
  TIDEMARK_CHECK(set.ok(), set.error().to_string());
  half.messages = set->header().items;
  half.items.reserve(half.messages);
  format::ScheduleItem item;
  while (set->next(item)) {
    half.items.push_back({item.due_kind == format::DueKind::kAt, item.due_ms, item.batch_offset,
                          static_cast<uint32_t>(item.batch.size()), std::string(item.key)});
  }
  TIDEMARK_CHECK(set->status().ok(), set->status().to_string());
  return half;
}

}  // namespace

void Views::apply_txn_record(const format::LogRecord& record, LogPosition payload_position,
                             RecordOutcome& outcome) {
  using format::RecordKind;
  const RecordKind kind = record.kind;
  if (kind == RecordKind::kHalf || kind == RecordKind::kRelocateHalf) {
    apply_half(record, payload_position, outcome);
  } else if (kind == RecordKind::kTxnEnd || kind == RecordKind::kTxnSettle) {
    apply_txn_end(record, outcome);
  } else if (kind == RecordKind::kTxnJoin) {
    apply_txn_join(record.body, outcome);
  } else if (kind == RecordKind::kTxnConfirm) {
    apply_txn_confirm(record.body);
  } else if (kind == RecordKind::kTxnForget) {
    apply_txn_forget(record.body);
  } else if (kind == RecordKind::kProducerName) {
    apply_producer_name(record.body, outcome);
  } else if (kind == RecordKind::kProducerFenced) {
    apply_producer_fenced(record.body, outcome);
  } else if (kind == RecordKind::kProducerFence) {
    apply_producer_fence(record.body, outcome);
  } else {
    apply_txn_names(record, outcome);
  }
}

void Views::apply_half(const format::LogRecord& record, LogPosition payload_position,
                       RecordOutcome& outcome) {
  const Result<format::HalfRecord> half = format::decode_half(record);
  TIDEMARK_CHECK(half.ok(), half.error().to_string());
  const txn::TxnKey key{half->producer, half->number};
  if (record.kind == format::RecordKind::kRelocateHalf) {
    return txns_.relocate(key, half->index, payload_position + half->payload_offset);
  }
  advance_time(half->received_ms);
  outcome.partition = half->partition;
  outcome.append.received_ms = log_time_ms_;
  outcome.txn = key;
  if (find(half->partition) == nullptr) {
    outcome.error = ErrorCode::kUnknownPartition;
    return;
  }
  if (fences_.is_fenced(key.producer, key.epoch())) {
    outcome.error = ErrorCode::kFenced;
    return;
  }
  const txn::HalfOutcome done = txns_.add_half(
      {key, half->coordinator, half->group, half->reference, log_time_ms_, half->timeout_ms},
      half_of(*half, payload_position));
  outcome.error = done.error;
  outcome.append.duplicate = done.duplicate;
  outcome.txn_state = done.state;
  outcome.txn_first = done.first && half->coordinator == shard_;
}

void Views::apply_txn_end(const format::LogRecord& record, RecordOutcome& outcome) {
  const auto& end = control_table<fbs::TxnEnd>(record.body);
  advance_time(end.time_ms());
  const txn::TxnKey key{end.producer(), end.number()};
  outcome.txn = key;
  outcome.txn_state = txns_.state(key);
  if (end.by() == 0 && fences_.is_fenced(key.producer, key.epoch())) {
    TIDEMARK_COVERAGE_MARK(txn_end_fenced_at_apply);
    outcome.error = ErrorCode::kFenced;
    return;
  }
  txn::TxnTable::End asked;
  asked.key = key;
  asked.commit = end.commit();
  asked.coordinator = record.kind == format::RecordKind::kTxnEnd;
  asked.halves = end.halves();
  asked.delayed = end.delay_ids();
  asked.now_ms = log_time_ms_;
  if (end.shards() != nullptr) {
    for (const uint16_t shard : *end.shards()) {
      asked.participants.emplace_back(shard);
    }
  }
  txn::EndOutcome done = txns_.end(asked);
  outcome.error = done.error;
  outcome.txn_state = done.state;
  outcome.txn_done = done.done;
  outcome.halves_stored = done.halves_stored;
  if (done.done && asked.coordinator && !done.participants.empty()) {
    to_tell_.push_back(key);
  }
  if (done.done && asked.commit) {
    make_visible(done.halves, end);
  }
}

// By reference: the bodies stay where they are.
void Views::make_visible(std::vector<txn::Half>& halves, const fbs::TxnEnd& end) {
  std::stable_sort(halves.begin(), halves.end(), [](const txn::Half& a, const txn::Half& b) {
    return std::pair(a.partition, a.index) < std::pair(b.partition, b.index);
  });
  uint64_t delay_id = end.first_delay_id();
  for (const txn::Half& half : halves) {
    const auto it = partitions_.find(half.partition);
    if (it == partitions_.end()) {
      TIDEMARK_COVERAGE_MARK(txn_commit_to_dropped_partition);
      continue;  // dropped since
    }
    if (half.items.empty()) {
      it->second.append_reference(half.position, half.messages, half.bytes, log_time_ms_);
      if (exposed_.empty() || exposed_.back() != half.partition) {
        exposed_.push_back(half.partition);
      }
      continue;
    }
    for (const txn::HalfItem& item : half.items) {
      delay::NewDelay delay;
      delay.id = delay_id++;
      delay.due_ms = item.at ? std::max<int64_t>(item.due_ms, 0) + end.wall_ahead_ms()
                             : end.delays_from_ms() + item.due_ms;
      delay.position = half.position + item.offset;
      delay.tag.partition = half.partition;
      delay.tag.bytes = item.bytes;
      delay.tag.special = !item.key.empty();
      delay.key = item.key;
      delay.replace = true;
      delay.named_in_log = false;
      delays_.add(delay);
    }
  }
}

void Views::apply_txn_join(ByteView body, RecordOutcome& outcome) {
  const auto& record = control_table<fbs::TxnJoin>(body);
  advance_time(record.time_ms());
  const txn::TxnKey key{record.producer(), record.number()};
  const txn::HalfOutcome done =
      txns_.join({key, shard_, control_text(record.group()), control_text(record.reference()),
                  record.born_ms(), record.timeout_ms()},
                 ShardId{record.participant()});
  outcome.error = done.error;
  outcome.txn = key;
  outcome.txn_first = done.first;
  outcome.txn_state = done.state;
  outcome.txn_first = done.first;
}

void Views::apply_txn_confirm(ByteView body) {
  const auto& record = control_table<fbs::TxnConfirm>(body);
  txns_.confirm({record.producer(), record.number()}, ShardId{record.participant()});
}

void Views::apply_txn_names(const format::LogRecord& record, RecordOutcome& outcome) {
  const auto& names = control_table<fbs::TxnNames>(record.body);
  advance_time(names.time_ms());
  for (const txn::TxnKey& key : keys_of(names)) {
    if (record.kind == format::RecordKind::kTxnChecked) {
      txns_.checked(key, log_time_ms_);
    } else if (record.kind == format::RecordKind::kTxnParked) {
      outcome.parked += txns_.park(key) ? 1 : 0;
    } else {
      outcome.txn = key;
      outcome.error = txns_.recheck(key, log_time_ms_);
      outcome.txn_state = txns_.state(key);
    }
  }
}

void Views::apply_txn_forget(ByteView body) {
  const auto& record = control_table<fbs::TxnForget>(body);
  advance_time(record.time_ms());
  txns_.forget_outcomes(record.ended_before_ms());
}

void Views::apply_producer_name(ByteView body, RecordOutcome& outcome) {
  const auto& record = control_table<fbs::ProducerName>(body);
  advance_time(record.time_ms());
  const meta::ProducerNames::Taken taken = names_.take_next(
      control_text(record.name()), next_producer_id_, record.shards(), records_applied_);
  next_producer_id_ += taken.is_new ? 1 : 0;
  outcome.first_producer_id = taken.producer;
  outcome.producer_epoch = taken.epoch;
}

void Views::apply_producer_fenced(ByteView body, RecordOutcome& outcome) {
  const auto& record = control_table<fbs::ProducerFenced>(body);
  names_.fenced(record.producer(), record.epoch(), ShardId{record.shard()});
  outcome.first_producer_id = record.producer();
  outcome.producer_epoch = record.epoch();
}

void Views::apply_producer_fence(ByteView body, RecordOutcome& outcome) {
  const auto& record = control_table<fbs::ProducerFence>(body);
  advance_time(record.time_ms());
  fences_.raise(record.producer(), record.epoch());
  outcome.first_producer_id = record.producer();
  outcome.producer_epoch = record.epoch();
}

}  // namespace tidemark::shard

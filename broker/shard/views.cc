#include "broker/shard/views.h"

#include <algorithm>
#include <utility>

#include "broker/partition/chunk_reader.h"
#include "broker/partition/store_keys.h"
#include "log/base/checksum.h"
#include "log/base/coding.h"
#include "log/base/limits.h"
#include "log/format/control_record.h"
#include "log/format/record_batch.h"
#include "log/log.h"

namespace tidemark::shard {

namespace fbs = format::fbs;
namespace keys = partition::keys;
using format::RecordKind;

namespace {

using format::control_table;

template <typename T>
std::vector<ShardId> shard_ids(const T* numbers) {
  std::vector<ShardId> ids;
  if (numbers != nullptr) {
    for (const uint16_t number : *numbers) {
      ids.emplace_back(number);
    }
  }
  return ids;
}

}  // namespace

void Views::apply(LogIndex index, Term term, LogPosition payload_position, ByteView payload,
                  std::vector<RecordOutcome>& outcomes) {
  TIDEMARK_CHECK(index > applied_.index, "entries are applied in order, each once");
  format::RecordListReader reader(payload);
  format::LogRecord record;
  receipts_.clear();
  fired_.clear();
  exposed_.clear();
  group_commits_.clear();
  to_tell_.clear();
  known_offsets_.clear();
  appended_.reset();
  while (reader.next(record)) {
    RecordOutcome outcome;
    outcome.kind = record.kind;
    ++records_applied_;
    apply_record(record, payload_position, outcome);
    outcomes.push_back(outcome);
  }
  TIDEMARK_CHECK(reader.status().ok(),
                 "record list of a committed entry: " + reader.status().to_string());
  const size_t padded = (payload.size() + 7) & ~size_t{7};
  applied_ = {index, term, payload_position + padded};
}

void Views::apply_record(const format::LogRecord& record, LogPosition payload_position,
                         RecordOutcome& outcome) {
  switch (record.kind) {
    case RecordKind::kProduce:
      return apply_produce(record, payload_position, outcome);
    case RecordKind::kTopicCreate:
      return apply_topic_create(record.body, outcome);
    case RecordKind::kTopicAlter:
      return apply_topic_alter(record.body, outcome);
    case RecordKind::kTopicDelete:
      return apply_topic_delete(record.body, outcome);
    case RecordKind::kTopicProgress:
      return apply_topic_progress(record.body, outcome);
    case RecordKind::kProducerIds:
      return apply_producer_ids(record.body, outcome);
    case RecordKind::kPartitionOpen:
      return apply_partition_open(record.body, outcome);
    case RecordKind::kPartitionDrop:
      return apply_partition_drop(record.body, outcome);
    case RecordKind::kTrim:
      return apply_trim(record.body, outcome);
    case RecordKind::kSchedule:
      return apply_schedule(record, payload_position, outcome);
    case RecordKind::kAdvance:
      return apply_advance(record.body);
    case RecordKind::kDelayCancel:
      return apply_delay_cancel(record.body, outcome);
    case RecordKind::kDelayReschedule:
      return apply_delay_reschedule(record.body, outcome);
    case RecordKind::kDelayNext:
      return apply_delay_next(record.body);
    case RecordKind::kRelocate:
      return apply_relocate(record, payload_position);
    case RecordKind::kRelocated:
      return apply_relocated(record.body);
    case RecordKind::kCompact:
      return apply_compact(record, payload_position, outcome);
    case RecordKind::kCompacted:
      return apply_compacted(record.body, outcome);
    case RecordKind::kGroupCommit:
      return apply_group_commit(record.body, outcome);
    case RecordKind::kGroupLease:
      return apply_group_lease(record.body, outcome);
    case RecordKind::kGroupDrop:
      return apply_group_drop(record.body, outcome);
    case RecordKind::kQueueSettle:
      return apply_queue_settle(record, payload_position, outcome);
    case RecordKind::kMessageIds:
      return apply_message_ids(record.body, std::exchange(appended_, std::nullopt), outcome);
    case RecordKind::kHalf:
    case RecordKind::kRelocateHalf:
    case RecordKind::kTxnEnd:
    case RecordKind::kTxnSettle:
    case RecordKind::kTxnJoin:
    case RecordKind::kTxnConfirm:
    case RecordKind::kTxnChecked:
    case RecordKind::kTxnParked:
    case RecordKind::kTxnRecheck:
    case RecordKind::kTxnForget:
    case RecordKind::kProducerName:
    case RecordKind::kProducerFenced:
    case RecordKind::kProducerFence:
      return apply_txn_record(record, payload_position, outcome);
  }
  TIDEMARK_CHECK(false, "record kind " + std::to_string(static_cast<int>(record.kind)));
}

void Views::apply_produce(const format::LogRecord& record, LogPosition payload_position,
                          RecordOutcome& outcome) {
  const Result<format::ProduceRecord> produce = format::decode_produce(record);
  TIDEMARK_CHECK(produce.ok(), produce.error().to_string());
  const Result<format::BatchHeader> header = format::decode_batch_header(produce->batch);
  TIDEMARK_CHECK(header.ok(), header.error().to_string());
  outcome.partition = produce->partition;
  advance_time(produce->received_ms);
  const auto it = partitions_.find(produce->partition);
  appended_.reset();
  if (is_fenced(header->producer_id, header->producer_epoch)) {
    outcome.error = outcome.append.error = ErrorCode::kFenced;
    return;
  }
  if (it == partitions_.end()) {
    // Dropped between acceptance and apply.
    outcome.error = outcome.append.error = ErrorCode::kUnknownPartition;
    return;
  }
  outcome.append = it->second.append(*header, payload_position + produce->batch_offset,
                                     log_time_ms_, records_applied_, produce->sequences);
  outcome.error = outcome.append.error;
  if (outcome.error == ErrorCode::kOk && !outcome.append.duplicate) {
    appended_ = {produce->partition, outcome.append.base};
  }
  if (produce->ttl && outcome.error == ErrorCode::kOk && !outcome.append.duplicate) {
    it->second.mark_ttl();
  }
}

void Views::apply_topic_create(ByteView body, RecordOutcome& outcome) {
  const auto& record = control_table<fbs::TopicCreate>(body);
  advance_time(record.time_ms());
  const std::string_view name = format::control_text(record.name());
  const meta::TopicOutcome done = catalog_.create(
      name,
      {record.retention_ms(), record.retention_bytes(), partition::DelayConfig::of(record.delays()),
       partition::QueueConfig::of(record.queue()),
       partition::CompactionConfig::of(record.compaction())},
      shard_ids(record.shards()), log_time_ms_);
  outcome.error = done.error;
  outcome.topic = done.id;
  outcome.version = done.version;
}

void Views::apply_topic_alter(ByteView body, RecordOutcome& outcome) {
  const auto& record = control_table<fbs::TopicAlter>(body);
  advance_time(record.time_ms());
  const meta::TopicOutcome done = catalog_.alter(
      TopicId{record.topic()},
      {record.retention_ms(), record.retention_bytes(), partition::DelayConfig::of(record.delays()),
       partition::QueueConfig::of(record.queue()),
       partition::CompactionConfig::of(record.compaction())},
      shard_ids(record.shards()));
  outcome.error = done.error;
  outcome.topic = done.id;
  outcome.version = done.version;
}

void Views::apply_topic_delete(ByteView body, RecordOutcome& outcome) {
  const auto& record = control_table<fbs::TopicDelete>(body);
  advance_time(record.time_ms());
  const meta::TopicOutcome done = catalog_.remove(TopicId{record.topic()});
  outcome.error = done.error;
  outcome.topic = done.id;
  outcome.version = done.version;
}

void Views::apply_topic_progress(ByteView body, RecordOutcome& outcome) {
  const auto& record = control_table<fbs::TopicProgress>(body);
  catalog_.progress(TopicId{record.topic()}, record.version(), ShardId{record.shard()});
  outcome.topic = TopicId{record.topic()};
  outcome.version = record.version();
}

void Views::apply_producer_ids(ByteView body, RecordOutcome& outcome) {
  outcome.first_producer_id = next_producer_id_;
  next_producer_id_ += control_table<fbs::ProducerIds>(body).count();
}

void Views::apply_partition_open(ByteView body, RecordOutcome& outcome) {
  const auto& record = control_table<fbs::PartitionOpen>(body);
  advance_time(record.time_ms());
  const TopicId topic{record.topic()};
  outcome.topic = topic;
  outcome.version = record.version();
  if (dropped_.contains(topic) || record.partitions() == nullptr) {
    return;
  }
  const auto delays = partition::DelayConfig::of(record.delays());
  const auto queue = partition::QueueConfig::of(record.queue());
  const partition::PartitionConfig config{
      record.version(),
      record.retention_ms(),
      record.retention_bytes(),
      delays,
      {delays.late_topic, PartitionIndex{record.late_partition()}},
      queue,
      {queue.dead_letter_topic, PartitionIndex{record.dead_letter_partition()}},
      record.name() == nullptr ? std::string() : record.name()->str(),
      partition::CompactionConfig::of(record.compaction())};
  for (const uint32_t number : *record.partitions()) {
    const PartitionId id{topic, PartitionIndex{number}};
    const auto [it, inserted] = partitions_.try_emplace(id, id, config);
    if (!inserted && it->second.config().version < config.version) {
      it->second.set_config(config);
    }
    if (it->second.config().queue.dedupe_window_ms < 0) {
      dedupe_.drop_partition(id);
    }
  }
}

void Views::apply_partition_drop(ByteView body, RecordOutcome& outcome) {
  const auto& record = control_table<fbs::PartitionDrop>(body);
  advance_time(record.time_ms());
  const TopicId topic{record.topic()};
  outcome.topic = topic;
  outcome.version = record.version();
  dropped_[topic] = record.version();
  if (dropped_.size() > limits::kTopicsMax) {
    dropped_.erase(dropped_.begin());  // the oldest id: no mail of it is under way any more
  }
  auto it = partitions_.lower_bound(PartitionId{topic, PartitionIndex{0}});
  while (it != partitions_.end() && it->first.topic == topic) {
    dropped_keys_.push_back(it->first);
    delays_.drop_partition(it->first);
    positions_.drop_partition(it->first);
    queues_.drop_partition(it->first);
    dedupe_.drop_partition(it->first);
    it = partitions_.erase(it);
  }
}

void Views::apply_trim(ByteView body, RecordOutcome& outcome) {
  const auto& record = control_table<fbs::Trim>(body);
  advance_time(record.time_ms());
  outcome.partition = {TopicId{record.topic()}, PartitionIndex{record.partition()}};
  const auto it = partitions_.find(outcome.partition);
  if (it == partitions_.end()) {
    outcome.error = ErrorCode::kUnknownPartition;
    return;
  }
  const bool moved = it->second.trim({Offset{record.start_offset()}, LogPosition{record.position()},
                                      record.bytes(), record.batches(), record.compactions()});
  outcome.error = moved ? ErrorCode::kOk : ErrorCode::kConflict;
  if (moved) {
    queues_.trim(outcome.partition, it->second.start());
  }
}

const partition::Partition* Views::find(PartitionId id) const {
  const auto it = partitions_.find(id);
  return it == partitions_.end() ? nullptr : &it->second;
}

LogPosition Views::low_position() const {
  LogPosition low =
      std::min({applied_.next_position, delays_.low_position(), txns_.low_position()});
  for (const auto& [id, partition] : partitions_) {
    low = std::min(low, partition.low_position());
  }
  return low;
}

std::string Views::encode_meta() const {
  std::vector<uint8_t> out;
  ByteWriter writer(out);
  writer.le<uint8_t>(1);  // version
  writer.le(shard_.value());
  writer.le(applied_.index.value());
  writer.le(applied_.term.value());
  writer.le(applied_.next_position.value());
  writer.le(log_time_ms_);
  writer.le(records_applied_);
  writer.le(next_producer_id_);
  writer.le(catalog_.next_id().value());
  writer.varint(dropped_.size());
  for (const auto& [topic, version] : dropped_) {
    writer.le(topic.value());
    writer.le(version);
  }
  writer.le(xxh3(out));
  return std::string(as_text(out));
}

uint64_t Views::hash() const {
  uint64_t hash = xxh3(as_bytes(encode_meta()));
  hash = hash * 31 + catalog_.hash();
  for (const auto& [id, partition] : partitions_) {
    hash = hash * 31 + partition.hash();
  }
  hash = hash * 31 + delays_.hash();
  hash = hash * 31 + txns_.hash();
  hash = (hash * 31 + fences_.hash()) * 31 + names_.hash();
  hash = (hash * 31 + positions_.hash()) * 31 + queues_.hash();
  return hash * 31 + dedupe_.hash();
}

Views::Delta Views::freeze() {
  Delta delta;
  delta.covered = applied_;
  delta.low_position = low_position();
  for (const PartitionId id : dropped_keys_) {
    delta.batch.remove(keys::partition(id));
    delta.batch.remove_range(keys::of('I', id), keys::after(keys::of('I', id)));
    delta.batch.remove_range(keys::of('D', id), keys::after(keys::of('D', id)));
  }
  frozen_dropped_keys_ = std::exchange(dropped_keys_, {});
  frozen_partitions_.clear();
  for (auto& [id, partition] : partitions_) {
    if (!partition.dirty()) {
      continue;
    }
    if (partition.trimmed()) {
      delta.trimmed.push_back({id, partition.start()});
    }
    partition.freeze(delta.batch);
    if (auto moved = partition.index().frozen_moves(); !moved.empty()) {
      delta.moved.push_back({id, partition.start(), std::move(moved)});
    }
    frozen_partitions_.push_back(id);
  }
  catalog_.freeze(delta.batch);
  delays_.freeze(delta.batch);
  txns_.freeze(delta.batch);
  fences_.freeze(delta.batch);
  names_.freeze(delta.batch);
  positions_.freeze(delta.batch);
  queues_.freeze(delta.batch);
  dedupe_.freeze(delta.batch);
  delta.spill = delays_.wheel().freeze();
  delta.batch.put(keys::meta(), encode_meta());
  return delta;
}

void Views::commit_done(Delta& delta, LogPosition keep_from, timerwheel::Key until) {
  delays_.commit_done();
  txns_.commit_done();
  fences_.commit_done();
  names_.commit_done();
  positions_.commit_done();
  queues_.commit_done();
  dedupe_.commit_done();
  delays_.wheel().spill_done(delta.spill, until);
  for (const PartitionId id : frozen_partitions_) {
    if (const auto it = partitions_.find(id); it != partitions_.end()) {
      it->second.commit_done();
    }
  }
  // Of the idle ones too: the log's tail has moved on since their last checkpoint.
  for (auto& [id, partition] : partitions_) {
    partition.evict_before(keep_from);
  }
  frozen_partitions_.clear();
  frozen_dropped_keys_.clear();
  catalog_.commit_done();
}

void Views::commit_failed(Delta& delta) {
  delays_.commit_failed();
  txns_.commit_failed();
  fences_.commit_failed();
  names_.commit_failed();
  positions_.commit_failed();
  queues_.commit_failed();
  dedupe_.commit_failed();
  delays_.wheel().spill_failed(delta.spill);
  for (const PartitionId id : frozen_partitions_) {
    if (const auto it = partitions_.find(id); it != partitions_.end()) {
      it->second.commit_failed();
    }
  }
  frozen_partitions_.clear();
  dropped_keys_.insert(dropped_keys_.end(), frozen_dropped_keys_.begin(),
                       frozen_dropped_keys_.end());
  frozen_dropped_keys_.clear();
  catalog_.commit_failed();
}

Status Views::load_meta(std::string_view value) {
  const Status damaged(ErrorCode::kCorrupted, "head of the checkpoint store");
  const ByteView all = as_bytes(value);
  if (all.size() < 9) {
    return damaged;
  }
  const ByteView body = all.first(all.size() - 8);
  if (load_le<uint64_t>(all.data() + body.size()) != xxh3(body)) {
    return damaged;
  }
  ByteReader reader(body);
  const auto version = reader.le<uint8_t>();
  const ShardId shard{reader.le<uint16_t>()};
  applied_.index = LogIndex{reader.le<uint64_t>()};
  applied_.term = Term{reader.le<uint64_t>()};
  applied_.next_position = LogPosition{reader.le<uint64_t>()};
  log_time_ms_ = reader.le<int64_t>();
  records_applied_ = reader.le<uint64_t>();
  next_producer_id_ = reader.le<uint64_t>();
  catalog_.load_next_id(TopicId{reader.le<uint32_t>()});
  const uint64_t dropped = reader.varint();
  for (uint64_t i = 0; i < dropped && !reader.failed(); ++i) {
    const TopicId topic{reader.le<uint32_t>()};
    dropped_[topic] = reader.le<uint64_t>();
  }
  if (version != 1 || shard != shard_ || reader.failed() || reader.remaining() != 0) {
    return damaged;
  }
  return Status();
}

Status Views::load(kv::ReadView& view) {
  TIDEMARK_CHECK(applied_.index == LogIndex{0});
  ASSIGN_OR_RETURN(const auto head, view.get(keys::meta()));
  if (!head.has_value()) {
    // Each checkpoint writes it: what is there without it would come back to life with the next
    // one.
    ASSIGN_OR_RETURN(const auto any, view.seek(""));
    return any.has_value() ? Status(ErrorCode::kCorrupted, "the checkpoint store has no head")
                           : Status();
  }
  RETURN_IF_ERROR(load_meta(*head));
  ASSIGN_OR_RETURN(auto pair, view.seek(keys::topic_prefix()));
  while (pair.has_value() && pair->key.substr(0, 1) == keys::topic_prefix() &&
         pair->key.size() == 5) {
    const TopicId id{load_be<uint32_t>(as_bytes(pair->key).data() + 1)};
    RETURN_IF_ERROR(catalog_.load(id, pair->value));
    ASSIGN_OR_RETURN(pair, view.next());
  }
  return load_partitions(view);
}

Status Views::load_partitions(kv::ReadView& view) {
  const auto id_in = [](std::string_view key) {
    return PartitionId{TopicId{load_be<uint32_t>(as_bytes(key).data() + 1)},
                       PartitionIndex{load_be<uint32_t>(as_bytes(key).data() + 5)}};
  };
  ASSIGN_OR_RETURN(auto pair, view.seek(keys::partition_prefix()));
  while (pair.has_value() && pair->key.substr(0, 1) == keys::partition_prefix() &&
         pair->key.size() == 9) {
    const PartitionId id = id_in(pair->key);
    ASSIGN_OR_RETURN(auto partition, partition::Partition::load(id, pair->value));
    partitions_.emplace(id, std::move(partition));
    ASSIGN_OR_RETURN(pair, view.next());
  }
  ASSIGN_OR_RETURN(pair, view.seek("D"));
  while (pair.has_value() && pair->key.substr(0, 1) == "D" && pair->key.size() == 17) {
    const auto it = partitions_.find(id_in(pair->key));
    if (it == partitions_.end()) {
      return Status(ErrorCode::kCorrupted, "producer without partition in the checkpoint store");
    }
    const ProducerId producer{load_be<uint64_t>(as_bytes(pair->key).data() + 9)};
    RETURN_IF_ERROR(it->second.load_producer(producer, pair->value));
    ASSIGN_OR_RETURN(pair, view.next());
  }
  for (auto& [id, partition] : partitions_) {
    partition.finish_load();
    ASSIGN_OR_RETURN(auto refs, partition::last_stored_chunk(view, id));
    if (!refs.empty()) {
      partition.load_last_chunk(std::move(refs));
    }
  }
  RETURN_IF_ERROR(delays_.load(view));
  RETURN_IF_ERROR(txns_.load(view));
  RETURN_IF_ERROR(fences_.load(view));
  RETURN_IF_ERROR(names_.load(view));
  RETURN_IF_ERROR(positions_.load(view));
  RETURN_IF_ERROR(queues_.load(view));
  return dedupe_.load(view);
}

}  // namespace tidemark::shard

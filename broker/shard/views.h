// Views: the whole state of a shard, built by applying log entries and by nothing else.
//
//   entry -> records -> topic catalog (metadata shard), partitions, producer state, log time
//
// Deterministic: after the same entries two Views are equal, hash for hash, on any replica and
// across any checkpoint or restart. No clock, no I/O, no randomness; a checkpoint is a delta
// (freeze) that somebody else commits. Thread: the shard's loop.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "broker/kv/key_value_store.h"
#include "broker/meta/topic_catalog.h"
#include "broker/partition/partition.h"
#include "log/base/bytes.h"
#include "log/base/ids.h"
#include "log/base/result.h"
#include "log/format/log_record.h"

namespace tidemark::shard {

// What applying one record did, for whoever proposed it.
struct RecordOutcome {
  format::RecordKind kind = format::RecordKind::kProduce;
  ErrorCode error = ErrorCode::kOk;
  PartitionId partition;            // kProduce, kTrim
  partition::AppendOutcome append;  // kProduce
  TopicId topic;                    // topic and partition records
  uint64_t version = 0;
  uint64_t first_producer_id = 0;  // kProducerIds
};

// What a checkpoint covers: everything up to and including entry `index`.
struct Covered {
  LogIndex index;
  Term term;
  LogPosition next_position;  // first position after that entry
};

class Views {
 public:
  explicit Views(ShardId shard) : shard_(shard) {}

  Views(const Views&) = delete;
  Views& operator=(const Views&) = delete;

  // Applies the records of a committed entry whose payload begins at `payload_position`; appends
  // one outcome per record. Requires: index > applied().index (raft's own entries lie between). A
  // record that cannot be decoded is damage that passed the entry's hash: our bug, hence a CHECK.
  void apply(LogIndex index, Term term, LogPosition payload_position, ByteView payload,
             std::vector<RecordOutcome>& outcomes);

  [[nodiscard]] const Covered& applied() const { return applied_; }

  // Largest leader time seen in an entry; never goes back.
  [[nodiscard]] int64_t log_time_ms() const { return log_time_ms_; }

  [[nodiscard]] const meta::TopicCatalog& catalog() const { return catalog_; }

  [[nodiscard]] const partition::Partition* find(PartitionId id) const;

  // True if the topic was dropped here.
  [[nodiscard]] bool was_dropped(TopicId topic) const { return dropped_.contains(topic); }

  [[nodiscard]] const std::map<PartitionId, partition::Partition>& partitions() const {
    return partitions_;
  }

  // First log position that any view still refers to; applied().next_position if none does.
  [[nodiscard]] LogPosition low_position() const;

  [[nodiscard]] uint64_t hash() const;

  // --- checkpoint (one at a time)
  // ----------------------------------------------------------------------------------- Index
  // chunks before `start` of these partitions are no longer needed.
  struct Trimmed {
    PartitionId id;
    Offset start;
  };

  struct Delta {
    Covered covered;
    LogPosition low_position;
    kv::WriteBatch batch;
    std::vector<Trimmed> trimmed;
  };

  // Everything that changed since the last freeze, with the position it covers.
  [[nodiscard]] Delta freeze();
  // The delta is durable. References whose batches lie before `keep_from` may leave memory.
  void commit_done(LogPosition keep_from);
  // It is not; the next freeze takes it again.
  void commit_failed();
  // Reads everything but old index chunks. Requires: nothing applied yet. An empty store leaves the
  // views empty.
  Status load(kv::ReadView& view);

 private:
  void apply_record(const format::LogRecord& record, LogPosition payload_position,
                    RecordOutcome& outcome);
  void apply_produce(const format::LogRecord& record, LogPosition payload_position,
                     RecordOutcome& outcome);
  void apply_topic_create(ByteView body, RecordOutcome& outcome);
  void apply_topic_alter(ByteView body, RecordOutcome& outcome);
  void apply_topic_delete(ByteView body, RecordOutcome& outcome);
  void apply_topic_progress(ByteView body, RecordOutcome& outcome);
  void apply_producer_ids(ByteView body, RecordOutcome& outcome);
  void apply_partition_open(ByteView body, RecordOutcome& outcome);
  void apply_partition_drop(ByteView body, RecordOutcome& outcome);
  void apply_trim(ByteView body, RecordOutcome& outcome);

  void advance_time(int64_t time_ms) { log_time_ms_ = std::max(log_time_ms_, time_ms); }

  [[nodiscard]] std::string encode_meta() const;
  Status load_meta(std::string_view value);
  Status load_partitions(kv::ReadView& view);

  ShardId shard_;
  Covered applied_;
  int64_t log_time_ms_ = 0;
  uint64_t records_applied_ = 0;
  uint64_t next_producer_id_ = 1;
  meta::TopicCatalog catalog_;
  std::map<PartitionId, partition::Partition> partitions_;
  // Version at which a dropped topic went away here: late mail must not open it again. Ids are
  // never reused.
  std::map<TopicId, uint64_t> dropped_;    // newest limits::kTopicsMax
  std::vector<PartitionId> dropped_keys_;  // since the last freeze
  std::vector<PartitionId> frozen_dropped_keys_;
  std::vector<PartitionId> frozen_partitions_;
};

}  // namespace tidemark::shard

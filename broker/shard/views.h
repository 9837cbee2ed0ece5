// Views: the whole state of a shard, built by applying log entries and by nothing else.
//
//   entry -> records -> topic catalog (metadata shard), partitions, producer state, pending delays,
//   transactions, log time
//
// Deterministic: after the same entries two Views are equal, hash for hash, on any replica and
// across any checkpoint or restart. No clock, no I/O, no randomness; a checkpoint is a delta
// (freeze) that somebody else commits. Thread: the shard's loop.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "broker/delay/pending_delays.h"
#include "broker/group/group_positions.h"
#include "broker/kv/key_value_store.h"
#include "broker/meta/producer_names.h"
#include "broker/meta/topic_catalog.h"
#include "broker/partition/dedupe_table.h"
#include "broker/partition/partition.h"
#include "broker/queue/queue_table.h"
#include "broker/txn/producer_fences.h"
#include "broker/txn/txn_table.h"
#include "log/base/bytes.h"
#include "log/base/ids.h"
#include "log/base/result.h"
#include "log/format/log_record.h"
#include "log/format/schedule_set.h"

namespace tidemark::format::fbs {
struct QueueSettle;
struct MessageIds;
struct TxnEnd;
}  // namespace tidemark::format::fbs

namespace tidemark::shard {

// `step` of a Compacted record.
enum class CompactionStep : uint8_t { kBegin = 0, kDead = 1, kEnd = 2 };

// What applying one record did, for whoever proposed it.
struct RecordOutcome {
  format::RecordKind kind = format::RecordKind::kProduce;
  ErrorCode error = ErrorCode::kOk;
  PartitionId partition;            // kProduce, kTrim, kQueueSettle, kCompact, kCompacted
  partition::AppendOutcome append;  // kProduce; kMessageIds of a batch that was not stored
  TopicId topic;                    // topic and partition records
  uint64_t version = 0;
  // kProducerIds, kProducerName, kProducerFenced, kProducerFence
  uint64_t first_producer_id = 0;
  uint16_t producer_epoch = 0;
  delay::ChangeOutcome change = delay::ChangeOutcome::kNotFound;  // kDelayCancel, kDelayReschedule
  // kSchedule, kDelayReschedule: which of Views::receipts(); kGroupCommit: which of
  // Views::group_commits(); kGroupDrop: how many were forgotten; kMessageIds: which of
  // Views::known_offsets().
  uint32_t first_receipt = 0;
  uint32_t receipts = 0;
  // Records of transactions.
  txn::TxnKey txn;
  txn::TxnState txn_state = txn::TxnState::kNone;  // as recorded then
  bool txn_first = false;      // kHalf, kTxnJoin: one that this shard coordinates begins
  bool txn_done = false;       // it ended by this record
  uint32_t halves_stored = 0;  // kTxnEnd
  uint32_t group_epoch = 0;    // kGroupLease
  uint32_t parked = 0;         // kTxnParked
};

// A delayed message that an applied record took in.
struct DelayReceipt {
  ErrorCode error = ErrorCode::kOk;  // kAlreadyExists: the key is taken, nothing was taken in
  uint64_t id = 0;
  int64_t due_ms = 0;  // effective
  LogPosition position;
  uint32_t tag = 0;
};

// A delayed message that was delivered by an applied record.
struct Fired {
  PartitionId partition;
  int64_t due_ms = 0;
  Offset offset;
};

// What a checkpoint covers: everything up to and including entry `index`.
struct Covered {
  LogIndex index;
  Term term;
  LogPosition next_position;  // first position after that entry
};

class Views {
 public:
  explicit Views(ShardId shard, timerwheel::TieredOptions wheel = {})
      : shard_(shard), delays_(wheel), txns_(shard) {}

  Views(const Views&) = delete;
  Views& operator=(const Views&) = delete;

  // Applies the records of a committed entry whose payload begins at `payload_position`; appends
  // one outcome per record. Requires: index > applied().index (raft's own entries lie between). A
  // record that cannot be decoded is damage that passed the entry's hash: our bug, hence a CHECK.
  void apply(LogIndex index, Term term, LogPosition payload_position, ByteView payload,
             std::vector<RecordOutcome>& outcomes);

  [[nodiscard]] const Covered& applied() const { return applied_; }

  // Of the last entry applied.
  [[nodiscard]] const std::vector<DelayReceipt>& receipts() const { return receipts_; }

  // Of the last entry applied, in order of due time.
  [[nodiscard]] const std::vector<Fired>& fired() const { return fired_; }

  // Partitions that got messages by commits or dead letters in the last entry.
  [[nodiscard]] const std::vector<PartitionId>& exposed() const { return exposed_; }

  // Transactions that ended in the last entry and of which other shards have to be told.
  [[nodiscard]] const std::vector<txn::TxnKey>& to_tell() const { return to_tell_; }

  // Of the last entry applied.
  [[nodiscard]] const std::vector<group::CommitOutcome>& group_commits() const {
    return group_commits_;
  }

  // Of the last entry applied: where the messages of batches are that were not stored, for all of
  // them were there already.
  [[nodiscard]] const std::vector<Offset>& known_offsets() const { return known_offsets_; }

  [[nodiscard]] const partition::DedupeTable& dedupe() const { return dedupe_; }

  [[nodiscard]] const group::GroupPositions& positions() const { return positions_; }

  [[nodiscard]] const queue::QueueTable& queues() const { return queues_; }

  [[nodiscard]] const txn::TxnTable& txns() const { return txns_; }

  [[nodiscard]] const txn::ProducerFences& fences() const { return fences_; }

  // Batches and sets of this producer's epoch are no longer taken. Without a producer (-1): false.
  [[nodiscard]] bool is_fenced(int64_t producer_id, int16_t epoch) const {
    return producer_id >= 0 &&
           fences_.is_fenced(static_cast<uint64_t>(producer_id), static_cast<uint16_t>(epoch));
  }

  [[nodiscard]] const meta::ProducerNames& producer_names() const { return names_; }

  [[nodiscard]] delay::PendingDelays& delays() { return delays_; }

  [[nodiscard]] const delay::PendingDelays& delays() const { return delays_; }

  // Late messages that were not delivered as usual, since the process began.
  struct LateCounts {
    uint64_t skipped = 0;
    uint64_t dead_lettered = 0;
  };

  [[nodiscard]] const LateCounts& late() const { return late_; }

  // What was done with messages in queue mode, since the process began.
  struct QueueCounts {
    uint64_t acked = 0;  // by consumers and operators
    uint64_t failed = 0;
    uint64_t dead_lettered = 0;
    uint64_t redriven = 0;
    uint64_t expired = 0;
    uint64_t filtered = 0;
  };

  [[nodiscard]] const QueueCounts& queue_counts() const { return queue_counts_; }

  // Used while entries are replayed that need slots of the timing wheel which only the store has:
  // runs the plan at once. Without one, whoever proposes an Advance sees to it before.
  using SlotLoader = std::function<Status(timerwheel::TieredWheel::LoadPlan&)>;

  void set_slot_loader(SlotLoader loader) { slot_loader_ = std::move(loader); }

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

  // Batches of stored chunks that compaction has changed. Of those before `start` the store may
  // know nothing any more.
  struct Moved {
    PartitionId id;
    Offset start;
    std::vector<partition::MovedBatch> batches;
  };

  struct Delta {
    Covered covered;
    LogPosition low_position;
    kv::WriteBatch batch;
    std::vector<Trimmed> trimmed;
    std::vector<Moved> moved;
    // The timing wheel's part; written into `batch` by the worker.
    timerwheel::TieredWheel::Spill spill;

    // Adds to `batch` what depends on what the store has of `moved`; before what is trimmed goes.
    Status write_moved(kv::ReadView& view);
  };

  // Everything that changed since the last freeze, with the position it covers.
  [[nodiscard]] Delta freeze();
  // The delta is durable. References whose batches lie before `keep_from` may leave memory.
  // `until`: delayed messages up to there stay in memory, for an Advance is on its way.
  void commit_done(Delta& delta, LogPosition keep_from, timerwheel::Key until = {});
  // It is not; the next freeze takes it again.
  void commit_failed(Delta& delta);
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

  // compaction_views.cc
  void apply_compact(const format::LogRecord& record, LogPosition payload_position,
                     RecordOutcome& outcome);
  void apply_compacted(ByteView body, RecordOutcome& outcome);

  // dedupe_views.cc
  struct Appended {
    PartitionId partition;
    Offset base;
  };

  // `before`: the batch that the record before has stored.
  void apply_message_ids(ByteView body, const std::optional<Appended>& before,
                         RecordOutcome& outcome);
  void apply_known_ids(const format::fbs::MessageIds& record, RecordOutcome& outcome);
  // delay_views.cc
  void apply_schedule(const format::LogRecord& record, LogPosition payload_position,
                      RecordOutcome& outcome);
  void take_item(const format::ScheduleHeader& header, const format::ScheduleItem& item,
                 uint64_t id, LogPosition position);
  void apply_advance(ByteView body);
  void reach(timerwheel::Key until);
  void deliver(const delay::DueDelay& due, int64_t now_ms);
  void apply_delay_cancel(ByteView body, RecordOutcome& outcome);
  void apply_delay_reschedule(ByteView body, RecordOutcome& outcome);
  void apply_delay_next(ByteView body);
  void apply_relocate(const format::LogRecord& record, LogPosition payload_position);
  void apply_relocated(ByteView body);
  // group_views.cc
  void apply_group_commit(ByteView body, RecordOutcome& outcome);
  void apply_group_lease(ByteView body, RecordOutcome& outcome);
  void apply_group_drop(ByteView body, RecordOutcome& outcome);
  // queue_views.cc
  void apply_queue_settle(const format::LogRecord& record, LogPosition payload_position,
                          RecordOutcome& outcome);
  void apply_queue_letters(const format::fbs::QueueSettle& settle, PartitionId from, ByteView body,
                           LogPosition body_position);
  // txn_views.cc
  void apply_txn_record(const format::LogRecord& record, LogPosition payload_position,
                        RecordOutcome& outcome);
  void apply_half(const format::LogRecord& record, LogPosition payload_position,
                  RecordOutcome& outcome);
  void apply_txn_end(const format::LogRecord& record, RecordOutcome& outcome);
  void make_visible(std::vector<txn::Half>& halves, const format::fbs::TxnEnd& end);
  void apply_txn_join(ByteView body, RecordOutcome& outcome);
  void apply_txn_confirm(ByteView body);
  void apply_txn_names(const format::LogRecord& record, RecordOutcome& outcome);
  void apply_txn_forget(ByteView body);
  void apply_producer_name(ByteView body, RecordOutcome& outcome);
  void apply_producer_fenced(ByteView body, RecordOutcome& outcome);
  void apply_producer_fence(ByteView body, RecordOutcome& outcome);

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
  delay::PendingDelays delays_;
  txn::TxnTable txns_;
  txn::ProducerFences fences_;
  meta::ProducerNames names_;
  group::GroupPositions positions_;
  queue::QueueTable queues_;
  partition::DedupeTable dedupe_;
  std::optional<Appended> appended_;  // by the record before, in this entry
  std::vector<Offset> known_offsets_;
  std::vector<group::CommitOutcome> group_commits_;
  std::vector<DelayReceipt> receipts_;
  std::vector<Fired> fired_;
  std::vector<PartitionId> exposed_;
  std::vector<txn::TxnKey> to_tell_;
  std::vector<delay::DueDelay> due_;
  LateCounts late_;
  QueueCounts queue_counts_;
  SlotLoader slot_loader_;
  // Version at which a dropped topic went away here: late mail must not open it again. Ids are
  // never reused.
  std::map<TopicId, uint64_t> dropped_;    // newest limits::kTopicsMax
  std::vector<PartitionId> dropped_keys_;  // since the last freeze
  std::vector<PartitionId> frozen_dropped_keys_;
  std::vector<PartitionId> frozen_partitions_;
};

}  // namespace tidemark::shard

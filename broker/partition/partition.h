// Partition: a view over the shard's log. Offsets are assigned when a batch is applied; the batch
// stays where the log has it.
//
// Everything here changes only by applying entries, in order, so all replicas agree (hash()).
// Thread: the shard's loop.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>

#include "broker/kv/key_value_store.h"
#include "broker/partition/compaction_config.h"
#include "broker/partition/delay_config.h"
#include "broker/partition/index_view.h"
#include "broker/partition/producer_table.h"
#include "broker/partition/queue_config.h"
#include "log/base/ids.h"
#include "log/format/record_batch.h"

namespace tidemark::partition {

struct PartitionConfig {
  uint64_t version = 0;  // of the topic's configuration
  int64_t retention_ms = -1;
  int64_t retention_bytes = -1;
  DelayConfig delays = {};
  PartitionId late_partition = {};  // of delays.late_topic, on the same shard
  QueueConfig queue = {};
  PartitionId dead_letter_partition = {};  // of queue.dead_letter_topic, on the same shard
  std::string topic_name = {};             // empty: opened before names came along
  CompactionConfig compaction = {};
};

// How far a partition is compacted.
struct CompactionState {
  uint64_t changes = 0;      // by compaction, ever
  Offset scan_from;          // a run looks for newer messages from here on
  uint64_t dirty_bytes = 0;  // of the batches behind that
  int64_t next_run_ms = 0;   // log time; before it a run would find nothing to take out
  bool keeps_dead = false;   // an older message had to stay: tombstones do not go
  bool has_references =
      false;  // some batch refers to another: it holds more of the log than itself
  // The run that has begun and not ended.
  bool running = false;
  Offset cursor;              // what lies before it has been changed, or stays
  Offset run_end;             // end() when it began
  uint64_t run_appended = 0;  // bytes, since then

  friend bool operator==(const CompactionState&, const CompactionState&) = default;
};

// What applying a batch did.
struct AppendOutcome {
  ErrorCode error = ErrorCode::kOk;
  bool duplicate = false;
  Offset base;  // ok
  int64_t received_ms = 0;
  int32_t expected_sequence = 0;  // kOutOfOrderSequence
};

class Partition {
 public:
  Partition(PartitionId id, PartitionConfig config) : id_(id), config_(config) {}

  [[nodiscard]] PartitionId id() const { return id_; }

  [[nodiscard]] const PartitionConfig& config() const { return config_; }

  void set_config(PartitionConfig config);

  // `position` is of the batch's first byte, `use` the shard's record counter. `sequences`: how
  // many of its producer the batch stands for, if duplicates were left out of it; else 0.
  AppendOutcome append(const format::BatchHeader& header, LogPosition position, int64_t received_ms,
                       uint64_t use, uint32_t sequences = 0);

  // Judges and remembers a producer's sequences for messages that are not appended now; `base` is
  // what a repetition is answered with.
  AppendOutcome accept_sequence(const format::BatchHeader& header, Offset base, int64_t received_ms,
                                uint64_t use);

  // Appends a batch of `count` messages that lies anywhere in the log; gives the first offset.
  Offset append_reference(LogPosition position, uint32_t count, uint32_t bytes,
                          int64_t received_ms) {
    return append_reference(position, count, bytes, received_ms, position);
  }

  // The same for a batch that needs more of the log than itself, from `low` on.
  Offset append_reference(LogPosition position, uint32_t count, uint32_t bytes, int64_t received_ms,
                          LogPosition low);

  // Some message of the batch appended last has a time to live of its own.
  void mark_ttl();

  struct TrimTo {
    Offset start;
    LogPosition position;
    uint64_t bytes = 0;
    uint64_t batches = 0;
    uint64_t compactions = 0;  // CompactionState::changes, as the plan knew it
  };

  // False if `to.start` is not ahead of the start or beyond the end, or a compaction has changed
  // something since it was planned: nothing changed.
  bool trim(const TrimTo& to);

  // --- compaction: a run goes over what is stored now, in order of offset. A run that has begun
  // and not ended is given up when another begins: what it changed stays.
  void begin_compaction();
  // A batch lies elsewhere, or nothing is left of it (no bytes). False, and nothing changed: it is
  // not what the run comes to next.
  bool compact(const MovedBatch& moved, uint32_t count, uint32_t replaced_bytes);

  struct CompactionEnd {
    LogPosition low;  // nothing that the run went over lies below it
    Offset scan_from;
    uint64_t dirty_bytes = 0;  // behind it, of what the run went over
    int64_t next_run_ms = 0;
    bool keeps_dead = false;
  };

  // False, and nothing changed: no run goes on, or it cannot have ended there.
  bool end_compaction(const CompactionEnd& end);

  [[nodiscard]] const CompactionState& compaction() const { return compaction_; }

  [[nodiscard]] Offset start() const { return start_; }

  // Offset of the next message; the high watermark, since only committed entries are applied.
  [[nodiscard]] Offset end() const { return end_; }

  [[nodiscard]] uint64_t bytes() const { return bytes_; }

  [[nodiscard]] uint64_t batches() const { return batches_; }

  [[nodiscard]] int64_t last_received_ms() const { return last_received_ms_; }

  // Only messages before it may have a time to live of their own: those of batches that were
  // marked, and, if the topic has one, what was delivered by reference.
  [[nodiscard]] Offset ttl_end() const { return ttl_end_; }

  [[nodiscard]] const IndexView& index() const { return index_; }

  [[nodiscard]] const ProducerTable& producers() const { return producers_; }

  // First log position that this partition still refers to; the largest position if it is empty.
  [[nodiscard]] LogPosition low_position() const;

  [[nodiscard]] uint64_t hash() const;

  // --- checkpoint
  // ---------------------------------------------------------------------------------------------------
  // True if something changed since the last freeze.
  [[nodiscard]] bool dirty() const { return dirty_; }

  // True if messages were trimmed since the last freeze: the store's chunks before start() can go.
  [[nodiscard]] bool trimmed() const { return trimmed_; }

  void freeze(kv::WriteBatch& batch);
  void commit_done();

  // Stored references whose batches lie before `keep_from` may leave memory.
  void evict_before(LogPosition keep_from) { index_.evict_before(keep_from); }

  void commit_failed();
  // `value` of keys::partition(id).
  static Result<Partition> load(PartitionId id, std::string_view value);

  void load_last_chunk(std::vector<BatchRef> refs) { index_.load_last_chunk(std::move(refs)); }

  Status load_producer(ProducerId id, std::string_view value) { return producers_.load(id, value); }

  void finish_load() { producers_.finish_load(); }

 private:
  // Offsets are looked at in blocks of this many for the low position.
  static constexpr uint64_t kOffsetsPerBlock = 4096;

  // Behind the prefix.
  [[nodiscard]] Offset tail_begin() const { return std::max(start_, prefix_end_); }

  void encode_compaction(ByteWriter& writer) const;
  static void read_compaction(ByteReader& reader, Partition& partition);
  void append_ref(LogPosition position, uint32_t count, uint32_t bytes, int64_t received_ms);
  [[nodiscard]] std::string encode() const;

  PartitionId id_;
  PartitionConfig config_;
  Offset start_;
  Offset end_;
  // What compaction went over last is not in order in the log: as a whole it lies at or behind
  // `prefix_low_`.
  Offset prefix_end_;
  LogPosition prefix_low_;
  LogPosition first_position_;  // of the first batch behind that; meaningless if there is none
  // Messages delivered by reference lie before their neighbours: the lowest position of each block
  // of offsets that has any, behind the prefix.
  std::map<uint64_t, LogPosition> low_blocks_;
  uint64_t bytes_ = 0;
  uint64_t batches_ = 0;
  int64_t last_received_ms_ = 0;
  Offset ttl_end_;
  uint64_t index_hash_ = 0;  // over all references ever appended or changed
  CompactionState compaction_;
  IndexView index_;
  ProducerTable producers_;
  bool dirty_ = true;
  bool trimmed_ = false;
};

}  // namespace tidemark::partition

// Partition: a view over the shard's log. Offsets are assigned when a batch is applied; the batch
// stays where the log has it.
//
// Everything here changes only by applying entries, in order, so all replicas agree (hash()).
// Thread: the shard's loop.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "broker/kv/key_value_store.h"
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
  };

  // False if `to.start` is not ahead of the start or beyond the end: nothing changed.
  bool trim(const TrimTo& to);

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

  void append_ref(LogPosition position, uint32_t count, uint32_t bytes, int64_t received_ms);
  [[nodiscard]] std::string encode() const;

  PartitionId id_;
  PartitionConfig config_;
  Offset start_;
  Offset end_;
  LogPosition first_position_;  // of the batch that has start_; meaningless if empty
  // Messages delivered by reference lie before their neighbours: the lowest position of each block
  // of offsets that has any.
  std::map<uint64_t, LogPosition> low_blocks_;
  uint64_t bytes_ = 0;
  uint64_t batches_ = 0;
  int64_t last_received_ms_ = 0;
  Offset ttl_end_;
  uint64_t index_hash_ = 0;  // over all references ever appended
  IndexView index_;
  ProducerTable producers_;
  bool dirty_ = true;
  bool trimmed_ = false;
};

}  // namespace tidemark::partition

// QueueTable: what consumer groups in queue mode have settled in the partitions of a shard, and how
// often deliveries failed; a view over the log.
//
// A message is unsettled, or settled for ever: acked, expired, not wanted by the filter, or moved
// to the dead-letter topic. Of an unsettled one the failures are counted. Leases are not here: they
// are in the leader's memory (dispatcher.h).
//
// Changes only by applying entries; hash() is equal on all replicas. Thread: the shard's loop.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "broker/kv/key_value_store.h"
#include "broker/queue/ack_ranges.h"
#include "broker/queue/ack_set.h"
#include "log/base/bytes.h"
#include "log/base/coding.h"
#include "log/base/ids.h"
#include "log/base/limits.h"
#include "log/base/result.h"

namespace tidemark::queue {

struct Failures {
  uint32_t count = 0;
  int64_t retry_ms = 0;  // log time; not before

  friend bool operator==(const Failures&, const Failures&) = default;
};

// Of a group and a partition.
struct QueueState {
  AckSet acks;
  std::map<Offset, Failures> failures;  // of unsettled messages
  // Messages since the group began here.
  uint64_t acked = 0;
  uint64_t failed = 0;  // failures recorded
  uint64_t dead_lettered = 0;
  uint64_t expired = 0;
  uint64_t filtered = 0;

  bool changed = false;  // since the last freeze(); the table's own
};

class QueueTable {
 public:
  explicit QueueTable(size_t queues_max = limits::kQueuesPerShardMax,
                      size_t failures_max = limits::kQueueFailuresPerShardMax)
      : queues_max_(queues_max), failures_max_(failures_max) {}

  QueueTable(const QueueTable&) = delete;
  QueueTable& operator=(const QueueTable&) = delete;

  using OfGroup = std::map<PartitionId, QueueState>;

  // --- applying. The queue begins with the first change, at the partition's start.
  // kLimitExceeded: too many queues; kInvalidArgument: a group's name has 1 to 255 bytes.
  Status open(std::string_view group, PartitionId partition, Offset start);
  // Of an open queue. Gives how many were not settled before.
  uint64_t ack(std::string_view group, PartitionId partition, AckRange range);
  // One failure more. False, and nothing changed: it is settled, or there is no room to remember
  // failures of another message.
  bool fail(std::string_view group, PartitionId partition, Offset offset, int64_t retry_ms);
  // Settled by moving elsewhere. False: it was settled before.
  bool dead_letter(std::string_view group, PartitionId partition, Offset offset);
  // Of the acks of a record, so many were of the kind: they are among QueueState::acked, too.
  void count(std::string_view group, PartitionId partition, uint32_t expired, uint32_t filtered);
  // Messages before `start` are gone. Partitions without queues cost a look-up.
  void trim(PartitionId partition, Offset start);
  // How many queues were forgotten.
  size_t drop_group(std::string_view group);
  void drop_partition(PartitionId partition);

  // --- looking. nullptr: none.
  [[nodiscard]] const QueueState* find(std::string_view group, PartitionId partition) const;
  [[nodiscard]] const OfGroup* find(std::string_view group) const;

  [[nodiscard]] bool has(PartitionId partition) const { return by_partition_.contains(partition); }

  [[nodiscard]] const std::map<std::string, OfGroup, std::less<>>& groups() const {
    return groups_;
  }

  // Queues, and messages with failures.
  [[nodiscard]] size_t size() const { return size_; }

  [[nodiscard]] size_t failures() const { return failures_; }

  // Bytes of ack sets and failures, about.
  [[nodiscard]] size_t memory_bytes() const;

  // Independent of the order of changes.
  [[nodiscard]] uint64_t hash() const;

  // --- checkpoint: what changed only, under "Q" (see store_keys.h): a value for each queue, and
  // one for each 4096 messages or run of them that has something settled or failed.
  void freeze(kv::WriteBatch& batch);
  void commit_done();
  void commit_failed();
  // Requires: empty. kCorrupted for a value that does not decode, or that no sequence of changes
  // leads to.
  Status load(kv::ReadView& view);

 private:
  using Name = std::pair<PartitionId, std::string>;

  // What a checkpoint took of a queue.
  struct Frozen {
    bool dropped = false;  // everything that the store had of an earlier queue of this name
    bool changed = false;
    AckSet::Changes changes;
  };

  QueueState* find_open(std::string_view group, PartitionId partition);
  QueueState& open_queue(std::string_view group, PartitionId partition);
  void changed(std::string_view group, PartitionId partition, QueueState& state);
  void forget_failures(QueueState& state, Offset first, Offset end);
  void forget(std::string_view group, PartitionId partition, QueueState& state);
  Status load_queue(const Name& name, ByteView body);
  Status load_chunk(const Name& name, uint64_t chunk, ByteView body);
  bool load_failures(QueueState& state, uint64_t chunk, ByteReader& reader);

  size_t queues_max_;
  size_t failures_max_;
  size_t size_ = 0;
  size_t failures_ = 0;
  std::map<std::string, OfGroup, std::less<>> groups_;
  // Views the keys of groups_.
  std::map<PartitionId, std::set<std::string_view>> by_partition_;
  std::set<Name> changed_;  // QueueState::changed
  std::set<Name> dropped_;  // and perhaps opened again
  std::map<Name, Frozen> frozen_;
};

}  // namespace tidemark::queue

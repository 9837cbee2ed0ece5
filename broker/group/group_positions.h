// GroupPositions: how far consumer groups have read the partitions of a shard; a view over the log.
//
// A position is the next offset to be read. Its epoch is the fencing token: it grows by one
// whenever the partition is given to a member (lease), and a commit of another epoch is refused.
//
// Changes only by applying entries; hash() is equal on all replicas. Thread: the shard's loop.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "broker/kv/key_value_store.h"
#include "log/base/ids.h"
#include "log/base/limits.h"
#include "log/base/result.h"

namespace tidemark::group {

struct Position {
  bool committed = false;
  Offset offset;
  uint32_t epoch = 0;  // 0: never leased
  int64_t committed_ms = 0;

  friend bool operator==(const Position&, const Position&) = default;
};

// Values as on the wire.
enum class CommitKind : uint8_t { kCommit = 0, kRewind = 1, kReset = 2 };

struct CommitOutcome {
  // kFenced: not the present epoch; kOffsetOutOfRange: beyond `end`; kLimitExceeded.
  ErrorCode error = ErrorCode::kOk;
  Position position;  // recorded now
};

class GroupPositions {
 public:
  explicit GroupPositions(size_t positions_max = limits::kGroupPositionsPerShardMax)
      : positions_max_(positions_max) {}

  struct Commit {
    CommitKind kind = CommitKind::kCommit;
    uint32_t epoch = 0;
    Offset offset;
    Offset end;  // of the partition
    int64_t now_ms = 0;
  };

  CommitOutcome commit(std::string_view group, PartitionId partition, const Commit& commit);
  // The epoch grows by one; kLimitExceeded: there is no room for another position.
  CommitOutcome lease(std::string_view group, PartitionId partition);
  // How many were forgotten.
  size_t drop_group(std::string_view group);
  void drop_partition(PartitionId partition);

  using OfGroup = std::map<PartitionId, Position>;

  // nullptr: none.
  [[nodiscard]] const Position* find(std::string_view group, PartitionId partition) const;
  [[nodiscard]] const OfGroup* find(std::string_view group) const;

  [[nodiscard]] const std::map<std::string, OfGroup, std::less<>>& groups() const {
    return groups_;
  }

  [[nodiscard]] size_t size() const { return size_; }

  // Independent of the order of changes.
  [[nodiscard]] uint64_t hash() const { return hash_; }

  // --- checkpoint: keys "G" partition (topic, index), group
  void freeze(kv::WriteBatch& batch);
  void commit_done();
  void commit_failed();
  // Requires: empty. kCorrupted for a value that does not decode.
  Status load(kv::ReadView& view);

 private:
  using Name = std::pair<PartitionId, std::string>;

  static bool raise_epoch(Position& position);
  CommitOutcome record(std::string_view group, PartitionId partition, const Position& position);
  void forget(std::string_view group, PartitionId partition, const Position& position);
  Status load_one(std::string_view key, std::string_view value);

  size_t positions_max_;
  size_t size_ = 0;
  std::map<std::string, OfGroup, std::less<>> groups_;
  std::set<Name> dirty_;
  std::set<Name> frozen_;
  uint64_t hash_ = 0;
};

}  // namespace tidemark::group

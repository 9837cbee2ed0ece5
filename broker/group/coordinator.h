// Coordinator: who of a consumer group works on which partitions. Soft state of the metadata
// shard's leader: everything that must survive is the epoch and the position of each partition,
// which lie in the log of the partition's shard. After a restart the members tell what they work
// on.
//
// A partition within its group:
//
//   free --planned for a member--> leasing --leased (epoch)--> owned --planned for another--+
//    ^                                ^                          |                          |
//    |                                +---- left out of `owned` -+------------- revoking <--+
//    +---- its member is gone (left, timed out, replaced): planned for another
//
// Cooperative and sticky: a rebalance moves as few partitions as make the loads differ by at most
// one; a partition that moves is taken from its member first (the next answer does not have it),
// and is leased to the next one when the member no longer works on it. The others are not touched.
// A member that leaves out what it did list and still has assigned lost it (its epoch was refused):
// it gets the partition with another epoch. Epochs may also grow while a member has the partition,
// when a lease was given twice: the one in the last answer is to be used.
//
// Deterministic, without I/O; time is an argument (monotonic). Thread: the shard's loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "log/base/clock.h"
#include "log/base/ids.h"
#include "log/base/result.h"

namespace tidemark::group {

struct OwnedPartition {
  PartitionId partition;
  uint32_t epoch = 0;

  friend auto operator<=>(const OwnedPartition&, const OwnedPartition&) = default;
};

struct Heartbeat {
  std::string group;
  std::string member;
  // Counts when the member is new: it replaces the one that has this instance, which gets kFenced
  // from then on. A member that has a generation is not new.
  std::string instance = {};
  std::vector<std::string> topics = {};
  uint32_t session_timeout_ms = 10'000;
  uint32_t wait_ms = 0;
  uint64_t generation = 0;  // of the last answer that the member has
  std::vector<OwnedPartition> owned = {};
  bool leave = false;
};

struct HeartbeatAnswer {
  // kFenced: replaced; kLimitExceeded: no room for another member; kInvalidArgument.
  Status status;
  uint64_t generation = 0;
  std::vector<OwnedPartition> assigned;
  uint32_t members = 0;
};

// A partition to be leased: its shard is asked for the next epoch.
struct LeaseWanted {
  std::string group;
  PartitionId partition;
};

struct MemberInfo {
  std::string member;
  std::string instance;
  std::vector<std::string> topics;
  std::vector<OwnedPartition> assigned;
  int64_t heard_ms_ago = 0;
  uint32_t session_timeout_ms = 0;
};

class Coordinator {
 public:
  // What the coordinator knows of topics: partitions of a name, empty if there is none (now).
  using Partitions = std::function<std::vector<PartitionId>(std::string_view topic)>;

  // `claims_ms`: after the start members have this long to say what they work on before partitions
  // of their groups are given to others. The start is the first call that has a time. Of claims to
  // one partition the highest epoch wins, later as well.
  explicit Coordinator(Partitions partitions, int64_t claims_ms = 3'000);
  ~Coordinator();
  Coordinator(const Coordinator&) = delete;
  Coordinator& operator=(const Coordinator&) = delete;

  using Ticket = uint64_t;  // of whoever waits for an answer

  // The answer comes from take_answers(), at this or a later call; each ticket once: at once if the
  // member has another generation than its own, else when that changes or after wait_ms (at most a
  // third of the session timeout). A second heartbeat of a member answers the one that waits.
  void heartbeat(const Heartbeat& heartbeat, Ticket ticket, MonotonicTime now);
  // The connection of a waiting heartbeat is gone.
  void forget(Ticket ticket);
  // The partition's shard gave this epoch.
  void leased(std::string_view group, PartitionId partition, uint32_t epoch, MonotonicTime now);
  // Topics changed: subscriptions are looked at again.
  void topics_changed(MonotonicTime now);
  // Members that were not heard of for their session timeout are gone; heartbeats that waited long
  // enough are answered.
  void tick(MonotonicTime now);

  // They tell what is assigned now: taken once for several calls, they hold the news of all.
  [[nodiscard]] std::vector<std::pair<Ticket, HeartbeatAnswer>> take_answers();
  // To be asked for again until leased() comes: those wanted now, each at most twice a second.
  [[nodiscard]] std::vector<LeaseWanted> take_leases(MonotonicTime now);
  // All that wait are answered with this status: leadership was lost, or the broker stops. Groups
  // are forgotten, and the next call that has a time is a start: who does not lead makes none.
  void fail_all(const Status& status);

  [[nodiscard]] size_t members(std::string_view group) const;
  [[nodiscard]] size_t members() const;

  struct GroupInfo {
    uint64_t generation = 0;
    std::vector<MemberInfo> members;
  };

  // nullopt: no such group here.
  [[nodiscard]] std::optional<GroupInfo> describe(std::string_view group, MonotonicTime now) const;
  [[nodiscard]] std::vector<std::pair<std::string, size_t>> list() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidemark::group

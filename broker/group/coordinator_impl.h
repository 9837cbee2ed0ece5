// What the coordinator keeps of groups, and how it works: internal to coordinator.cc (members and
// their heartbeats) and partition_owners.cc (who works on what).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "broker/group/coordinator.h"
#include "log/base/clock.h"
#include "log/base/ids.h"
#include "log/base/result.h"

namespace tidemark::group {

inline constexpr int64_t kNsPerMs = 1'000'000;

inline MonotonicTime after(MonotonicTime time, int64_t ms) { return {time.ns + ms * kNsPerMs}; }

struct Group;
struct Member;

struct Topic {
  uint32_t number = 0;   // while a plan is made
  uint32_t members = 0;  // that subscribe to it
  std::vector<PartitionId> partitions;
};

using Topics = std::map<std::string, Topic, std::less<>>;
using TopicEntry = Topics::value_type;

// A partition within its group. place() makes the edges.
//
//   owner  target
//   -      -       free
//   -      member  leasing, for the target
//   member same    owned: the owner is told that it is assigned
//   member other   revoking: the owner may still work on it, until it says otherwise or is gone
struct Slot {
  Group* group = nullptr;
  TopicEntry* topic = nullptr;
  PartitionId id;
  uint64_t serial = 0;  // names it in the order of leases
  Member* owner = nullptr;
  Member* target = nullptr;
  uint32_t epoch = 0;  // the highest that we know of
  // The owner's generation that told it of its present state, and when.
  uint64_t told = 0;
  MonotonicTime told_at;
  bool listed = false;               // the owner said that it works on it
  int64_t ask_after_ns = INT64_MIN;  // for a lease
};

struct Member {
  Group* group = nullptr;
  std::string id;
  std::string instance;
  std::string replaced;  // who had the instance before
  uint64_t serial = 0;   // names it in the order of deadlines
  std::vector<std::string> topics_sent;
  std::vector<TopicEntry*> topics;  // by name
  uint32_t session_timeout_ms = 0;
  MonotonicTime heard;
  uint64_t generation = 0;
  uint64_t changed_in = 0;  // operation
  uint32_t number = 0;      // while a plan is made
  std::map<PartitionId, Slot*> owns;
  std::map<PartitionId, Slot*> awaits;        // it is their target, but not yet their owner
  std::optional<Coordinator::Ticket> ticket;  // that waits
  int64_t session_ends_ns = 0;
  int64_t wait_ends_ns = 0;
};

struct Group {
  std::string name;
  uint64_t generation = 0;
  uint64_t counted_in = 0;  // operation
  bool is_stale = false;    // needs another plan
  Topics topics;
  std::map<PartitionId, Slot> slots;
  std::map<std::string, Member, std::less<>> members;
  std::map<std::string, Member*, std::less<>> instances;
};

// Every public call is one operation: begin(), changes, settle().
struct Coordinator::Impl {
  Impl(Partitions partitions_of, int64_t claims)
      : partitions(std::move(partitions_of)), claims_ms(claims) {}

  void begin(MonotonicTime now);
  void settle();

  // --- members
  void heartbeat(const Heartbeat& heartbeat, Ticket ticket, MonotonicTime now);
  Result<Member*> admit(const Heartbeat& heartbeat);
  Status check_room(const Group* group) const;
  Member& enter(Group& group, const Heartbeat& heartbeat);
  void leave(const Heartbeat& heartbeat, Ticket ticket);
  void remove(Member& member, Member* heir, const Status& status);
  void subscribe(Member& member, const std::vector<std::string>& topics);
  void unsubscribe(Member& member);
  void hear(Member& member, const Heartbeat& heartbeat, MonotonicTime now);

  // --- what they work on
  void read_owned(Member& member, const Heartbeat& heartbeat, MonotonicTime now);
  void claim(Member& member, Slot& slot, uint32_t epoch);
  void grant(Slot& slot, Member& member, uint32_t epoch);
  void release(Slot& slot);
  void disown(Member& member, Member* heir);
  void retarget(Slot& slot, Member* target);
  void place(Slot& slot, Member* owner, Member* target);
  void tell(Slot& slot);
  void set_asked(Slot& slot, int64_t ask_after_ns);
  void leased(Slot& slot, uint32_t epoch);

  // --- plans
  void mark_stale(Group& group);
  void plan(Group& group);
  bool refresh(Group& group, TopicEntry& topic);
  void drop(Group& group, PartitionId id);
  void prune_topics(Group& group);

  // --- answers
  void touch(Member& member);
  HeartbeatAnswer answer_of(const Member& member) const;
  void wait(Member& member, Ticket ticket, uint32_t wait_ms);
  void stop_waiting(Member& member);

  Partitions partitions;
  int64_t claims_ms;
  // Until then nothing is planned; set by the first operation.
  std::optional<MonotonicTime> claims_end;
  bool is_claiming = true;

  MonotonicTime now;
  uint64_t operation = 0;
  uint64_t next_serial = 1;
  size_t member_count = 0;
  std::map<std::string, Group, std::less<>> groups;
  std::vector<Group*> stale;
  std::vector<std::pair<Ticket, HeartbeatAnswer>> answers;

  // Tickets to be answered with what is assigned when the answers are taken.
  std::vector<Ticket> ready;
  std::map<Ticket, Member*> waiting;
  using Order = std::pair<int64_t, uint64_t>;  // ns, serial
  std::map<Order, Member*> sessions;
  std::map<Order, Member*> waits;
  std::map<Order, Slot*> leases;
};

}  // namespace tidemark::group

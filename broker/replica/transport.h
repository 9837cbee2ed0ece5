// What replicas of one shard say to each other, and the seam through which it leaves. The network
// implements PeerTransport; nothing here knows raft.h.
#pragma once

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include "log/base/bytes.h"
#include "log/base/ids.h"
#include "log/log.h"

namespace tidemark::replica {

// One log entry on its way to a follower.
struct PeerEntry {
  LogIndex index;
  Term term;
  log::EntryKind kind = log::EntryKind::kCommand;
  LogPosition position;  // of the entry header
  uint32_t payload_bytes = 0;
  // Absent if it is no longer in memory: the transport reads it from the log, off the loop.
  std::optional<SharedBytes> payload;
};

struct AppendEntries {
  Term term;
  LogIndex previous_index;
  Term previous_term;
  LogIndex leader_commit;
  std::vector<PeerEntry> entries;  // none: a heartbeat
};

struct AppendEntriesResult {
  Term term;
  LogIndex rejected;  // 0: accepted
  LogIndex last_index;
};

struct RequestVote {
  Term term;
  NodeId candidate;
  LogIndex last_index;
  Term last_term;
  bool disrupt_leader = false;
  bool pre_vote = false;
};

struct RequestVoteResult {
  Term term;
  bool granted = false;
  std::optional<bool> pre_vote;  // absent: the sender does not say
};

struct InstallSnapshot {
  Term term;
  LogIndex last_index;
  Term last_term;
  LogIndex configuration_index;
  std::vector<uint8_t> configuration;
  std::vector<uint8_t> data;
};

struct TimeoutNow {
  Term term;
  LogIndex last_index;
  Term last_term;
};

struct PeerMessage {
  ShardId shard;
  NodeId from;
  NodeId to;
  std::variant<AppendEntries, AppendEntriesResult, RequestVote, RequestVoteResult, InstallSnapshot,
               TimeoutNow>
      body;
};

class PeerTransport {
 public:
  virtual ~PeerTransport() = default;
  // Takes the message and returns at once, without calling back into the replica. May lose it,
  // never duplicates it; messages to one peer arrive in order or not at all. On the shard's loop.
  virtual void send(PeerMessage&& message) = 0;
};

}  // namespace tidemark::replica

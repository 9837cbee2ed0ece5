// Consensus: what a shard sees of replication. A proposal becomes an entry of the shard's log; once
// it is committed it is applied, in order, exactly once per run of the process. Nobody above this
// interface knows raft.
//
// Thread: the shard's loop. Callbacks fire on it, never inside propose().
#pragma once

#include <cstdint>

#include "log/base/bytes.h"
#include "log/base/clock.h"
#include "log/base/function.h"
#include "log/base/ids.h"
#include "log/base/result.h"
#include "log/log.h"

namespace tidemark::replica {

enum class Role { kFollower, kCandidate, kLeader, kStopped };

// A committed command entry.
struct CommittedEntry {
  LogIndex index;
  Term term;
  LogPosition position;  // of the entry header; its payload starts log::kEntryHeaderBytes later
  SharedBytes payload;
};

// The replicated state machine (the shard).
class StateMachine {
 public:
  virtual ~StateMachine() = default;
  // Must be deterministic: depends on nothing but the entries applied before.
  virtual void apply(const CommittedEntry& entry) = 0;
  // Role or term changed. After leadership was lost, entries proposed in older terms and not yet
  // applied have an unknown outcome until something is applied at their index.
  virtual void on_role(Role role, Term term) = 0;
};

class Consensus {
 public:
  virtual ~Consensus() = default;

  // Appends a command. Returns its index; apply() at that index in the same term is its success.
  // kNotLeader; kTooLarge; kReadOnly after a storage failure; kShuttingDown after stop(). kDiskFull
  // (no space could be taken) and kOverloaded (space is still being taken): nothing was appended,
  // try again. With log::Room::kReserved it may use the space that reserve() keeps.
  virtual Result<LogIndex> propose(SharedBytes payload, log::Room room = log::Room::kOrdinary) = 0;

  // Log::set_reserve() and Log::reserve_kept(): space for proposals that must succeed on a full
  // disk. A proposal that promises such a one raises the reserve first: it is refused, then, if
  // the space for both is not there.
  virtual void reserve(uint64_t bytes) = 0;
  [[nodiscard]] virtual bool reserve_kept() const = 0;

  [[nodiscard]] virtual Role role() const = 0;
  [[nodiscard]] virtual Term term() const = 0;
  [[nodiscard]] virtual LogIndex last_applied() const = 0;

  // Elections, heartbeats, retries. Called about every 10 ms.
  virtual void tick(MonotonicTime now) = 0;

  // The views up to `covered` are durable outside the log: older entries need not be kept in memory
  // and, after a snapshot record was written, the log prefix below `low_position` may be dropped.
  // `low_position` is the first position that any view still refers to.
  virtual void checkpointed(LogIndex covered, LogPosition low_position) = 0;

  // Ok, or why no proposal can succeed any more in this process.
  [[nodiscard]] virtual const Status& failure() const = 0;

  // Stops; `done` fires later on the loop, when nothing of it runs any more. The state machine is
  // not called from now on; proposals that were not applied yet have an unknown outcome.
  virtual void stop(MoveOnlyFunction<void()> done) = 0;
};

}  // namespace tidemark::replica

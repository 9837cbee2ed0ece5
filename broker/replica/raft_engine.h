// RaftEngine: Consensus by libraft over our own raft_io (raft_io.h), in which the segment log is
// the raft log.
//
// Handle mode: libraft holds a 16-byte handle per entry; the payload lives once in a
// reference-counted buffer (until it is applied and evicted from the log's tail cache) and once in
// the segment.
//
// Memory: libraft forgets entries by itself, whatever the checkpoint does. It holds
// trailing_entries, at most limits::kRaftEntriesPerTrim more, and what is not applied yet. Of the
// entries since the last checkpoint, 24 bytes each are kept.
//
// Restart: checkpointed() writes a manifest into the log; a start begins behind it and never needs
// anything that the views have not made durable.
//
// One engine per shard, owned by one loop; nothing here is synchronised. start() must not run on
// two threads at once: libraft initialises a global.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "broker/replica/consensus.h"
#include "log/log.h"

namespace tidemark::replica {

// A member of the group.
struct Member {
  NodeId id;
  std::string address;  // host:port
};

struct RaftOptions {
  uint64_t cluster_id = 0;
  ShardId shard;
  NodeId node;
  std::vector<Member> initial_members;  // used when the log is empty; has `node` in it
  uint32_t heartbeat_ms = 50;
  uint32_t election_timeout_ms = 500;
  // Entries kept in libraft's memory behind the snapshot, for followers that lag a little.
  uint32_t trailing_entries = 8192;
  uint64_t random_seed = 0;
};

// Runs callbacks on the loop at the next turn (libraft must not be re-entered from its own calls).
class Deferrer {
 public:
  virtual ~Deferrer() = default;
  virtual void defer(MoveOnlyFunction<void()> callback) = 0;
};

class RaftEngine final : public Consensus {
 public:
  // Starts: takes a new term and applies every committed entry after `applied` (what the views
  // already cover; both 0 if there are none) to `machine`, reading payloads from disk. Blocking
  // (start-up). Returns as leader, with everything applied; `machine` was told both inside the
  // call.
  //
  // If `applied` is behind the manifest in the log (the checkpoint was deleted or is older), the
  // entries between are read from the log and applied as well.
  //
  // kInvalidArgument for options that make no sense, for more than one member (there is no
  // transport to peers) and for the log of another group; kCorrupted if the log does not reach
  // back to `applied`, ends before it, or has another entry there; what reading the log gives.
  // After an error nothing is left running; `log` may hold a vote more.
  //
  // `log`, `clock`, `deferrer` and `machine` outlive the engine.
  static Result<std::unique_ptr<RaftEngine>> start(log::Log& log, Clock& clock, Deferrer& deferrer,
                                                   StateMachine& machine, RaftOptions options,
                                                   LogIndex applied,
                                                   LogPosition applied_next_position);
  // Requires: stopped, or running (the death of a simulated process), not between the two.
  ~RaftEngine() override;

  Result<LogIndex> propose(SharedBytes payload, log::Room room = log::Room::kOrdinary) override;
  void reserve(uint64_t bytes) override;
  [[nodiscard]] bool reserve_kept() const override;
  [[nodiscard]] Role role() const override;
  [[nodiscard]] Term term() const override;
  [[nodiscard]] LogIndex last_applied() const override;
  void tick(MonotonicTime now) override;
  void checkpointed(LogIndex covered, LogPosition low_position) override;
  [[nodiscard]] const Status& failure() const override;
  void stop(MoveOnlyFunction<void()> done) override;

  // Entries that libraft holds in memory, for metrics and tests of the bound.
  [[nodiscard]] size_t resident_entries() const;

 private:
  class Impl;
  explicit RaftEngine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidemark::replica

// RaftIo: libraft's disk and network, over the shard's Log. The segment log is the raft log;
// nothing is written twice.
//
// Handles: libraft holds an EntryHandle per command instead of its payload. The handle's pointer is
//          valid only inside the libraft call that brought the entry in (raft_apply, or a message
//          that is received); append() resolves it there.
//
// Order:   entries, votes and truncations go into one ordered log, and their completions come back
//          in order.
//
// Votes:   set_term and set_vote must be durable before anything is sent. They are appended like
//          everything else, and every message waits in `held_` until the vote it was sent under is
//          durable.
//
// Turns:   libraft touches its requests after send(), append() and snapshot_put() have returned, so
//          no completion fires inside them: append's come from the log, all others from a deferred
//          turn.
//
// Errors:  no method returns one and no append completes with one: libraft 0.15 truncates and
//          reuses (index, term) after a failed append. When the log fails, its appends stay open
//          and close() completes them.
//
// Memory:  libraft's own snapshot only trims what it holds in memory, so it is taken every
//          kRaftEntriesPerTrim entries and writes nothing. What survives a restart is the manifest
//          that checkpointed() writes, which is never beyond what the views have made durable;
//          load() starts libraft there.
//
// Owner:   RaftEngine. Thread: the shard's loop.
#pragma once

extern "C" {
#include <raft.h>
}

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "broker/replica/entry_table.h"
#include "broker/replica/raft_configuration.h"
#include "broker/replica/raft_engine.h"
#include "broker/replica/transport.h"
#include "log/base/clock.h"
#include "log/base/random.h"
#include "log/log.h"

namespace tidemark::replica {

// What libraft stores as the data of a command entry.
struct EntryHandle {
  const SharedBytes* payload;  // nullptr for an entry that was loaded from disk
  uint64_t payload_bytes;
};

static_assert(sizeof(EntryHandle) == 16);

class RaftIo {
 public:
  struct Environment {
    log::Log& log;
    Clock& clock;
    Deferrer& deferrer;
    PeerTransport* transport = nullptr;  // nullptr: no peer can be reached
    ShardId shard;
    NodeId node;
    uint64_t random_seed = 0;
  };

  explicit RaftIo(const Environment& environment);
  ~RaftIo();  // Requires: closed, or libraft was never initialised with it.
  RaftIo(const RaftIo&) = delete;
  RaftIo& operator=(const RaftIo&) = delete;

  // For raft_init().
  raft_io* get() { return &io_; }

  // Reads from the log's headers what raft_start() will load, and also the entries from `applied`
  // on if the views are behind the manifest. Blocking. kCorrupted if the log and `applied` do not
  // fit together.
  Status recover(LogIndex applied, LogPosition applied_next_position);

  // The log holds neither entries nor a manifest.
  [[nodiscard]] bool pristine() const { return table_.size() == 0 && !manifest_; }

  // The newest configuration that is stored. Requires: not pristine.
  [[nodiscard]] Result<std::vector<Server>> stored_configuration() const;

  // Takes the next term with this node's vote in it; for a lone voter, before raft_start(). libraft
  // makes it leader without a new term, and after a crash that lost entries it would give their
  // (index, term) to others.
  void elect_self();

  // Fires after libraft was entered from a completion: look at its state.
  void on_activity(MoveOnlyFunction<void()> callback) { on_activity_ = std::move(callback); }

  // Runs libraft's clock.
  void tick();

  [[nodiscard]] const EntryTable& table() const { return table_; }

  // The payload of a stored entry: from memory, else (entries that were loaded at start) from disk,
  // blocking.
  [[nodiscard]] Result<SharedBytes> payload(LogIndex index) const;

  // The machine has seen everything up to `last`.
  void release_commands(LogIndex last) { table_.release_commands(last); }

  // See Consensus::checkpointed(). Skips the manifest while the membership is changing or changed
  // after `covered`; the next checkpoint writes it.
  void checkpointed(LogIndex covered, LogPosition low_position);

  // From now on close() does its work inside the call: for a start that failed and for the death of
  // a simulated process.
  void close_at_once() { close_at_once_ = true; }

 private:
  // Outlives the object in callbacks that may fire too late; `io` is nullptr then.
  struct Gate {
    RaftIo* io;
  };

  struct PendingAppend {
    raft_io_append* request;
    unsigned entries_left;  // not yet durable
  };

  struct HeldMessage {
    uint64_t vote_sequence = 0;
    PeerMessage message;
  };

  // Index, term and membership of libraft's last snapshot.
  struct SnapshotPoint {
    LogIndex index;
    Term term;
    LogIndex configuration_index;
    std::vector<uint8_t> configuration;
  };

  static RaftIo& of(raft_io* io) { return *static_cast<RaftIo*>(io->impl); }

  static int io_init(raft_io* io, raft_id id, const char* address);
  static void io_close(raft_io* io, raft_io_close_cb callback);
  static int io_load(raft_io* io, raft_term* term, raft_id* voted_for, raft_snapshot** snapshot,
                     raft_index* start_index, raft_entry** entries, size_t* count);
  static int io_start(raft_io* io, unsigned tick_ms, raft_io_tick_cb tick, raft_io_recv_cb receive);
  static int io_bootstrap(raft_io* io, const raft_configuration* configuration);
  static int io_recover(raft_io* io, const raft_configuration* configuration);
  static int io_set_term(raft_io* io, raft_term term);
  static int io_set_vote(raft_io* io, raft_id server);
  static int io_send(raft_io* io, raft_io_send* request, const raft_message* message,
                     raft_io_send_cb callback);
  static int io_append(raft_io* io, raft_io_append* request, const raft_entry* entries,
                       unsigned count, raft_io_append_cb callback);
  static int io_truncate(raft_io* io, raft_index index);
  static int io_snapshot_put(raft_io* io, unsigned trailing, raft_io_snapshot_put* request,
                             const raft_snapshot* snapshot, raft_io_snapshot_put_cb callback);
  static int io_snapshot_get(raft_io* io, raft_io_snapshot_get* request,
                             raft_io_snapshot_get_cb callback);
  static raft_time io_time(raft_io* io);
  static int io_random(raft_io* io, int low, int high);

  Status recover_entry(const log::EntryInfo& entry);
  raft_entry make_entry(LogIndex index) const;
  raft_snapshot* make_snapshot(const SnapshotPoint& point) const;
  void append_entry(log::EntryKind kind, Term term, SharedBytes payload, bool counted);
  void on_entry_durable();
  void append_vote();
  void on_vote_durable();
  PeerMessage make_message(const raft_message& message) const;
  AppendEntries make_append_entries(const raft_append_entries& message) const;
  void on_manifest_durable(const SnapshotPoint& point, LogPosition next_position);
  void drop_log_prefix();
  void trim_table();
  void schedule_turn();
  void run_turn();
  void finish_close();
  void notify();

  log::Log& log_;
  Clock& clock_;
  Deferrer& deferrer_;
  PeerTransport* transport_;
  const ShardId shard_;
  const NodeId node_;
  Random random_;

  raft_io io_{};
  raft_io_tick_cb tick_callback_ = nullptr;
  MoveOnlyFunction<void()> on_activity_;
  std::shared_ptr<Gate> gate_;

  EntryTable table_{LogIndex(1)};
  std::deque<PendingAppend> pending_appends_;

  log::Vote vote_;
  uint64_t votes_appended_ = 0;
  uint64_t votes_durable_ = 0;
  std::deque<HeldMessage> held_;

  // The newest durable manifest, and the position after it.
  std::optional<SnapshotPoint> manifest_;
  LogPosition manifest_next_position_;
  LogIndex manifest_written_;  // index of the newest manifest that was appended, durable or not
  LogPosition low_position_;   // no view refers to anything below
  std::optional<SnapshotPoint> trimmed_;  // libraft's own last snapshot; absent: manifest_

  bool turn_scheduled_ = false;
  std::deque<raft_io_send*> pending_sends_;
  std::deque<raft_io_snapshot_get*> pending_gets_;
  raft_io_snapshot_put* pending_put_ = nullptr;

  raft_io_close_cb close_callback_ = nullptr;
  bool close_at_once_ = false;
};

}  // namespace tidemark::replica

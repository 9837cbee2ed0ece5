// ShardRuntime: one shard with everything it stands on (log, checkpoint store, consensus), built on
// seams, so that the server and the simulator run the same code.
//
// Thread: the shard's loop, for every call. open() and nothing else blocks.
// Turn: the owner calls receive()/receive_mail() as things arrive, flush() at the end of each turn
// of its loop (what was gathered becomes one log entry) and tick() about every 10 ms.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "broker/kv/key_value_store.h"
#include "broker/replica/raft_engine.h"
#include "broker/shard/session.h"
#include "log/base/clock.h"
#include "log/base/executor.h"
#include "log/base/file_system.h"
#include "log/log.h"
#include "timerwheel/tiered_wheel.h"

namespace tidemark::shard {

// The world of a shard; everything outlives the runtime except `store`, which it owns.
struct Environment {
  FileSystem& file_system;
  Clock& clock;
  Executor& disk;        // ordered, one worker: the log's writes and syncs
  Executor& checkpoint;  // ordered: commits to the store
  Executor& reads;       // any order: cold reads of log and store
  replica::Deferrer& deferrer;
  Outbox& outbox;
  std::unique_ptr<kv::KeyValueStore> store;
};

struct ShardOptions {
  std::string log_directory;  // exists
  uint64_t cluster_id = 0;
  ShardId shard;
  uint16_t shard_count = 1;
  NodeId node;
  std::string advertised_host;
  uint16_t advertised_port = 0;
  uint64_t segment_bytes = limits::kSegmentBytesDefault;
  log::FsyncPolicy fsync;
  size_t write_buffer_bytes = limits::kWriteBufferBytesPerShardDefault;
  size_t tail_cache_bytes = limits::kTailCacheBytesPerShardDefault;
  uint64_t checkpoint_log_bytes = limits::kCheckpointLogBytes;
  int64_t checkpoint_interval_ms = limits::kCheckpointIntervalMs;
  int64_t retention_interval_ms = limits::kRetentionIntervalMs;
  uint64_t compaction_bytes_min = limits::kCompactionBytesMin;
  size_t compaction_keys_max = limits::kCompactionKeysMax;
  size_t compaction_moves_max = limits::kCompactionMovesMax;
  int64_t txn_pending_age_ms = limits::kTxnPendingAgeMsDefault;
  int64_t txn_outcome_age_ms = limits::kTxnOutcomeAgeMsDefault;
  uint64_t random_seed = 0;
  timerwheel::TieredOptions wheel = {.memory_entries_max = limits::kWheelEntriesPerShardDefault};
};

// How late delayed messages were shown: upper bounds in ms, and counts up to each.
struct LatenessCounts {
  static constexpr std::array<uint64_t, 12> kBoundsMs = {1,   2,   5,     10,    20,     50,
                                                         100, 200, 1'000, 5'000, 60'000, 3'600'000};
  std::array<uint64_t, kBoundsMs.size() + 1> counts{};
  uint64_t sum_ms = 0;

  void record(uint64_t late_ms) {
    const auto* const at = std::lower_bound(kBoundsMs.begin(), kBoundsMs.end(), late_ms);
    ++counts[static_cast<size_t>(at - kBoundsMs.begin())];
    sum_ms += late_ms;
  }
};

// Numbers for /metrics and describe; a copy, may cross threads.
struct ShardStats {
  uint16_t shard = 0;
  bool leader = false;
  bool read_only = false;
  bool disk_full = false;
  uint64_t topics = 0;  // metadata shard only
  uint64_t partitions = 0;
  uint64_t messages_in = 0;  // since start
  uint64_t bytes_in = 0;
  uint64_t batches_in = 0;
  uint64_t duplicates = 0;          // batches that their producer repeated
  uint64_t duplicate_messages = 0;  // by their ids
  uint64_t messages_out = 0;
  uint64_t bytes_out = 0;
  uint64_t refused_overloaded = 0;
  uint64_t refused_disk_full = 0;
  uint64_t fetch_waiters = 0;
  uint64_t cold_reads = 0;
  uint64_t fetch_filtered = 0;  // messages left out of replies
  uint64_t fetch_expired = 0;
  uint64_t compactions = 0;             // runs that ended, since start
  uint64_t compacted_bytes = 0;         // written again by them
  uint64_t compaction_freed_bytes = 0;  // of batches, that nothing refers to any more
  uint64_t applied_index = 0;
  uint64_t checkpoint_index = 0;
  uint64_t checkpoints = 0;
  uint64_t unsynced_bytes = 0;
  uint64_t log_first_position = 0;
  uint64_t log_next_position = 0;
  uint64_t log_segments = 0;
  uint64_t log_file_bytes = 0;
  uint64_t syncs = 0;
  uint64_t sync_ns_total = 0;
  uint64_t sync_ns_max = 0;
  uint64_t bytes_written = 0;
  uint64_t store_bytes = 0;
  uint64_t resident_entries = 0;
  // Delayed messages; since start, but for what is pending.
  uint64_t delays_in = 0;
  uint64_t delays_fired = 0;
  uint64_t delays_cancelled = 0;
  uint64_t delays_rescheduled = 0;
  uint64_t delays_late_skipped = 0;
  uint64_t delays_dead_lettered = 0;
  uint64_t relocated_bytes = 0;
  uint64_t delays_overdue = 0;
  // Due within a minute, an hour, a day, 30 days, later; as exact as buckets of 65,536 ms.
  static constexpr std::array<int64_t, 4> kHorizonsMs = {60'000, 3'600'000, 86'400'000,
                                                         2'592'000'000};
  std::array<uint64_t, kHorizonsMs.size() + 1> pending_by_horizon{};
  std::map<uint32_t, uint64_t> pending_by_topic;  // by topic id
  std::map<uint32_t, std::string> topic_names;    // metadata shard only
  uint64_t wheel_entries = 0;
  uint64_t wheel_memory_bytes = 0;
  LatenessCounts lateness;
  // Transactions that this shard coordinates; halves: of any, as stored here.
  uint64_t txn_open = 0;
  uint64_t txn_parked = 0;
  uint64_t txn_halves = 0;
  uint64_t txn_half_bytes = 0;
  uint64_t txn_unconfirmed = 0;   // ended ones that some shard has not followed yet
  uint64_t txn_producers = 0;     // that can be asked: their polls wait here
  int64_t txn_oldest_age_ms = 0;  // of the open and parked ones; 0: none
  uint64_t txn_begun = 0;         // since start, like all below
  uint64_t txn_committed = 0;
  uint64_t txn_rolled_back = 0;
  uint64_t txn_checks = 0;
  uint64_t txn_parkings = 0;
  uint64_t txn_refused = 0;
  // Queue mode. A queue is a consumer group and a partition.
  uint64_t queues = 0;
  uint64_t queue_memory_bytes = 0;  // of what is settled, and of failures
  uint64_t queue_receivers = 0;     // that wait
  uint64_t queue_leased = 0;
  uint64_t queue_ready = 0;     // loaded, and nobody has them
  uint64_t queue_retrying = 0;  // failed ones that wait for their time, of those loaded
  uint64_t queue_acked = 0;     // since start, like all below
  uint64_t queue_failed = 0;
  uint64_t queue_dead_lettered = 0;
  uint64_t queue_redriven = 0;
  uint64_t queue_expired = 0;
  uint64_t queue_filtered = 0;
};

class ShardRuntime {
 public:
  // Opens the views from the store, the log from there on, replays the tail, starts consensus. With
  // one voter the shard leads on return. Blocking. `report` gets what recovery found.
  static Result<std::unique_ptr<ShardRuntime>> open(Environment environment, ShardOptions options,
                                                    log::RecoveryReport* report);
  ~ShardRuntime();  // after stop() is done, or in a simulated crash (executors dropped first)
  ShardRuntime(const ShardRuntime&) = delete;
  ShardRuntime& operator=(const ShardRuntime&) = delete;

  // A request frame (any type but Hello). Answers through the outbox, at once or later, exactly
  // once unless the connection is closed before.
  void receive(const ReplyTo& from, protocol::Frame frame);
  void receive_mail(const ShardMail& mail);
  // The connection is gone: its long polls are forgotten.
  void connection_closed(uint32_t loop, uint64_t connection);
  void flush();
  void tick();
  // When flush() should be called even if nothing arrives; nullopt: tick() is enough.
  [[nodiscard]] std::optional<MonotonicTime> next_wake() const;

  // Refuses new requests, answers long polls, lets what was accepted become durable, checkpoints,
  // closes. `done` fires on the loop.
  void stop(MoveOnlyFunction<void(Status)> done);

  [[nodiscard]] ShardStats stats() const;
  // Leader and everything found in the log is applied.
  [[nodiscard]] bool ready() const;
  // Over all views; equal after the same applied entries, whatever was checkpointed or restarted in
  // between.
  [[nodiscard]] uint64_t state_hash() const;
  [[nodiscard]] LogIndex applied_index() const;

 private:
  class Impl;
  explicit ShardRuntime(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidemark::shard

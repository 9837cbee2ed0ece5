// ShardRuntime: one shard with everything it stands on (log, checkpoint store, consensus), built on
// seams, so that the server and the simulator run the same code.
//
// Thread: the shard's loop, for every call. open() and nothing else blocks.
// Turn: the owner calls receive()/receive_mail() as things arrive, flush() at the end of each turn
// of its loop (what was gathered becomes one log entry) and tick() about every 10 ms.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "broker/kv/key_value_store.h"
#include "broker/replica/raft_engine.h"
#include "broker/shard/session.h"
#include "log/base/clock.h"
#include "log/base/executor.h"
#include "log/base/file_system.h"
#include "log/log.h"

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
  uint64_t random_seed = 0;
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
  uint64_t duplicates = 0;
  uint64_t messages_out = 0;
  uint64_t bytes_out = 0;
  uint64_t refused_overloaded = 0;
  uint64_t refused_disk_full = 0;
  uint64_t fetch_waiters = 0;
  uint64_t cold_reads = 0;
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

// What one simulated run is like. Everything is drawn from the seed; each seed draws its own
// limits, so that a hundred short runs see more than one long one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "log/base/random.h"

namespace tidemark::sim {

struct Options {
  uint64_t seed = 0;
  int64_t chaos_ms = 0;  // how long faults happen; then everything heals and the rest has to finish

  // Broker.
  uint16_t shards = 1;
  uint64_t segment_bytes = 0;
  size_t tail_cache_bytes = 0;
  size_t write_buffer_bytes = 0;
  bool fsync =
      true;  // false: acknowledged before it is durable, which a run with power cuts has to notice
  uint64_t checkpoint_log_bytes = 0;
  int64_t checkpoint_interval_ms = 0;
  int64_t disk_latency_us_max = 0;

  // Clients.
  uint32_t topics = 1;
  uint32_t partitions_max = 1;
  uint32_t producers = 1;
  uint32_t consumers = 1;
  uint32_t batch_messages_max = 1;
  uint32_t value_bytes_max = 1;
  uint32_t batches_in_flight_max = 1;  // per producer and partition
  int64_t produce_interval_us_max = 0;
  int64_t network_delay_us_max = 0;
  bool retention = false;
  bool topic_changes = false;

  // Delayed messages; 0 clients: none.
  uint32_t delay_clients = 0;
  uint32_t delay_items_max = 1;
  int64_t delay_ms_max = 1;
  int64_t delay_interval_us_max = 1;
  size_t wheel_entries_max = 0;
  size_t wheel_chunk_entries = 0;
  size_t wheel_split_entries = 0;
  uint64_t wheel_lookahead = 0;

  // Transactions; 0 clients: none. A client is a name that processes take one after the other.
  uint32_t txn_clients = 0;
  uint32_t txn_groups = 1;
  uint32_t txn_parts_max = 1;  // on each of at most four partitions
  int64_t txn_interval_us_max = 1;
  uint32_t txn_timeout_ms_max = 100;
  int64_t txn_pending_age_ms = 1;
  int64_t txn_outcome_age_ms = 1;
  int64_t txn_process_ms = 1;  // mean life of a process
  bool txn_operator = false;

  // Consumer groups; 0: none.
  uint32_t groups = 0;
  uint32_t group_members = 1;  // of each
  uint32_t group_session_ms = 1'000;
  int64_t group_commit_us_max = 1;
  int64_t group_change_ms = 1;  // mean time between two changes of the members
  bool group_operator = false;

  // Groups in queue mode; 0: none.
  uint32_t queue_groups = 0;
  uint32_t queue_consumers = 1;          // of each
  uint32_t queue_visibility_ms = 1'000;  // at most
  uint32_t queue_nack_percent = 0;
  uint32_t queue_max_deliveries = 0;  // 0: there is no dead-letter topic

  // Faults: mean time between them in ms, 0: never.
  int64_t power_cut_ms = 0;
  int64_t kill_ms = 0;
  int64_t clean_stop_ms = 0;
  int64_t disk_full_ms = 0;
  int64_t sync_error_ms = 0;
  int64_t write_error_ms = 0;
  int64_t checkpoint_error_ms = 0;
  int64_t checkpoint_loss_ms = 0;  // a crash after which the checkpoints are gone
  int64_t clock_step_ms = 0;
  int64_t clock_jump_ms = 0;  // back 30 s, a day forward, or to and fro
  int64_t connection_reset_ms = 0;
  uint32_t mail_loss_percent = 0;  // of mail about consumer groups

  // A topic that is compacted by key; 0 producers: none.
  uint32_t keyed_producers = 0;
  uint32_t keyed_keys = 1;
  int64_t compact_after_ms = 0;
  int64_t tombstone_ms = 0;
  uint64_t compaction_bytes_min = 0;
  size_t compaction_keys_max = 0;
  size_t compaction_moves_max = 0;
  int64_t retention_interval_ms = 0;  // between two looks for what retention or compaction can do
  bool compaction_alone = false;      // nobody sends to other topics: old segments can go

  // How late a delayed message may be while nothing is wrong: a wheel that is tiny has to wait for
  // some checkpoints, and each for the disk.
  [[nodiscard]] int64_t lateness_ms_max() const {
    return 1'000 + 60 * disk_latency_us_max / 1'000 + 4 * network_delay_us_max / 1'000;
  }

  // Messages with a due time, whoever sends them.
  [[nodiscard]] bool has_delays() const { return delay_clients > 0 || txn_clients > 0; }

  // A topic whose messages have ids that count; 0 clients: none.
  uint32_t unique_clients = 0;
  int64_t dedupe_window_ms = 1'000;

  // A topic whose messages have tags, other headers, times to live, priorities and keys; 0
  // producers: none. Its groups are in queue mode, each with a filter.
  uint32_t label_producers = 0;
  uint32_t label_readers = 1;
  int64_t label_ttl_ms = -1;  // of the topic; -1: none
  uint32_t label_groups = 0;
  uint32_t label_workers = 1;  // of each

  // A stretch of time in which each job of a disk takes a hundred times as long; mean time between
  // two, 0: never.
  int64_t slow_disk_ms = 0;
  int64_t read_error_ms = 0;
  int64_t read_flip_ms = 0;

  // Producers of ordinary topics, delayed messages and transactions work.
  [[nodiscard]] bool has_others() const { return keyed_producers == 0 || !compaction_alone; }

  [[nodiscard]] bool reads_fail() const { return read_error_ms != 0 || read_flip_ms != 0; }

  static Options from_seed(uint64_t seed);
  // One `name=value` per word.
  [[nodiscard]] std::string to_string() const;

 private:
  void draw_compaction(Random& random);
  void draw_message_features(Random& random);
  void bound_load();
  [[nodiscard]] std::string features_to_string() const;
};

}  // namespace tidemark::sim

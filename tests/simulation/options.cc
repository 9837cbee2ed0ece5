#include "tests/simulation/options.h"

#include <initializer_list>
#include <sstream>

#include "log/base/limits.h"
#include "log/base/random.h"

namespace tidemark::sim {

namespace {

template <typename T>
T pick(Random& random, std::initializer_list<T> values) {
  return values.begin()[random.below(values.size())];
}

// Often a fault does not happen at all in a run: then others show better.
int64_t fault(Random& random, int64_t mean_ms) {
  return random.chance(1, 2) ? 0 : static_cast<int64_t>(random.between(1, 4)) * mean_ms / 2;
}

// Of all producers of a run.
constexpr int64_t kMessagesMax = 150'000;

}  // namespace

Options Options::from_seed(uint64_t seed) {
  Random random(seed * 0x9E3779B97F4A7C15ull + 1);
  Options o;
  o.seed = seed;
  o.chaos_ms = pick<int64_t>(random, {5'000, 15'000, 30'000});
  o.shards = static_cast<uint16_t>(random.between(1, 4));
  o.segment_bytes = pick<uint64_t>(random, {16'384, 65'536, 65'536, 262'144, 1'048'576, 4'194'304});
  o.tail_cache_bytes = pick<size_t>(random, {0, 4'096, 65'536, 4'194'304});
  o.write_buffer_bytes = pick<size_t>(random, {120'000, 262'144, 67'108'864});
  o.checkpoint_log_bytes = pick<uint64_t>(random, {2'048, 65'536, 67'108'864});
  o.checkpoint_interval_ms = pick<int64_t>(random, {20, 500, 5'000, 60'000'000});
  o.disk_latency_us_max = pick<int64_t>(random, {200, 5'000, 50'000});
  o.topics = static_cast<uint32_t>(random.between(1, 3));
  o.partitions_max = static_cast<uint32_t>(random.between(1, 6));
  o.producers = static_cast<uint32_t>(random.between(1, 4));
  o.consumers = static_cast<uint32_t>(random.between(1, 4));
  o.batch_messages_max = pick<uint32_t>(random, {1, 5, 50});
  o.value_bytes_max = pick<uint32_t>(random, {1, 100, 2'000});
  o.batches_in_flight_max = static_cast<uint32_t>(random.between(1, 5));
  o.produce_interval_us_max = pick<int64_t>(random, {5'000, 50'000, 200'000});
  o.network_delay_us_max = pick<int64_t>(random, {100, 5'000, 100'000});
  o.retention = random.chance(1, 3);
  o.topic_changes = random.chance(1, 2);
  o.power_cut_ms = fault(random, 3'000);
  o.kill_ms = fault(random, 3'000);
  o.clean_stop_ms = fault(random, 6'000);
  o.disk_full_ms = fault(random, 6'000);
  o.sync_error_ms = fault(random, 8'000);
  o.write_error_ms = fault(random, 8'000);
  o.checkpoint_error_ms = fault(random, 2'000);
  o.checkpoint_loss_ms = fault(random, 8'000);
  o.clock_step_ms = fault(random, 2'000);
  o.connection_reset_ms = fault(random, 500);
  o.delay_clients = pick<uint32_t>(random, {0, 1, 1, 2});
  o.delay_items_max = pick<uint32_t>(random, {1, 5, 40});
  o.delay_ms_max = pick<int64_t>(random, {50, 3'000, 20'000});
  o.delay_interval_us_max = pick<int64_t>(random, {50'000, 200'000, 500'000});
  o.wheel_entries_max = pick<size_t>(random, {16, 100, 1'000, 1 << 20});
  o.wheel_chunk_entries = pick<size_t>(random, {2, 16, 1'024});
  o.wheel_split_entries = pick<size_t>(random, {200, 1'000, 1 << 20});
  o.wheel_lookahead = pick<uint64_t>(random, {1, 100, 5'000, 60'000});
  o.clock_jump_ms = fault(random, 4'000);
  o.txn_clients = pick<uint32_t>(random, {0, 1, 2, 3});
  o.txn_groups = static_cast<uint32_t>(random.between(1, 2));
  o.txn_parts_max = pick<uint32_t>(random, {1, 2, 5});
  o.txn_interval_us_max = pick<int64_t>(random, {20'000, 100'000, 300'000});
  o.txn_timeout_ms_max = pick<uint32_t>(random, {100, 500, 2'000});
  o.txn_pending_age_ms = pick<int64_t>(random, {3'000, 20'000, 86'400'000});
  o.txn_outcome_age_ms = pick<int64_t>(random, {20'000, 86'400'000});
  o.txn_process_ms = pick<int64_t>(random, {1'000, 5'000, 1'000'000});
  o.txn_operator = random.chance(2, 3);
  o.groups = pick<uint32_t>(random, {0, 1, 1, 2});
  o.group_members = static_cast<uint32_t>(random.between(1, 5));
  o.group_session_ms = pick<uint32_t>(random, {1'000, 2'000, 6'000});
  o.group_commit_us_max = pick<int64_t>(random, {20'000, 200'000, 2'000'000});
  o.group_change_ms = pick<int64_t>(random, {300, 2'000, 1'000'000});
  o.group_operator = random.chance(2, 3);
  o.mail_loss_percent = pick<uint32_t>(random, {0, 0, 2, 30});
  o.queue_groups = pick<uint32_t>(random, {0, 1, 1, 2});
  o.queue_consumers = static_cast<uint32_t>(random.between(1, 4));
  o.queue_visibility_ms = pick<uint32_t>(random, {1'000, 1'500, 3'000});
  o.queue_nack_percent = pick<uint32_t>(random, {0, 5, 30});
  o.queue_max_deliveries = pick<uint32_t>(random, {0, 0, 1, 2, 5});
  // So few that a slot is split by more than one checkpoint.
  o.wheel_split_entries = random.chance(1, 4) ? 40 : o.wheel_split_entries;
  o.draw_compaction(random);
  o.draw_message_features(random);
  o.bound_load();
  return o;
}

// The same again shows nothing new: a few seeds would take as long as all others.
void Options::bound_load() {
  const int64_t batches =
      (producers + keyed_producers) * chaos_ms * 2'000 / produce_interval_us_max;
  const int64_t messages = batches * (batch_messages_max + 1) / 2;
  produce_interval_us_max *= (messages + kMessagesMax - 1) / kMessagesMax;
}

// New draws come behind all others: what an old seed had stays as it was.
void Options::draw_compaction(Random& random) {
  keyed_producers = pick<uint32_t>(random, {0, 0, 1, 2});
  keyed_keys = pick<uint32_t>(random, {1, 3, 40, 1'000});
  compact_after_ms = pick<int64_t>(random, {0, 0, 200, 5'000});
  tombstone_ms = pick<int64_t>(random, {0, 1'000, 86'400'000});
  compaction_bytes_min = pick<uint64_t>(random, {1, 1'000, 20'000});
  compaction_keys_max = pick<size_t>(random, {50, 1'000, 786'432});
  compaction_moves_max = pick<size_t>(random, {1, 20, 262'144});
  const auto interval_ms = pick<int64_t>(random, {50, 500, 5'000});
  compaction_alone = random.chance(1, 4);
  retention_interval_ms = keyed_producers > 0 ? interval_ms : limits::kRetentionIntervalMs;
}

void Options::draw_message_features(Random& random) {
  unique_clients = pick<uint32_t>(random, {0, 0, 1, 3});
  dedupe_window_ms = pick<int64_t>(random, {1'000, 3'000, 20'000});
  label_producers = pick<uint32_t>(random, {0, 0, 1, 2});
  label_readers = static_cast<uint32_t>(random.between(1, 2));
  label_ttl_ms = pick<int64_t>(random, {-1, -1, 2'000});
  label_groups = pick<uint32_t>(random, {0, 1, 2});
  label_workers = static_cast<uint32_t>(random.between(1, 3));
  slow_disk_ms = fault(random, 10'000);
  read_error_ms = fault(random, 8'000);
  read_flip_ms = fault(random, 4'000);
}

std::string Options::to_string() const {
  std::ostringstream out;
  out << "seed=" << seed << " chaos_ms=" << chaos_ms << " shards=" << shards
      << " segment_bytes=" << segment_bytes << " tail_cache_bytes=" << tail_cache_bytes
      << " write_buffer_bytes=" << write_buffer_bytes
      << " checkpoint_log_bytes=" << checkpoint_log_bytes
      << " checkpoint_interval_ms=" << checkpoint_interval_ms
      << " disk_latency_us_max=" << disk_latency_us_max << " topics=" << topics
      << " partitions_max=" << partitions_max << " producers=" << producers
      << " consumers=" << consumers << " batch_messages_max=" << batch_messages_max
      << " value_bytes_max=" << value_bytes_max
      << " batches_in_flight_max=" << batches_in_flight_max
      << " produce_interval_us_max=" << produce_interval_us_max
      << " network_delay_us_max=" << network_delay_us_max << " retention=" << retention
      << " topic_changes=" << topic_changes << " power_cut_ms=" << power_cut_ms
      << " kill_ms=" << kill_ms << " clean_stop_ms=" << clean_stop_ms
      << " disk_full_ms=" << disk_full_ms << " sync_error_ms=" << sync_error_ms
      << " write_error_ms=" << write_error_ms << " checkpoint_error_ms=" << checkpoint_error_ms
      << " checkpoint_loss_ms=" << checkpoint_loss_ms << " clock_step_ms=" << clock_step_ms
      << " connection_reset_ms=" << connection_reset_ms << " delay_clients=" << delay_clients
      << " delay_items_max=" << delay_items_max << " delay_ms_max=" << delay_ms_max
      << " delay_interval_us_max=" << delay_interval_us_max
      << " wheel_entries_max=" << wheel_entries_max
      << " wheel_chunk_entries=" << wheel_chunk_entries
      << " wheel_split_entries=" << wheel_split_entries << " wheel_lookahead=" << wheel_lookahead
      << " clock_jump_ms=" << clock_jump_ms << " txn_clients=" << txn_clients
      << " txn_groups=" << txn_groups << " txn_parts_max=" << txn_parts_max
      << " txn_interval_us_max=" << txn_interval_us_max
      << " txn_timeout_ms_max=" << txn_timeout_ms_max
      << " txn_pending_age_ms=" << txn_pending_age_ms
      << " txn_outcome_age_ms=" << txn_outcome_age_ms << " txn_process_ms=" << txn_process_ms
      << " txn_operator=" << txn_operator << " groups=" << groups
      << " group_members=" << group_members << " group_session_ms=" << group_session_ms
      << " group_commit_us_max=" << group_commit_us_max << " group_change_ms=" << group_change_ms
      << " group_operator=" << group_operator << " mail_loss_percent=" << mail_loss_percent
      << " queue_groups=" << queue_groups << " queue_consumers=" << queue_consumers
      << " queue_visibility_ms=" << queue_visibility_ms
      << " queue_nack_percent=" << queue_nack_percent
      << " queue_max_deliveries=" << queue_max_deliveries << features_to_string();
  return out.str();
}

std::string Options::features_to_string() const {
  std::ostringstream out;
  out << " keyed_producers=" << keyed_producers << " keyed_keys=" << keyed_keys
      << " compact_after_ms=" << compact_after_ms << " tombstone_ms=" << tombstone_ms
      << " compaction_bytes_min=" << compaction_bytes_min
      << " compaction_keys_max=" << compaction_keys_max
      << " compaction_moves_max=" << compaction_moves_max
      << " retention_interval_ms=" << retention_interval_ms
      << " compaction_alone=" << compaction_alone << " unique_clients=" << unique_clients
      << " dedupe_window_ms=" << dedupe_window_ms << " label_producers=" << label_producers
      << " label_readers=" << label_readers << " label_ttl_ms=" << label_ttl_ms
      << " label_groups=" << label_groups << " label_workers=" << label_workers
      << " slow_disk_ms=" << slow_disk_ms << " read_error_ms=" << read_error_ms
      << " read_flip_ms=" << read_flip_ms;
  return out.str();
}

}  // namespace tidemark::sim

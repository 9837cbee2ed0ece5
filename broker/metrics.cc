#include "broker/metrics.h"

#include <iterator>
#include <limits>
#include <map>
#include <sstream>
#include <string>
#include <utility>

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

namespace tidemark::broker {

namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

using Labels = std::vector<ClientMetric::Label>;

struct ShardMetric {
  const char* name;
  const char* help;
  MetricType type;
  double (*value)(const ShardReport& report);
};

struct LoopMetric {
  const char* name;
  const char* help;
  MetricType type;
  double (*value)(const LoopReport& report);
};

double number(uint64_t value) { return static_cast<double>(value); }

constexpr double kNsPerSecond = 1e9;

#define TIDEMARK_SHARD_FIELD(field) [](const ShardReport& r) { return number(r.stats.field); }
#define TIDEMARK_LOOP_FIELD(field) [](const LoopReport& r) { return number(r.field); }

constexpr ShardMetric kShardMetrics[] = {
    {"tidemark_shard_ready", "1 if the shard leads and has applied what its log held.",
     MetricType::Gauge, [](const ShardReport& r) { return r.ready ? 1.0 : 0.0; }},
    {"tidemark_shard_leader", "1 if this broker leads the shard.", MetricType::Gauge,
     [](const ShardReport& r) { return r.stats.leader ? 1.0 : 0.0; }},
    {"tidemark_shard_read_only", "1 after a storage failure; only a restart ends it.",
     MetricType::Gauge, [](const ShardReport& r) { return r.stats.read_only ? 1.0 : 0.0; }},
    {"tidemark_shard_disk_full", "1 while no disk space can be taken.", MetricType::Gauge,
     [](const ShardReport& r) { return r.stats.disk_full ? 1.0 : 0.0; }},
    {"tidemark_topics", "Topics; on the metadata shard only.", MetricType::Gauge,
     TIDEMARK_SHARD_FIELD(topics)},
    {"tidemark_partitions", "Partitions of the shard.", MetricType::Gauge,
     TIDEMARK_SHARD_FIELD(partitions)},
    {"tidemark_messages_in_total", "Messages stored.", MetricType::Counter,
     TIDEMARK_SHARD_FIELD(messages_in)},
    {"tidemark_bytes_in_total", "Bytes of record batches stored.", MetricType::Counter,
     TIDEMARK_SHARD_FIELD(bytes_in)},
    {"tidemark_batches_in_total", "Record batches stored.", MetricType::Counter,
     TIDEMARK_SHARD_FIELD(batches_in)},
    {"tidemark_duplicate_batches_total",
     "Record batches that a producer repeated and that were dropped.", MetricType::Counter,
     TIDEMARK_SHARD_FIELD(duplicates)},
    {"tidemark_duplicate_messages_total",
     "Messages not stored because one with their id was, within their topic's window.",
     MetricType::Counter, TIDEMARK_SHARD_FIELD(duplicate_messages)},
    {"tidemark_messages_out_total", "Messages sent to consumers.", MetricType::Counter,
     TIDEMARK_SHARD_FIELD(messages_out)},
    {"tidemark_bytes_out_total", "Bytes of record batches sent to consumers.", MetricType::Counter,
     TIDEMARK_SHARD_FIELD(bytes_out)},
    {"tidemark_produce_refused_overloaded_total",
     "Produce parts refused because the write buffer was full.", MetricType::Counter,
     TIDEMARK_SHARD_FIELD(refused_overloaded)},
    {"tidemark_produce_refused_disk_full_total", "Produce parts refused because the disk was full.",
     MetricType::Counter, TIDEMARK_SHARD_FIELD(refused_disk_full)},
    {"tidemark_fetch_waiters", "Long polls that wait for messages.", MetricType::Gauge,
     TIDEMARK_SHARD_FIELD(fetch_waiters)},
    {"tidemark_cold_reads_total", "Reads that the tail cache could not serve.", MetricType::Counter,
     TIDEMARK_SHARD_FIELD(cold_reads)},
    {"tidemark_fetch_filtered_total",
     "Messages that a fetch left out because its filter did not want them.", MetricType::Counter,
     TIDEMARK_SHARD_FIELD(fetch_filtered)},
    {"tidemark_fetch_expired_total",
     "Messages that a fetch left out because their time to live had passed.", MetricType::Counter,
     TIDEMARK_SHARD_FIELD(fetch_expired)},
    {"tidemark_applied_index", "Log index of the last applied entry.", MetricType::Gauge,
     TIDEMARK_SHARD_FIELD(applied_index)},
    {"tidemark_checkpoint_index", "Log index that the last checkpoint covers.", MetricType::Gauge,
     TIDEMARK_SHARD_FIELD(checkpoint_index)},
    {"tidemark_checkpoints_total", "Checkpoints of the views.", MetricType::Counter,
     TIDEMARK_SHARD_FIELD(checkpoints)},
    {"tidemark_checkpoint_store_bytes", "Bytes of the checkpoint store on disk.", MetricType::Gauge,
     TIDEMARK_SHARD_FIELD(store_bytes)},
    {"tidemark_log_unsynced_bytes", "Bytes appended to the log and not yet durable.",
     MetricType::Gauge, TIDEMARK_SHARD_FIELD(unsynced_bytes)},
    {"tidemark_log_first_position_bytes", "First position that the log still holds.",
     MetricType::Gauge, TIDEMARK_SHARD_FIELD(log_first_position)},
    {"tidemark_log_next_position_bytes", "Position of the next entry of the log.",
     MetricType::Gauge, TIDEMARK_SHARD_FIELD(log_next_position)},
    {"tidemark_log_segments", "Segment files of the log.", MetricType::Gauge,
     TIDEMARK_SHARD_FIELD(log_segments)},
    {"tidemark_log_file_bytes", "Bytes that the segment files take on disk.", MetricType::Gauge,
     TIDEMARK_SHARD_FIELD(log_file_bytes)},
    {"tidemark_log_written_bytes_total", "Bytes written to the log.", MetricType::Counter,
     TIDEMARK_SHARD_FIELD(bytes_written)},
    {"tidemark_log_syncs_total", "Syncs of the log.", MetricType::Counter,
     TIDEMARK_SHARD_FIELD(syncs)},
    {"tidemark_log_sync_seconds_total", "Time spent in write and sync of the log.",
     MetricType::Counter,
     [](const ShardReport& r) { return number(r.stats.sync_ns_total) / kNsPerSecond; }},
    {"tidemark_log_sync_seconds_max", "Longest write and sync of the log since start.",
     MetricType::Gauge,
     [](const ShardReport& r) { return number(r.stats.sync_ns_max) / kNsPerSecond; }},
    {"tidemark_raft_resident_entries", "Entries that the consensus engine holds in memory.",
     MetricType::Gauge, TIDEMARK_SHARD_FIELD(resident_entries)},
    {"tidemark_delays_in_total", "Delayed messages taken in.", MetricType::Counter,
     TIDEMARK_SHARD_FIELD(delays_in)},
    {"tidemark_compactions_total", "Runs over a partition that took out superseded messages.",
     MetricType::Counter, TIDEMARK_SHARD_FIELD(compactions)},
    {"tidemark_compaction_written_bytes_total", "Bytes of batches that compaction wrote again.",
     MetricType::Counter, TIDEMARK_SHARD_FIELD(compacted_bytes)},
    {"tidemark_compaction_freed_bytes_total",
     "Bytes of batches that compaction replaced or dropped: their place in the log is free when "
     "its segment goes.",
     MetricType::Counter, TIDEMARK_SHARD_FIELD(compaction_freed_bytes)},
    {"tidemark_delays_fired_total", "Delayed messages delivered.", MetricType::Counter,
     TIDEMARK_SHARD_FIELD(delays_fired)},
    {"tidemark_delays_cancelled_total", "Delayed messages cancelled by request.",
     MetricType::Counter, TIDEMARK_SHARD_FIELD(delays_cancelled)},
    {"tidemark_delays_rescheduled_total", "Delayed messages rescheduled.", MetricType::Counter,
     TIDEMARK_SHARD_FIELD(delays_rescheduled)},
    {"tidemark_delays_late_skipped_total",
     "Delayed messages that were too late for their topic and skipped.", MetricType::Counter,
     TIDEMARK_SHARD_FIELD(delays_late_skipped)},
    {"tidemark_delays_dead_lettered_total",
     "Delayed messages that were too late for their topic and went to its late topic.",
     MetricType::Counter, TIDEMARK_SHARD_FIELD(delays_dead_lettered)},
    {"tidemark_delays_overdue", "Delayed messages whose time was a minute ago or more.",
     MetricType::Gauge, TIDEMARK_SHARD_FIELD(delays_overdue)},
    {"tidemark_delays_relocated_bytes_total",
     "Bytes of delayed messages written again so that the log before them could go.",
     MetricType::Counter, TIDEMARK_SHARD_FIELD(relocated_bytes)},
    {"tidemark_wheel_entries",
     "Entries of the timing wheel, in memory and stored, cancelled ones included.",
     MetricType::Gauge, TIDEMARK_SHARD_FIELD(wheel_entries)},
    {"tidemark_wheel_memory_bytes", "Memory of the timing wheel.", MetricType::Gauge,
     TIDEMARK_SHARD_FIELD(wheel_memory_bytes)},
    {"tidemark_txn_open", "Transactions that have not ended and are not parked.", MetricType::Gauge,
     TIDEMARK_SHARD_FIELD(txn_open)},
    {"tidemark_txn_parked", "Transactions that wait for an operator.", MetricType::Gauge,
     TIDEMARK_SHARD_FIELD(txn_parked)},
    {"tidemark_txn_oldest_age_seconds",
     "Age of the oldest transaction that has not ended; 0 if there is none.", MetricType::Gauge,
     [](const ShardReport& r) { return static_cast<double>(r.stats.txn_oldest_age_ms) / 1000; }},
    {"tidemark_txn_halves", "Batches of half messages that wait for the end of their transaction.",
     MetricType::Gauge, TIDEMARK_SHARD_FIELD(txn_halves)},
    {"tidemark_txn_half_bytes", "Bytes of the half messages that wait for an end.",
     MetricType::Gauge, TIDEMARK_SHARD_FIELD(txn_half_bytes)},
    {"tidemark_txn_unconfirmed", "Ended transactions that some shard has yet to follow.",
     MetricType::Gauge, TIDEMARK_SHARD_FIELD(txn_unconfirmed)},
    {"tidemark_txn_producers", "Producers that wait to be asked about transactions.",
     MetricType::Gauge, TIDEMARK_SHARD_FIELD(txn_producers)},
    {"tidemark_txn_begun_total", "Transactions whose first message came.", MetricType::Counter,
     TIDEMARK_SHARD_FIELD(txn_begun)},
    {"tidemark_txn_checks_total", "Questions to producers about the outcome of a transaction.",
     MetricType::Counter, TIDEMARK_SHARD_FIELD(txn_checks)},
    {"tidemark_txn_parkings_total", "Times that a transaction was parked for an operator.",
     MetricType::Counter, TIDEMARK_SHARD_FIELD(txn_parkings)},
    {"tidemark_txn_refused_total", "Ends refused because they contradict the recorded outcome.",
     MetricType::Counter, TIDEMARK_SHARD_FIELD(txn_refused)},
    {"tidemark_queues",
     "Consumer groups in queue mode, each counted once for every partition that it works on.",
     MetricType::Gauge, TIDEMARK_SHARD_FIELD(queues)},
    {"tidemark_queue_memory_bytes", "Memory for what is settled in queue mode, and for failures.",
     MetricType::Gauge, TIDEMARK_SHARD_FIELD(queue_memory_bytes)},
    {"tidemark_queue_receivers", "Consumers in queue mode that wait for messages.",
     MetricType::Gauge, TIDEMARK_SHARD_FIELD(queue_receivers)},
    {"tidemark_queue_leased", "Messages that consumers in queue mode have now.", MetricType::Gauge,
     TIDEMARK_SHARD_FIELD(queue_leased)},
    {"tidemark_queue_ready", "Messages in memory that are ready for consumers in queue mode.",
     MetricType::Gauge, TIDEMARK_SHARD_FIELD(queue_ready)},
    {"tidemark_queue_retrying", "Messages in memory that failed and wait for their next delivery.",
     MetricType::Gauge, TIDEMARK_SHARD_FIELD(queue_retrying)},
    {"tidemark_queue_acked_total", "Messages acked in queue mode.", MetricType::Counter,
     TIDEMARK_SHARD_FIELD(queue_acked)},
    {"tidemark_queue_failed_total", "Deliveries in queue mode that failed: nacks and ended leases.",
     MetricType::Counter, TIDEMARK_SHARD_FIELD(queue_failed)},
    {"tidemark_queue_dead_lettered_total", "Messages moved to a dead-letter topic in queue mode.",
     MetricType::Counter, TIDEMARK_SHARD_FIELD(queue_dead_lettered)},
    {"tidemark_queue_redriven_total", "Dead letters that were sent back to where they came from.",
     MetricType::Counter, TIDEMARK_SHARD_FIELD(queue_redriven)},
    {"tidemark_queue_expired_total",
     "Messages settled in queue mode because their time to live had passed.", MetricType::Counter,
     TIDEMARK_SHARD_FIELD(queue_expired)},
    {"tidemark_queue_filtered_total",
     "Messages settled in queue mode because the filter of the group did not want them.",
     MetricType::Counter, TIDEMARK_SHARD_FIELD(queue_filtered)},
};

constexpr LoopMetric kLoopMetrics[] = {
    {"tidemark_connections", "Open client connections.", MetricType::Gauge,
     TIDEMARK_LOOP_FIELD(open_connections)},
    {"tidemark_connections_opened_total",
     "Client connections taken, hand-overs between loops included.", MetricType::Counter,
     TIDEMARK_LOOP_FIELD(connections.opened)},
    {"tidemark_connections_closed_total",
     "Client connections ended, hand-overs between loops included.", MetricType::Counter,
     TIDEMARK_LOOP_FIELD(connections.closed)},
    {"tidemark_connections_refused_total", "Client connections over the limit.",
     MetricType::Counter, TIDEMARK_LOOP_FIELD(connections.refused)},
    {"tidemark_connections_stalled_total",
     "Client connections closed because replies were not read.", MetricType::Counter,
     TIDEMARK_LOOP_FIELD(connections.stalled)},
    {"tidemark_connection_pauses_total", "Times that reading of a connection stopped at a bound.",
     MetricType::Counter, TIDEMARK_LOOP_FIELD(connections.paused)},
    {"tidemark_frames_in_total", "Frames received.", MetricType::Counter,
     TIDEMARK_LOOP_FIELD(connections.frames_in)},
    {"tidemark_frames_out_total", "Frames sent.", MetricType::Counter,
     TIDEMARK_LOOP_FIELD(connections.frames_out)},
    {"tidemark_net_received_bytes_total", "Bytes received from clients.", MetricType::Counter,
     TIDEMARK_LOOP_FIELD(connections.bytes_in)},
    {"tidemark_net_sent_bytes_total", "Bytes sent to clients.", MetricType::Counter,
     TIDEMARK_LOOP_FIELD(connections.bytes_out)},
    {"tidemark_frame_errors_total", "Connections closed for what they sent.", MetricType::Counter,
     TIDEMARK_LOOP_FIELD(connections.frame_errors)},
    {"tidemark_frames_rejected_total", "Frames of an unknown version or type.", MetricType::Counter,
     TIDEMARK_LOOP_FIELD(connections.rejected)},
    {"tidemark_requests_forwarded_total", "Requests passed to the loop of another shard.",
     MetricType::Counter, TIDEMARK_LOOP_FIELD(requests_forwarded)},
    {"tidemark_mailbox_overflow_messages",
     "Messages that wait for room in a mailbox to another loop.", MetricType::Gauge,
     TIDEMARK_LOOP_FIELD(mail_overflow)},
    {"tidemark_loop_turns_total", "Turns of the loop.", MetricType::Counter,
     TIDEMARK_LOOP_FIELD(turns)},
};

#undef TIDEMARK_SHARD_FIELD
#undef TIDEMARK_LOOP_FIELD

MetricFamily family(const char* name, const char* help, MetricType type) {
  MetricFamily out;
  out.name = name;
  out.help = help;
  out.type = type;
  return out;
}

void add(MetricFamily& to, Labels labels, double value) {
  ClientMetric metric;
  metric.label = std::move(labels);
  if (to.type == MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  to.metric.push_back(std::move(metric));
}

void add_process(const BrokerReport& report, std::vector<MetricFamily>& out) {
  MetricFamily& build = out.emplace_back(
      family("tidemark_build_info", "Always 1; the labels say what runs.", MetricType::Gauge));
  add(build,
      {{"version", report.version},
       {"fsync", report.fsync},
       {"cluster_id", std::to_string(report.cluster_id)},
       {"node_id", std::to_string(report.node_id)}},
      1);
  add(out.emplace_back(
          family("tidemark_start_time_seconds", "Unix time of the start.", MetricType::Gauge)),
      {}, static_cast<double>(report.started_ms) / 1000);
  add(out.emplace_back(
          family("tidemark_uptime_seconds", "Time since the start.", MetricType::Gauge)),
      {}, report.uptime_seconds);
  add(out.emplace_back(family("tidemark_resident_memory_bytes", "Memory that the process holds.",
                              MetricType::Gauge)),
      {}, number(report.resident_bytes));
}

constexpr const char* kHorizonNames[] = {"1m", "1h", "1d", "30d", "more"};
static_assert(std::size(kHorizonNames) == shard::ShardStats::kHorizonsMs.size() + 1);

void add_lateness(MetricFamily& to, const shard::ShardStats& stats) {
  ClientMetric metric;
  metric.label = {{"shard", std::to_string(stats.shard)}};
  const shard::LatenessCounts& lateness = stats.lateness;
  uint64_t count = 0;
  for (size_t i = 0; i < lateness.counts.size(); ++i) {
    count += lateness.counts[i];
    const bool last = i == lateness.kBoundsMs.size();
    metric.histogram.bucket.push_back(
        {count, last ? std::numeric_limits<double>::infinity()
                     : static_cast<double>(lateness.kBoundsMs[i]) / 1000});
  }
  metric.histogram.sample_count = count;
  metric.histogram.sample_sum = static_cast<double>(lateness.sum_ms) / 1000;
  to.metric.push_back(std::move(metric));
}

// Pending delayed messages by horizon and by topic, and how late they were.
void add_delays(const BrokerReport& report, std::vector<MetricFamily>& out) {
  MetricFamily horizons =
      family("tidemark_delays_pending", "Pending delayed messages by the time until they are due.",
             MetricType::Gauge);
  MetricFamily topics = family("tidemark_delays_pending_by_topic",
                               "Pending delayed messages by topic.", MetricType::Gauge);
  MetricFamily lateness = family("tidemark_delays_lateness_seconds",
                                 "How long after their due time delayed messages became visible.",
                                 MetricType::Histogram);
  std::map<uint32_t, std::string> names;
  for (const LoopReport& loop : report.loops) {
    for (const ShardReport& shard : loop.shards) {
      names.insert(shard.stats.topic_names.begin(), shard.stats.topic_names.end());
    }
  }
  for (const LoopReport& loop : report.loops) {
    for (const ShardReport& shard : loop.shards) {
      const std::string number_of_shard = std::to_string(shard.stats.shard);
      for (size_t i = 0; i < std::size(kHorizonNames); ++i) {
        add(horizons, {{"shard", number_of_shard}, {"due_within", kHorizonNames[i]}},
            number(shard.stats.pending_by_horizon[i]));
      }
      for (const auto& [topic, count] : shard.stats.pending_by_topic) {
        const auto name = names.find(topic);
        add(topics,
            {{"shard", number_of_shard},
             {"topic", name == names.end() ? "#" + std::to_string(topic) : name->second}},
            number(count));
      }
      add_lateness(lateness, shard.stats);
    }
  }
  out.push_back(std::move(horizons));
  out.push_back(std::move(topics));
  out.push_back(std::move(lateness));
}

void add_transactions(const BrokerReport& report, std::vector<MetricFamily>& out) {
  MetricFamily ended = family("tidemark_txn_ended_total", "Transactions that ended, by outcome.",
                              MetricType::Counter);
  for (const LoopReport& loop : report.loops) {
    for (const ShardReport& shard : loop.shards) {
      const std::string number_of_shard = std::to_string(shard.stats.shard);
      add(ended, {{"shard", number_of_shard}, {"outcome", "committed"}},
          number(shard.stats.txn_committed));
      add(ended, {{"shard", number_of_shard}, {"outcome", "rolled_back"}},
          number(shard.stats.txn_rolled_back));
    }
  }
  out.push_back(std::move(ended));
}

}  // namespace

std::string to_prometheus(const BrokerReport& report) {
  std::vector<MetricFamily> families;
  add_process(report, families);
  for (const ShardMetric& metric : kShardMetrics) {
    MetricFamily& one = families.emplace_back(family(metric.name, metric.help, metric.type));
    for (const LoopReport& loop : report.loops) {
      for (const ShardReport& shard : loop.shards) {
        add(one, {{"shard", std::to_string(shard.stats.shard)}}, metric.value(shard));
      }
    }
  }
  for (const LoopMetric& metric : kLoopMetrics) {
    MetricFamily& one = families.emplace_back(family(metric.name, metric.help, metric.type));
    for (const LoopReport& loop : report.loops) {
      add(one, {{"loop", std::to_string(loop.loop)}}, metric.value(loop));
    }
  }
  add_delays(report, families);
  add_transactions(report, families);
  std::ostringstream text;
  prometheus::TextSerializer().Serialize(text, families);
  return text.str();
}

}  // namespace tidemark::broker

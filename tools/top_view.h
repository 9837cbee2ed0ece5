// What `tidemark top` shows: the difference of two looks at a broker.
//
// Thread: pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tools/broker_metrics.h"

namespace tidemark::tools {

struct GroupState {
  std::string group;
  uint64_t members = 0;
  uint64_t partitions = 0;  // with a position, or worked on in queue mode
  uint64_t lag = 0;         // of both modes
};

// Messages of a dead-letter topic that are neither redriven nor purged.
struct DeadLetters {
  std::string topic;
  uint64_t letters = 0;
};

struct TopView {
  double seconds = 0;  // between the two looks
  // Each second in between. 0 after a restart of the broker.
  double messages_in = 0;
  double bytes_in = 0;
  double messages_out = 0;
  double bytes_out = 0;
  double delays_fired = 0;
  double log_written = 0;  // bytes
  double syncs = 0;
  double sync_ms = 0;  // the mean of one; 0 if there was none
  // At the second one.
  double sync_ms_max = 0;  // since the start of the broker
  double delays_pending = 0;
  double delays_overdue = 0;  // by a minute or more
  double txn_open = 0;
  double txn_parked = 0;
  double txn_oldest_s = 0;
  double connections = 0;
  double log_bytes = 0;
  double uptime_s = 0;
  double memory_bytes = 0;
  // Shards.
  double not_ready = 0;
  double read_only = 0;
  double disk_full = 0;
  // Nothing: could not be read.
  std::optional<std::vector<GroupState>> groups;
  std::optional<std::vector<DeadLetters>> dead_letters;
};

// Of `seconds` between the two. Without groups and dead letters.
TopView compare(const BrokerMetrics& before, const BrokerMetrics& after, double seconds);
uint64_t total_lag(const std::vector<GroupState>& groups);
// Several lines; the groups with the most lag, `groups_max` of them.
std::string top_text(const TopView& view, size_t groups_max);
nlohmann::ordered_json top_json(const TopView& view);

}  // namespace tidemark::tools

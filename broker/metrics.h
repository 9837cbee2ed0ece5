// /metrics: the numbers of a broker in the text format of Prometheus. Every name begins with
// tidemark_ and ends with its unit.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "broker/loop_message.h"

namespace tidemark::broker {

struct BrokerReport {
  std::string version;
  std::string fsync;
  uint64_t cluster_id = 0;
  uint64_t node_id = 0;
  int64_t started_ms = 0;  // wall time
  double uptime_seconds = 0;
  uint64_t resident_bytes = 0;
  std::vector<LoopReport> loops;
};

std::string to_prometheus(const BrokerReport& report);

}  // namespace tidemark::broker

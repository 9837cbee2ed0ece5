// What a benchmark asks the broker's /metrics: how much its logs write for each sync.
//
// Thread: any. Blocks for two seconds at most.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tidemark::tools {

// Of all shards of a broker, since it was started.
struct LogWrites {
  uint64_t bytes = 0;
  uint64_t syncs = 0;
};

// Nothing if the text is not that of this node of this cluster.
std::optional<LogWrites> parse_log_writes(std::string_view metrics, uint64_t cluster_id,
                                          uint64_t node);

// Nothing if nobody answers there, or someone else does.
std::optional<LogWrites> read_log_writes(const std::string& host, const std::string& port,
                                         uint64_t cluster_id, uint64_t node);

}  // namespace tidemark::tools

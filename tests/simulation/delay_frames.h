// Request frames about delayed messages, and the reading of their replies; as request_builder.h.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "log/format/schedule_set.h"
#include "tests/support/request_builder.h"

namespace tidemark::sim {

// A delayed message as a request names it: by handle, or by partition and key.
struct DelayTarget {
  std::optional<protocol::fbs::DelayHandle> handle;
  PartitionId partition = {};
  std::string key = {};
};

// One schedule set of a single part.
protocol::Frame schedule_request(PartitionId partition, SharedBytes set, uint64_t correlation = 0);
protocol::Frame delay_cancel_request(std::span<const DelayTarget> targets,
                                     uint64_t correlation = 0);
protocol::Frame delay_reschedule_request(std::span<const DelayTarget> targets, format::DueKind kind,
                                         int64_t due_ms, uint64_t correlation = 0);
// Of all topics of the shard.
protocol::Frame delay_stats_request(uint64_t correlation = 0);

// Of the only part of a produce reply; none if it was refused.
std::vector<protocol::fbs::DelayReceipt> read_receipts(const protocol::Frame& reply);

}  // namespace tidemark::sim

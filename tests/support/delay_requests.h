// Schedule sets and requests about delayed messages, for tests of the broker's core.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "log/format/schedule_set.h"
#include "tests/support/request_builder.h"

namespace tidemark::testing {

// A delayed message of a set.
struct DelayInput {
  std::string value;
  int64_t due_ms = 0;
  bool at = false;  // due_ms is a wall time, not a delay
  std::string key = {};
  bool replace = false;
  int64_t every_ms = 0;
  std::string cron = {};
  std::string zone = {};
};

SharedBytes build_schedule(PartitionId partition, std::span<const DelayInput> items,
                           format::BatchBuilder::Producer producer = {});
protocol::Frame schedule_request(PartitionId partition, SharedBytes set, uint64_t correlation = 0);

// By handle, or by partition and key.
struct DelayTarget {
  std::optional<protocol::fbs::DelayHandle> handle;
  PartitionId partition;
  std::string key;
};

DelayTarget by_handle(PartitionId partition, const protocol::fbs::DelayReceipt& receipt);
DelayTarget by_key(PartitionId partition, std::string key);

struct DelayListInput {
  TopicId topic;
  int32_t partition = -1;
  int64_t due_to_ms = INT64_MAX;
  int64_t after_due_ms = -1;
  uint64_t after_id = 0;
  uint32_t limit = 100;
};

protocol::Frame delay_cancel_request(std::span<const DelayTarget> items);
protocol::Frame delay_reschedule_request(std::span<const DelayTarget> items, bool at,
                                         int64_t due_ms);
protocol::Frame delay_list_request(const DelayListInput& query);
protocol::Frame delay_show_request(const DelayTarget& item);
protocol::Frame delay_stats_request(TopicId topic);

}  // namespace tidemark::testing

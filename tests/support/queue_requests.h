// Requests of queue mode, for tests of the broker's core, and the reading of its replies.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/request_builder.h"

namespace tidemark::testing {

// What a topic asks of queue mode.
struct QueueTopicInput {
  std::vector<int64_t> retry_delays_ms = {};
  uint32_t retry_factor_percent = 200;
  int64_t retry_max_ms = 300'000;
  uint32_t max_deliveries = 0;
  std::string dead_letter_topic = {};
};

struct QueueReceiveInput {
  std::vector<PartitionId> parts = {};
  std::string group = "workers";
  uint32_t messages_max = 64;
  uint32_t bytes_max = 1 << 20;
  uint32_t wait_ms = 0;
  uint32_t visibility_ms = 30'000;
  std::vector<std::string> tags = {};
  std::string filter = {};
  bool ordered = false;
  bool from_end = false;
};

struct QueueSettleInput {
  PartitionId partition;
  Offset offset;
  uint64_t token = 0;
  protocol::fbs::QueueAction action = protocol::fbs::QueueAction::kAck;
  int64_t delay_ms = 0;
  uint32_t count = 1;
};

protocol::Frame queue_topic_create_request(const TopicInput& topic, const QueueTopicInput& queue,
                                           uint64_t correlation = 0);
protocol::Frame queue_receive_request(const QueueReceiveInput& input, uint64_t correlation = 0);
protocol::Frame queue_settle_request(std::string_view group,
                                     std::span<const QueueSettleInput> items,
                                     std::string_view reason = {}, uint64_t correlation = 0);
// Topic 0: of all topics.
protocol::Frame queue_describe_request(std::string_view group, TopicId topic = {},
                                       uint64_t correlation = 0);
protocol::Frame queue_unsettled_request(std::string_view group, PartitionId partition,
                                        uint64_t from = 0, uint32_t limit = 1000);
protocol::Frame queue_redrive_request(PartitionId partition, std::span<const uint64_t> offsets);

struct LeasedMessage {
  Offset offset = {};
  uint64_t token = 0;
  uint32_t deliveries = 0;
  std::string value = {};
  std::vector<std::pair<std::string, std::string>> headers = {};

  // Of the last header of this name; "-" if there is none.
  [[nodiscard]] std::string header(std::string_view name) const;
};

struct QueuePartResult {
  Status status;
  std::vector<LeasedMessage> messages;  // in the order of the leases
  size_t records = 0;                   // in the batches that came
  size_t bytes = 0;
};

struct QueueInfoResult {
  PartitionId partition;
  uint64_t floor = 0;
  uint64_t end = 0;
  uint64_t unsettled = 0;
  uint64_t leased = 0;
  uint64_t retrying = 0;
  uint32_t receivers = 0;
  uint64_t acked = 0;
  uint64_t failed = 0;
  uint64_t dead_lettered = 0;
  uint64_t expired = 0;
  uint64_t filtered = 0;
  int64_t oldest_ms = -1;
};

struct QueueUnsettledResult {
  std::vector<std::pair<uint64_t, uint64_t>> ranges;  // first, count
  uint64_t end = 0;
  bool more = false;
};

// A message of a dead-letter topic, with its last death.
struct DeadLetterResult {
  Offset offset;
  std::string value;
  PartitionId from;
  Offset from_offset;
  std::string group;
  std::string reason;
  uint32_t deliveries = 0;
  int64_t time_ms = 0;
};

// These CHECK that the reply is well formed and of the right type, verify every batch, and that it
// has each message that is leased.
std::vector<QueuePartResult> read_queue_receive_reply(const protocol::Frame& reply);
// Of a settlement or a redrive.
std::vector<ErrorCode> read_queue_settle_reply(const protocol::Frame& reply);
std::vector<QueueInfoResult> read_queue_describe_reply(const protocol::Frame& reply);
QueueUnsettledResult read_queue_unsettled_reply(const protocol::Frame& reply);
// Of a fetch of one partition of a dead-letter topic.
std::vector<DeadLetterResult> read_dead_letters(const protocol::Frame& fetch_reply);

}  // namespace tidemark::testing

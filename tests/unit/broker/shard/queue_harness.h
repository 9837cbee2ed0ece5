// A shard with consumers in queue mode: topic 1, whose dead letters go to topic 2.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "tests/support/queue_requests.h"
#include "tests/unit/broker/shard/shard_harness.h"

namespace tidemark::shard {

using protocol::fbs::QueueAction;
using testing::QueueSettleInput;
using Leased = testing::LeasedMessage;
using testing::MessageInput;
using ReceiveInput = testing::QueueReceiveInput;
using ReceivePartResult = testing::QueuePartResult;
using Codes = std::vector<ErrorCode>;
using Values = std::vector<std::string>;

class QueueHarness : public ShardHarness {
 public:
  static constexpr PartitionId kDead{TopicId{2}, PartitionIndex{0}};

  // Retries after 1 s, 2 s, 4 s ...
  static partition::QueueConfig dead_after(uint32_t deliveries) {
    partition::QueueConfig config;
    config.max_deliveries = deliveries;
    config.dead_letter_topic = kDead.topic;
    return config;
  }

  explicit QueueHarness(const partition::QueueConfig& config = {}, uint32_t partitions = 2) {
    open_partitions_of(kDead.topic, 1);
    open_partitions_of(kPartition.topic, partitions, {}, -1, -1, config);
  }

  // Everything that is to be done now.
  void drain() {
    do {
      settle();
    } while (source.run_one());
  }

  void put(const Values& values, PartitionId partition = kPartition) {
    REQUIRE(produce(partition, testing::build_batch(values)).status.ok());
  }

  // A batch of messages with headers.
  void put_messages(const std::vector<MessageInput>& messages, PartitionId partition = kPartition) {
    REQUIRE(produce(partition, testing::build_messages(messages)).status.ok());
  }

  protocol::Frame ask(const protocol::Frame& frame) {
    receive(frame);
    drain();
    return outbox.take();
  }

  std::vector<ReceivePartResult> receive_parts(ReceiveInput input) {
    if (input.parts.empty()) {
      input.parts = {kPartition};
    }
    return testing::read_queue_receive_reply(ask(testing::queue_receive_request(input)));
  }

  std::vector<Leased> lease(ReceiveInput input = {}) {
    ReceivePartResult part = receive_parts(std::move(input)).at(0);
    CHECK(part.status.to_string() == Status().to_string());
    return part.messages;
  }

  Leased lease_one(ReceiveInput input = {}) {
    input.messages_max = 1;
    const std::vector<Leased> messages = lease(std::move(input));
    REQUIRE(messages.size() == 1);
    return messages[0];
  }

  // The error of a receive that is refused.
  Status refusal(ReceiveInput input) {
    if (input.parts.empty()) {
      input.parts = {kPartition};
    }
    return testing::error_of(ask(testing::queue_receive_request(input)));
  }

  // One that waits.
  void start_receive(ReceiveInput input = {}, uint64_t connection = 1) {
    if (input.parts.empty()) {
      input.parts = {kPartition};
    }
    input.wait_ms = 10'000;
    ShardHarness::receive(testing::queue_receive_request(input), connection);
    drain();
  }

  static QueueSettleInput item(QueueAction action, const Leased& message, int64_t delay_ms = -1,
                               PartitionId partition = kPartition) {
    return {partition, message.offset, message.token, action, delay_ms, 1};
  }

  static QueueSettleInput purge(uint64_t offset, uint32_t count,
                                PartitionId partition = kPartition) {
    return {partition, Offset{offset}, 0, QueueAction::kAck, 0, count};
  }

  Codes settle_items(const std::vector<QueueSettleInput>& items, const std::string& reason = {},
                     const std::string& group = "workers") {
    return testing::read_queue_settle_reply(
        ask(testing::queue_settle_request(group, items, reason)));
  }

  ErrorCode ack(const Leased& message) {
    return settle_items({item(QueueAction::kAck, message)}).at(0);
  }

  ErrorCode nack(const Leased& message, int64_t delay_ms = -1, const std::string& reason = "no") {
    return settle_items({item(QueueAction::kNack, message, delay_ms)}, reason).at(0);
  }

  ErrorCode extend(const Leased& message, int64_t for_ms) {
    return settle_items({item(QueueAction::kExtend, message, for_ms)}).at(0);
  }

  ErrorCode release(const Leased& message) {
    return settle_items({item(QueueAction::kRelease, message, 0)}).at(0);
  }

  ErrorCode bury(const Leased& message, const std::string& reason = "no") {
    return settle_items({item(QueueAction::kDeadLetter, message)}, reason).at(0);
  }

  Codes redrive(const std::vector<uint64_t>& offsets) {
    return testing::read_queue_settle_reply(ask(testing::queue_redrive_request(kDead, offsets)));
  }

  testing::QueueInfoResult describe(const std::string& group = "workers",
                                    TopicId topic = kPartition.topic) {
    const auto queues =
        testing::read_queue_describe_reply(ask(testing::queue_describe_request(group, topic)));
    REQUIRE(!queues.empty());
    return queues[0];
  }

  testing::QueueUnsettledResult unsettled(PartitionId partition = kPartition,
                                          const std::string& group = "workers", uint64_t from = 0,
                                          uint32_t limit = 1000) {
    return testing::read_queue_unsettled_reply(
        ask(testing::queue_unsettled_request(group, partition, from, limit)));
  }

  // Bytes of the records of this kind in the log.
  [[nodiscard]] std::pair<size_t, size_t> records_of(format::RecordKind kind) const {
    std::pair<size_t, size_t> found;  // records, bytes
    for (const replica::CommittedEntry& entry : consensus.log) {
      format::RecordListReader reader(entry.payload.view());
      format::LogRecord record;
      while (reader.next(record)) {
        if (record.kind == kind) {
          ++found.first;
          found.second += format::record_bytes(record.body.size());
        }
      }
    }
    return found;
  }
};

inline Values values_of(const std::vector<Leased>& messages) {
  Values values;
  for (const Leased& message : messages) {
    values.push_back(message.value);
  }
  return values;
}

}  // namespace tidemark::shard

#include "tests/support/queue_traffic.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include <doctest/doctest.h>

#include "tests/support/delay_traffic.h"
#include "tests/support/run_command.h"

namespace tidemark::testing {

// --- sending

NumberedSender::NumberedSender(const client::Client& client, const std::string& topic,
                               uint32_t partitions, size_t bytes, client::ProducerOptions options)
    : partitions_(partitions), bytes_(bytes) {
  options.delivery_timeout_ms = 5 * kTrafficDeadlineMs;
  auto created = client::Producer::create(client, std::move(options));
  REQUIRE_MESSAGE(created.ok(), created.status().to_string());
  producer_ = std::make_unique<client::Producer>(std::move(*created));
  topic_ = *producer_->topic(topic);
}

void NumberedSender::send(uint64_t number) {
  const std::string value = numbered_value(number, bytes_);
  client::Message message;
  message.value = value;
  message.partition = static_cast<uint32_t>(number % partitions_);
  const client::Status sent = producer_->send(topic_, message);
  REQUIRE_MESSAGE(sent.ok(), sent.to_string());
}

void NumberedSender::send_all(uint64_t first, uint64_t count) {
  for (uint64_t number = first; number < first + count; ++number) {
    send(number);
  }
}

void NumberedSender::flush() {
  const client::FlushResult rest = producer_->flush(kTrafficDeadlineMs);
  REQUIRE_MESSAGE(rest.status.ok(), rest.status.to_string());
  REQUIRE(rest.failed == 0);
}

// --- a group

std::string QueueSums::to_string() const {
  return std::to_string(partitions) + " partitions, " + std::to_string(messages) + " messages, " +
         std::to_string(unsettled) + " unsettled, " + std::to_string(leased) + " leased, " +
         std::to_string(receivers) + " receivers, " + std::to_string(acked) + " acked, " +
         std::to_string(failed) + " failed, " + std::to_string(dead_lettered) + " dead, " +
         std::to_string(filtered) + " filtered";
}

QueueSums queue_sums(const client::Client& client, std::string_view group) {
  auto queues = client::Queues::create(client);
  REQUIRE(queues.ok());
  const auto described = queues->describe(group, kTrafficDeadlineMs);
  REQUIRE_MESSAGE(described.ok(), described.status().to_string());
  QueueSums sums;
  for (const client::QueuePartitionInfo& one : *described) {
    ++sums.partitions;
    sums.messages += one.end_offset;
    sums.unsettled += one.unsettled;
    sums.leased += one.leased;
    sums.receivers += one.receivers;
    sums.acked += one.acked;
    sums.failed += one.failed;
    sums.dead_lettered += one.dead_lettered;
    sums.filtered += one.filtered;
  }
  return sums;
}

QueueSums wait_until_settled(const client::Client& client, std::string_view group,
                             uint64_t messages) {
  const int64_t until_ms = wall_now_ms() + kTrafficDeadlineMs;
  QueueSums sums = queue_sums(client, group);
  while (sums.messages < messages || sums.unsettled > 0) {
    REQUIRE_MESSAGE(wall_now_ms() < until_ms, sums.to_string());
    wait_for_wall(wall_now_ms() + 20);
    sums = queue_sums(client, group);
  }
  return sums;
}

// --- reading

std::string StoredMessage::header(const std::string& name) const {
  const auto [first, last] = headers.equal_range(name);
  return first != last && std::next(first) == last ? first->second : "";
}

std::vector<StoredMessage> read_all(const client::Client& client, const std::string& topic,
                                    uint32_t partitions) {
  client::Admin admin(client);
  const auto ends = admin.list_offsets(topic, {}, kTrafficDeadlineMs);
  REQUIRE_MESSAGE(ends.ok(), ends.status().to_string());
  REQUIRE(ends->size() == partitions);
  std::map<uint32_t, uint64_t> left;
  std::vector<client::Assignment> assignment;
  for (const client::OffsetAnswer& end : *ends) {
    REQUIRE(end.status.ok());
    if (end.offset > 0) {
      left[end.partition] = end.offset;
      assignment.push_back({topic, end.partition, client::Position::start()});
    }
  }
  std::vector<StoredMessage> out;
  if (left.empty()) {
    return out;
  }
  auto consumer = client::Consumer::create(client, {});
  REQUIRE(consumer.ok());
  REQUIRE(consumer->assign(assignment).ok());
  while (!left.empty()) {
    const auto batch = consumer->poll(kTrafficDeadlineMs);
    REQUIRE_MESSAGE(batch.ok(), batch.status().to_string());
    REQUIRE_FALSE(batch->messages.empty());
    for (const client::ReceivedMessage& message : batch->messages) {
      StoredMessage& one = out.emplace_back();
      one.partition = batch->partition;
      one.offset = message.offset;
      one.value = message.value.value_or("");
      for (const client::Header& header : message.headers) {
        one.headers.emplace(header.key, header.value.value_or(""));
      }
    }
    if (const auto it = left.find(batch->partition);
        it != left.end() && batch->next_offset >= it->second) {
      left.erase(it);
    }
  }
  std::ranges::sort(out, {},
                    [](const StoredMessage& one) { return std::pair(one.partition, one.offset); });
  return out;
}

nlohmann::json log_stats(const std::string& data_dir) {
  const CommandResult dump = run_command(
      {required_environment("TIDEMARK_CLI"), "log", "dump", data_dir, "--stats", "-o", "json"});
  REQUIRE_MESSAGE(dump.exit_code == 0, dump.errors);
  return nlohmann::json::parse(dump.output);
}

int64_t quantile(std::vector<int64_t>& values, double part) {
  if (values.empty()) {
    return 0;
  }
  std::ranges::sort(values);
  return values[static_cast<size_t>(part * static_cast<double>(values.size() - 1))];
}

}  // namespace tidemark::testing

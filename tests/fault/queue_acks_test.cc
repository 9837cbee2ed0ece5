// Acks of single messages in any order: what they cost in the log and in memory, and that they hold
// after kill -9.
//
// TIDEMARK_QUEUE_ACKS=1000000 makes the big run.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "log/base/random.h"
#include "tests/support/connect.h"
#include "tests/support/delay_traffic.h"
#include "tests/support/queue_traffic.h"
#include "tests/support/tool_fixture.h"
#include "tidemark/tidemark.h"

namespace tidemark::testing {

namespace {

constexpr uint32_t kPartitions = 2;
constexpr size_t kMessageBytes = 32;
constexpr uint64_t kSeed = 20261129;
constexpr uint64_t kAcksPerCall = 1'000;
constexpr size_t kRangesPerPage = 5'000;
constexpr double kLogBytesPerAckMax = 16;
constexpr double kMemoryBytesMax = 64.0 * 1024 * 1024;

uint64_t ack_count() { return full_size("TIDEMARK_QUEUE_ACKS", 100'000); }

void create_topic(ToolFixture& broker) {
  broker.output({"topic", "create", "t", "--partitions", std::to_string(kPartitions)});
}

// 0 to count - 1 in any order.
std::vector<uint64_t> shuffled(uint64_t count) {
  std::vector<uint64_t> numbers(count);
  Random random(kSeed);
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t at = random.below(i + 1);
    numbers[i] = numbers[at];
    numbers[at] = i;
  }
  return numbers;
}

// Acks each for itself, in this order; REQUIREs that the broker confirms them all.
void ack_all(const client::Client& client, const std::vector<uint64_t>& numbers) {
  auto queues = client::Queues::create(client);
  REQUIRE(queues.ok());
  std::vector<std::vector<client::OffsetRange>> open(kPartitions);
  const auto send = [&](uint32_t partition) {
    std::vector<client::OffsetRange> ranges = std::exchange(open[partition], {});
    const auto acked = queues->ack("g", "t", partition, ranges, kTrafficDeadlineMs);
    REQUIRE_MESSAGE(acked.ok(), acked.status().to_string());
    REQUIRE(acked->size() == ranges.size());
    const auto failed = std::ranges::find_if(*acked, [](const auto& one) { return !one.ok(); });
    REQUIRE_MESSAGE(failed == acked->end(), failed->to_string());
  };
  for (const uint64_t number : numbers) {
    const auto partition = static_cast<uint32_t>(number % kPartitions);
    open[partition].push_back({.first = number / kPartitions});
    if (open[partition].size() == kAcksPerCall) {
      send(partition);
    }
  }
  for (uint32_t partition = 0; partition < kPartitions; ++partition) {
    if (!open[partition].empty()) {
      send(partition);
    }
  }
}

// What the broker says is not settled.
std::set<uint64_t> unsettled(const client::Client& client) {
  auto queues = client::Queues::create(client);
  REQUIRE(queues.ok());
  std::set<uint64_t> numbers;
  for (uint32_t partition = 0; partition < kPartitions; ++partition) {
    uint64_t from = 0;
    size_t ranges = kRangesPerPage;
    while (ranges == kRangesPerPage) {
      const auto page =
          queues->unsettled("g", "t", partition, from, kRangesPerPage, kTrafficDeadlineMs);
      REQUIRE_MESSAGE(page.ok(), page.status().to_string());
      ranges = page->size();
      for (const client::OffsetRange& range : *page) {
        for (uint64_t i = 0; i < range.count; ++i) {
          numbers.insert((range.first + i) * kPartitions + partition);
        }
        from = range.first + range.count;
      }
    }
  }
  return numbers;
}

// What a consumer of the group gets until everything is settled; it acks.
std::multiset<uint64_t> consume_rest(const client::Client& client, uint64_t messages) {
  client::QueueOptions options;
  options.group = "g";
  options.topics = {"t"};
  options.in_flight_max = 4'096;
  auto consumer = client::QueueConsumer::create(client, options);
  REQUIRE(consumer.ok());
  std::multiset<uint64_t> numbers;
  while (true) {
    auto message = consumer->receive(numbers.size() < messages ? kTrafficDeadlineMs : 0);
    REQUIRE_MESSAGE(message.ok(), message.status().to_string());
    if (!message->has_value()) {
      break;
    }
    numbers.insert(number_of((*message)->value().value_or("")));
    (*message)->ack();
  }
  const client::Status acked = consumer->close(kTrafficDeadlineMs);
  CHECK_MESSAGE(acked.ok(), acked.to_string());
  return numbers;
}

// Of the acks in the log: their records, and all that the log has for their sake.
struct AckCost {
  uint64_t acks = 0;
  double record_bytes = 0;
  double log_bytes = 0;
};

AckCost ack_cost(const std::string& data_dir) {
  const nlohmann::json stats = log_stats(data_dir);
  AckCost cost;
  cost.acks = stats["queue_acks"].get<uint64_t>();
  const auto acks = static_cast<double>(std::max<uint64_t>(cost.acks, 1));
  cost.record_bytes = stats["queue_record_bytes"].get<double>() / acks;
  cost.log_bytes = stats["queue_log_bytes"].get<double>() / acks;
  return cost;
}

}  // namespace

TEST_CASE("acks of a queue in random order: cheap in log and memory, and they hold after kill -9") {
  const uint64_t count = ack_count();
  const uint64_t messages = count + count / 10;
  ToolFixture broker;
  create_topic(broker);
  const client::Client client = connect(broker.daemon().address());
  NumberedSender sender(client, "t", kPartitions, kMessageBytes);
  sender.send_all(0, messages);
  sender.flush();
  std::vector<uint64_t> order = shuffled(messages);
  const std::set<uint64_t> holes(order.begin() + static_cast<int64_t>(count), order.end());
  order.resize(count);

  const uint64_t before = process_memory(broker.daemon().pid(), "VmRSS");
  const int64_t began_ms = wall_now_ms();
  ack_all(client, order);
  const int64_t took_ms = wall_now_ms() - began_ms;
  const uint64_t after = process_memory(broker.daemon().pid(), "VmRSS");
  REQUIRE(before > 0);
  const double grown = static_cast<double>(after) - static_cast<double>(before);
  const double said = metric_sum(broker.daemon().http_port(), "tidemark_queue_memory_bytes");

  broker.daemon().kill();
  const AckCost cost = ack_cost(broker.daemon().data_dir());
  MESSAGE(count << " acks in " << took_ms << " ms, " << holes.size()
                << " holes: " << cost.record_bytes << " bytes of records per ack, "
                << cost.log_bytes << " with all that is around them; the broker grew by "
                << grown / 1024 << " KiB, of which acks " << said / 1024 << " KiB");
  CHECK(cost.acks == count);
  CHECK(cost.log_bytes <= kLogBytesPerAckMax);
  CHECK(grown <= kMemoryBytesMax);

  REQUIRE_MESSAGE(broker.daemon().start(), broker.daemon().errors());
  CHECK(queue_sums(client, "g").unsettled == holes.size());
  CHECK(unsettled(client) == holes);
  const std::multiset<uint64_t> came = consume_rest(client, holes.size());
  CHECK(std::ranges::equal(came, holes));
  const QueueSums sums = wait_until_settled(client, "g", messages);
  CHECK(sums.acked == messages);
}

TEST_CASE("acks of queue consumers at load cost at most 16 bytes of log each") {
  const uint64_t count = ack_count() / 5;
  ToolFixture broker;
  create_topic(broker);
  const client::Client client = connect(broker.daemon().address());
  NumberedSender sender(client, "t", kPartitions, kMessageBytes);
  sender.send_all(0, count);
  sender.flush();

  const int64_t began_ms = wall_now_ms();
  std::atomic<uint64_t> handled{0};
  std::vector<client::QueueConsumer> consumers;
  for (int i = 0; i < 4; ++i) {
    client::QueueOptions options;
    options.group = "g";
    options.topics = {"t"};
    options.receive_wait_ms = 100;  // as long as close() may take
    options.on_message = [&handled](client::QueueMessage&) {
      handled.fetch_add(1);
      return true;
    };
    auto consumer = client::QueueConsumer::create(connect(broker.daemon().address()), options);
    REQUIRE(consumer.ok());
    consumers.push_back(std::move(*consumer));
  }
  CHECK(wait_until_settled(client, "g", count).acked == count);
  const int64_t took_ms = std::max<int64_t>(wall_now_ms() - began_ms, 1);
  consumers.clear();
  CHECK(handled.load() == count);
  CHECK(broker.daemon().terminate() == 0);
  const AckCost cost = ack_cost(broker.daemon().data_dir());
  MESSAGE(count << " messages acked by 4 consumers, "
                << count * 1'000 / static_cast<uint64_t>(took_ms)
                << " per second: " << cost.record_bytes << " bytes of records per ack, "
                << cost.log_bytes << " with all that is around them");
  CHECK(cost.acks == count);
  CHECK(cost.log_bytes <= kLogBytesPerAckMax);
}

}  // namespace tidemark::testing

// A filter on random messages: what the broker gives is what the same condition, written down in
// C++ here, chooses; to a consumer that reads, and to a queue.
//
// TIDEMARK_FILTER_MESSAGES=100000 makes the big run.
#include <algorithm>
#include <cstdint>
#include <future>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "log/base/random.h"
#include "tests/support/connect.h"
#include "tests/support/delay_traffic.h"
#include "tests/support/queue_traffic.h"
#include "tests/support/tool_fixture.h"
#include "tidemark/tidemark.h"

namespace tidemark::testing {

namespace {

constexpr uint32_t kPartitions = 3;
constexpr const char* kFilter = "region in ('eu','us') and amount > 100";
constexpr uint64_t kSeed = 20261129;

uint64_t message_count() { return full_size("TIDEMARK_FILTER_MESSAGES", 20'000); }

// --- the condition, by hand

bool is_digits(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

// A decimal number as a whole, of any length, above 100.
bool is_above_100(std::string_view text) {
  const bool negative = text.starts_with('-');
  text.remove_prefix(negative ? 1 : 0);
  const size_t point = text.find('.');
  std::string_view whole = text.substr(0, point);
  const std::string_view fraction =
      point == std::string_view::npos ? std::string_view("0") : text.substr(point + 1);
  if (!is_digits(whole) || !is_digits(fraction) || negative) {
    return false;
  }
  whole.remove_prefix(std::min(whole.find_first_not_of('0'), whole.size()));
  if (whole.size() != 3 || whole != "100") {
    return whole.size() > 3 || (whole.size() == 3 && whole > "100");
  }
  return fraction.find_first_not_of('0') != std::string_view::npos;
}

using Headers = std::vector<std::pair<std::string, std::optional<std::string>>>;

bool is_wanted(const Headers& headers) {
  bool region = false;
  bool amount = false;
  for (const auto& [name, value] : headers) {
    region = region || (name == "region" && (value == "eu" || value == "us"));
    amount = amount || (name == "amount" && value.has_value() && is_above_100(*value));
  }
  return region && amount;
}

// --- messages

std::string random_amount(Random& random) {
  static constexpr const char* kOdd[] = {"",
                                         "five",
                                         "1e3",
                                         "0x200",
                                         "+500",
                                         " 500",
                                         "500 ",
                                         ".5",
                                         "200.",
                                         "-",
                                         "--5",
                                         "1,000",
                                         "1.2.3",
                                         "true",
                                         "100",
                                         "100.0",
                                         "0100.0",
                                         "100.01",
                                         "-100.5",
                                         "-0",
                                         "0101",
                                         "00100",
                                         "101",
                                         "99.999",
                                         "1000",
                                         "inf",
                                         "nan",
                                         "100.000000000000000000000001",
                                         "99999999999999999999999999",
                                         "-99999999999999999999999999"};
  if (random.chance(1, 3)) {
    return kOdd[random.below(std::size(kOdd))];
  }
  std::string text = random.chance(1, 4) ? "-" : "";
  text += std::to_string(random.below(250));
  if (random.chance(1, 2)) {
    text += "." + std::to_string(random.below(1'000));
  }
  return text;
}

Headers random_headers(Random& random) {
  static constexpr const char* kRegions[] = {"eu", "us", "uk", "EU", "eu ", "", "'eu'", "asia"};
  Headers headers;
  const auto add = [&](const char* name, std::string value) {
    headers.emplace_back(name, random.chance(1, 50) ? std::nullopt : std::optional(value));
  };
  if (random.chance(1, 2)) {
    add("other", "eu");
  }
  // Mostly one of each, in any order; sometimes none or several.
  const bool amount_first = random.chance(1, 2);
  for (const bool amount : {amount_first, !amount_first}) {
    const uint64_t times = random.chance(1, 8) ? random.below(4) : 1;
    for (uint64_t i = 0; i < times; ++i) {
      if (amount) {
        add("amount", random_amount(random));
      } else {
        // The first two half of the time.
        add("region", kRegions[random.below(random.chance(1, 2) ? 2 : std::size(kRegions))]);
      }
    }
  }
  if (random.chance(1, 20)) {
    add("Region", "eu");
    add("amount ", "500");
  }
  return headers;
}

// A message of a partition, as it was written or read.
struct Entry {
  uint64_t offset = 0;
  uint64_t number = 0;

  friend bool operator==(const Entry&, const Entry&) = default;
};

using Entries = std::map<uint32_t, std::vector<Entry>>;  // by partition, in order

size_t count_of(const Entries& entries) {
  size_t count = 0;
  for (const auto& [partition, all] : entries) {
    count += all.size();
  }
  return count;
}

// Sends them, half of them compressed; gives those that are wanted. The last one of every partition
// is.
Entries send_random(const client::Client& client, uint64_t count) {
  std::vector<client::Producer> producers;
  for (const auto compression : {client::Compression::kNone, client::Compression::kZstd}) {
    client::ProducerOptions options;
    options.compression = compression;
    options.linger_ms = 1;
    options.batch_bytes = 8 * 1024;
    auto producer = client::Producer::create(client, options);
    REQUIRE(producer.ok());
    producers.push_back(std::move(*producer));
  }
  Random random(kSeed);
  Entries wanted;
  std::vector<std::pair<uint64_t, std::future<client::Delivery>>> reports;
  const auto send = [&](uint64_t number, const Headers& own) {
    std::vector<client::Header> headers;
    for (const auto& [name, value] : own) {
      headers.push_back({.key = name, .value = value});
    }
    const std::string value = numbered_value(number, 60);
    client::Message message;
    message.value = value;
    message.headers = headers;
    message.partition = static_cast<uint32_t>(number % kPartitions);
    auto report = producers[number / 100 % producers.size()].send_future("t", message);
    if (is_wanted(own)) {
      reports.emplace_back(number, std::move(report));
    }
  };
  for (uint64_t number = 0; number < count; ++number) {
    send(number, random_headers(random));
  }
  for (client::Producer& producer : producers) {
    REQUIRE(producer.flush(kTrafficDeadlineMs).status.ok());
  }
  for (uint64_t number = count; number < count + kPartitions; ++number) {
    send(number, {{"region", "us"}, {"amount", "100.5"}});
  }
  for (auto& [number, report] : reports) {
    const client::Delivery delivery = report.get();
    REQUIRE_MESSAGE(delivery.status.ok(), delivery.status.to_string());
    wanted[delivery.partition].push_back({delivery.offset, number});
  }
  for (auto& [partition, entries] : wanted) {
    std::ranges::sort(entries, {}, &Entry::offset);
  }
  return wanted;
}

// --- reading

Entries read_filtered(const client::Client& client, size_t count) {
  client::ConsumerOptions options;
  options.filter = kFilter;
  auto consumer = client::Consumer::create(client, options);
  REQUIRE(consumer.ok());
  std::vector<client::Assignment> all;
  for (uint32_t partition = 0; partition < kPartitions; ++partition) {
    all.push_back({"t", partition, client::Position::start()});
  }
  REQUIRE(consumer->assign(all).ok());
  Entries entries;
  size_t seen = 0;
  while (seen < count) {
    const auto batch = consumer->poll(kTrafficDeadlineMs);
    REQUIRE_MESSAGE(batch.ok(), batch.status().to_string());
    REQUIRE_FALSE(batch->messages.empty());
    for (const client::ReceivedMessage& message : batch->messages) {
      entries[batch->partition].push_back({message.offset, number_of(*message.value)});
      ++seen;
    }
  }
  return entries;
}

Entries receive_filtered(const client::Client& client, size_t count) {
  client::QueueOptions options;
  options.group = "g";
  options.topics = {"t"};
  options.filter = kFilter;
  auto consumer = client::QueueConsumer::create(client, options);
  REQUIRE(consumer.ok());
  Entries entries;
  for (size_t seen = 0; seen < count; ++seen) {
    auto message = consumer->receive(kTrafficDeadlineMs);
    REQUIRE_MESSAGE(message.ok(), message.status().to_string());
    REQUIRE(message->has_value());
    entries[(*message)->partition()].push_back(
        {(*message)->offset(), number_of((*message)->value().value_or(""))});
    (*message)->ack();
  }
  REQUIRE(consumer->flush(kTrafficDeadlineMs).ok());
  const auto more = consumer->receive(0);
  REQUIRE(more.ok());
  CHECK_FALSE(more->has_value());
  return entries;
}

}  // namespace

TEST_CASE("a filter chooses what the same condition in C++ chooses, in order") {
  const uint64_t count = message_count();
  ToolFixture broker;
  broker.output({"topic", "create", "t", "--partitions", std::to_string(kPartitions)});
  const client::Client client = connect(broker.daemon().address());
  const Entries wanted = send_random(client, count);
  const size_t chosen = count_of(wanted);
  // Both kinds are there in plenty, whatever the seed.
  REQUIRE(chosen > count / 20);
  REQUIRE(chosen < count / 2);

  const double before = metric_sum(broker.daemon().http_port(), "tidemark_fetch_filtered_total");
  const Entries read = read_filtered(client, chosen);
  const double left_out =
      metric_sum(broker.daemon().http_port(), "tidemark_fetch_filtered_total") - before;
  const Entries received = receive_filtered(client, chosen);
  const QueueSums sums = wait_until_settled(client, "g", count + kPartitions);
  MESSAGE(count << " messages, " << chosen << " chosen; the broker left out " << left_out
                << " of a reader and " << sums.filtered << " of a queue");
  CHECK(read == wanted);
  CHECK(received == wanted);
  CHECK(sums.filtered == count + kPartitions - chosen);
}

}  // namespace tidemark::testing

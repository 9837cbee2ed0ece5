#include "tests/blackbox/recorded_queue.h"

#include <poll.h>

#include <cstdlib>
#include <map>
#include <optional>
#include <utility>

#include "log/base/check.h"
#include "log/base/clock.h"
#include "tests/support/numbered_value.h"

namespace tidemark::testing {

namespace {

constexpr int64_t kVisibilityMs = 2'000;
constexpr int64_t kReceiveMs = 50;
constexpr int64_t kLookEveryMs = 20;
constexpr int64_t kDeadlineMs = 60'000;

std::string_view header(const client::ReceivedMessage& message, std::string_view name) {
  for (const client::Header& one : message.headers) {
    if (one.key == name) {
      return one.value.value_or("");
    }
  }
  return "";
}

uint64_t number(const client::ReceivedMessage& message, std::string_view name) {
  return std::strtoull(std::string(header(message, name)).c_str(), nullptr, 10);
}

}  // namespace

client::TopicConfig RecordedQueue::topic_config(const std::string& dead_topic) {
  client::TopicConfig config;
  config.retry_delays_ms = {50};
  config.retry_max_ms = 500;
  config.max_deliveries = kDeliveriesMax;
  config.dead_letter_topic = dead_topic;
  return config;
}

RecordedQueue::RecordedQueue(const client::Client& client, History& history, Place place,
                             std::string dead_topic, std::string group, size_t consumers,
                             uint64_t seed)
    : client_(client),
      history_(history),
      place_(std::move(place)),
      dead_topic_(std::move(dead_topic)),
      group_(std::move(group)) {
  client::QueueOptions options;
  options.group = group_;
  options.topics = {place_.topic};
  options.visibility_ms = kVisibilityMs;
  options.in_flight_max = 64;
  for (size_t i = 0; i < consumers; ++i) {
    auto created = client::QueueConsumer::create(client_, options);
    TIDEMARK_CHECK(created.ok(), created.status().to_string());
    consumers_.push_back(std::make_unique<client::QueueConsumer>(std::move(*created)));
  }
  for (size_t i = 0; i < consumers; ++i) {
    threads_.emplace_back([this, i, seed] { run(i, seed + i); });
  }
}

void RecordedQueue::stop() {
  stopping_.store(true);
  for (std::thread& thread : threads_) {
    thread.join();
  }
  threads_.clear();
  consumers_.clear();
}

void RecordedQueue::run(size_t number, uint64_t seed) {
  Random random(seed);
  const std::string member = "q" + std::to_string(number);
  while (!stopping_.load()) {
    auto message = consumers_[number]->receive(kReceiveMs);
    // An error passes or is told by finish(): then not everything gets settled.
    if (message.ok() && message->has_value()) {
      settle(member, std::move(**message), random);
    }
  }
}

void RecordedQueue::settle(const std::string& member, client::QueueMessage message,
                           Random& random) {
  const std::string value(message.value().value_or(""));
  // What was leased ahead may have waited for too long: it is another's by now.
  if (message.lease_left_ms() <= 0) {
    return;
  }
  const History::Fields place = {
      {"group", group_},         {"topic", place_.topic},   {"part", message.partition()},
      {"off", message.offset()}, {"uid", number_of(value)}, {"member", member}};
  History::Fields leased = place;
  leased.emplace_back("deliveries", message.deliveries());
  leased.emplace_back("crc", crc_of(value));
  history_.observe(member, "lease", leased);
  const uint64_t drawn = random.below(100);
  const char* const how =
      drawn < 75 ? "ack" : (drawn < 92 ? "nack" : (drawn < 96 ? "release" : "dead"));
  History::Fields settled = place;
  settled.emplace_back("how", how);
  const uint64_t id = history_.next_id();
  history_.invoke(member, "settle", id, settled);
  // Whoever asks again after a lost answer may be told that there is no such lease, so that a
  // failure is none for certain.
  const auto done = [this, member, id](const client::Status& status) {
    if (status.ok()) {
      history_.end(member, "settle", id, "ok");
    } else {
      history_.end(member, "settle", id, "info", {{"err", status.to_string()}});
    }
  };
  if (drawn < 75) {
    message.ack(done);
  } else if (drawn < 92) {
    message.nack("by chance", {}, done);
  } else if (drawn < 96) {
    message.release(done);
  } else {
    message.dead_letter("by chance", done);
  }
}

// --- the end

std::string RecordedQueue::finish(int64_t ms_max) {
  auto queues = client::Queues::create(client_);
  const int64_t until_ns = system_clock().monotonic().ns + ms_max * 1'000'000;
  std::vector<client::QueuePartitionInfo> partitions;
  while (true) {
    const auto described = queues->describe(group_, kDeadlineMs);
    if (!described.ok()) {
      return "describing the queue: " + described.status().to_string();
    }
    uint64_t unsettled = 0;
    for (const client::QueuePartitionInfo& one : *described) {
      unsettled += one.unsettled;
    }
    if (unsettled == 0 && described->size() == place_.partitions) {
      partitions = *described;
      break;
    }
    if (system_clock().monotonic().ns >= until_ns) {
      return std::to_string(unsettled) + " messages of the queue are not settled";
    }
    (void)::poll(nullptr, 0, static_cast<int>(kLookEveryMs));
  }
  for (const auto& consumer : consumers_) {
    (void)consumer->flush(kDeadlineMs);
  }
  stop();
  for (const client::QueuePartitionInfo& one : partitions) {
    history_.observe("test", "queue_final",
                     {{"group", group_},
                      {"topic", place_.topic},
                      {"part", one.partition},
                      {"off", 0},
                      {"end", one.end_offset}});
  }
  return write_dead(kDeadlineMs);
}

std::string RecordedQueue::write_dead(int64_t ms_max) {
  client::Admin admin(client_);
  const auto partitions = admin.describe_partitions(dead_topic_, ms_max);
  auto consumer = client::Consumer::create(client_, {});
  const client::Status assigned = consumer->assign(all_partitions({dead_topic_, kDeadPartitions}));
  if (!partitions.ok() || !assigned.ok()) {
    return "the dead letters cannot be read: " +
           (partitions.ok() ? assigned : partitions.status()).to_string();
  }
  uint64_t left = 0;
  for (const client::PartitionDescription& one : *partitions) {
    left += one.end_offset;
  }
  while (left > 0) {
    const auto batch = consumer->poll(ms_max);
    if (!batch.ok() || batch->messages.empty()) {
      return "dead letters are missing";
    }
    left -= batch->messages.size();
    for (const client::ReceivedMessage& message : batch->messages) {
      history_.observe("test", "dead",
                       {{"group", header(message, "tm-dead-group")},
                        {"topic", header(message, "tm-dead-topic")},
                        {"part", number(message, "tm-dead-partition")},
                        {"off", number(message, "tm-dead-offset")},
                        {"uid", number_of(message.value.value_or(""))},
                        {"deliveries", number(message, "tm-dead-deliveries")}});
    }
  }
  return "";
}

}  // namespace tidemark::testing

#include "clients/cpp/src/batcher.h"

#include <string>
#include <thread>

#include <doctest/doctest.h>

#include "clients/cpp/src/backoff.h"
#include "log/base/checksum.h"
#include "tests/support/sim_clock.h"

namespace tidemark::client_core {
namespace {

class BatcherRig {
 public:
  explicit BatcherRig(const BatcherOptions& options)
      : batcher(options, clock, [this] { ++wakes; }) {}

  TopicQueue& topic(const std::string& name = "t", uint32_t partitions = 1) {
    TopicQueue& queue = **batcher.topic(name);
    if (partitions > 0) {
      batcher.resolve(queue, partitions);
    }
    return queue;
  }

  Status append(TopicQueue& queue, const client::Message& message, uint64_t opaque = 0,
                bool may_block = false) {
    return batcher.append(queue, message, opaque, nullptr, may_block);
  }

  SimClock clock;
  std::atomic<int> wakes = 0;
  Batcher batcher;
};

std::vector<std::string> values_of(Batch& batch) {
  std::vector<client::OwnedMessage> messages;
  REQUIRE(copy_messages(batch, "t", 0, messages).ok());
  std::vector<std::string> values;
  for (const auto& message : messages) {
    values.push_back(message.value.value_or("(null)"));
  }
  return values;
}

TEST_CASE("batches leave when full or when linger is over, in order") {
  BatcherRig rig({.batch_bytes = 1024, .linger_ns = 5 * kNsPerMs});
  TopicQueue& topic = rig.topic();
  const std::string value(300, 'x');
  for (uint64_t i = 0; i < 7; ++i) {
    REQUIRE(rig.append(topic, {.value = value}, i).ok());
  }
  PartitionQueue& queue = topic.partitions[0];
  uint64_t next = 0;
  size_t full = 0;
  Batcher::Next taken = rig.batcher.take(queue, rig.clock.monotonic());
  for (; taken.batch != nullptr; taken = rig.batcher.take(queue, rig.clock.monotonic())) {
    ++full;
    for (const uint64_t opaque : taken.batch->opaques) {
      CHECK(opaque == next++);
    }
    CHECK(taken.batch->builder->bytes() <= 1024);
    rig.batcher.free_room(*taken.batch);
    rig.batcher.release(*taken.batch, {});
  }
  CHECK(full == 2);
  CHECK(next == 6);  // three each; the open one waits for linger
  CHECK(taken.ready_at.ns == rig.clock.monotonic().ns + 5 * kNsPerMs);
  rig.clock.advance_ms(5);
  taken = rig.batcher.take(queue, rig.clock.monotonic());
  REQUIRE(taken.batch != nullptr);
  CHECK(taken.batch->opaques == std::vector<uint64_t>{6});
  CHECK(rig.batcher.take(queue, rig.clock.monotonic()).ready_at == kNever);
  CHECK(!queue.announced);
}

TEST_CASE("waking: once for a new batch, once for a full one, not for every message") {
  BatcherRig rig({.batch_bytes = 100'000});
  TopicQueue& topic = rig.topic();
  const int before = rig.wakes;
  for (int i = 0; i < 100; ++i) {
    REQUIRE(rig.append(topic, {.value = "v"}).ok());
  }
  CHECK(rig.wakes - before == 1);
}

TEST_CASE("a key always goes to the same partition, by XXH3") {
  BatcherRig rig({});
  TopicQueue& topic = rig.topic("t", 7);
  for (int i = 0; i < 50; ++i) {
    const std::string key = "key" + std::to_string(i);
    REQUIRE(rig.append(topic, {.key = key, .value = key}).ok());
    const auto place = static_cast<size_t>(xxh3(as_bytes(key)) % 7);
    REQUIRE(topic.partitions[place].open != nullptr);
  }
  size_t messages = 0;
  for (PartitionQueue& queue : topic.partitions) {
    if (queue.open == nullptr) {
      continue;
    }
    for (const std::string& value : values_of(*queue.open)) {
      CHECK(xxh3(as_bytes(value)) % 7 == queue.partition);
      ++messages;
    }
  }
  CHECK(messages == 50);
}

TEST_CASE("without a key, partitions take turns batch by batch") {
  BatcherRig rig({.batch_bytes = 1024});
  TopicQueue& topic = rig.topic("t", 3);
  const std::string value(200, 'x');
  for (int i = 0; i < 40; ++i) {
    REQUIRE(rig.append(topic, {.value = value}).ok());
    // The I/O thread takes what is full.
    for (PartitionQueue& queue : topic.partitions) {
      if (!queue.sealed.empty()) {
        const auto taken = rig.batcher.take(queue, rig.clock.monotonic());
        CHECK(taken.batch->records > 1);
      }
    }
  }
  REQUIRE(rig.append(topic, {.value = "x", .partition = 2}).ok());
  CHECK(rig.append(topic, {.value = "x", .partition = 3}).code() == ErrorCode::kInvalidArgument);
}

// Found by bench: a full batch was followed by another one of the same partition, for as long as
// messages came.
TEST_CASE("messages without a key do not stay on one partition when nothing is taken meanwhile") {
  BatcherRig rig({.batch_bytes = 1024});
  TopicQueue& topic = rig.topic("t", 3);
  const std::string value(200, 'x');
  for (int i = 0; i < 40; ++i) {
    REQUIRE(rig.append(topic, {.value = value}).ok());
  }
  for (const PartitionQueue& queue : topic.partitions) {
    CAPTURE(queue.partition);
    CHECK(queue.sealed.size() >= 2);
  }
}

TEST_CASE("what is refused is not counted: too large, too many headers, bad name, closed") {
  BatcherRig rig({});
  TopicQueue& topic = rig.topic();
  const std::string limit(limits::kMessageBytesMax, 'x');
  const Status too_large = rig.append(topic, {.key = "k", .value = limit});
  CHECK(too_large.code() == ErrorCode::kTooLarge);
  CHECK(too_large.context().find(std::to_string(limits::kMessageBytesMax)) !=
        std::string_view::npos);
  const std::vector<client::Header> headers(limits::kHeadersPerMessageMax + 1,
                                            client::Header{"h", "v"});
  CHECK(rig.append(topic, {.headers = headers}).code() == ErrorCode::kLimitExceeded);
  for (const std::string& name : {std::string(), std::string("."), std::string(".."),
                                  std::string("a/b"), std::string(201, 'a')}) {
    CHECK(rig.batcher.topic(name).status().code() == ErrorCode::kInvalidArgument);
  }
  CHECK(rig.batcher.stats().buffered_messages == 0);
  CHECK(rig.batcher.stats().buffered_bytes == 0);
  CHECK(rig.append(topic, {.value = limit}).ok());
  rig.batcher.close();
  CHECK(rig.append(topic, {.value = "v"}).code() == ErrorCode::kShuttingDown);
}

TEST_CASE("overflow fail: the budget is hard in bytes and in messages") {
  SUBCASE("messages") {
    BatcherRig rig({.buffer_messages_max = 10, .overflow = client::Overflow::fail()});
    TopicQueue& topic = rig.topic();
    for (int i = 0; i < 10; ++i) {
      REQUIRE(rig.append(topic, {.value = "v"}).ok());
    }
    CHECK(rig.append(topic, {.value = "v"}).code() == ErrorCode::kOverloaded);
  }
  SUBCASE("bytes") {
    BatcherRig rig(
        {.buffer_bytes_max = 100'000, .overflow = client::Overflow::fail(), .batch_bytes = 10'000});
    TopicQueue& topic = rig.topic();
    const std::string value(1'000, 'x');
    int accepted = 0;
    while (rig.append(topic, {.value = value}).ok()) {
      ++accepted;
      CHECK(rig.batcher.stats().buffered_bytes <= 100'000);
    }
    CHECK(accepted > 90);
    CHECK(accepted < 100);
    // Room comes back when a batch is resolved, and only then.
    auto taken = rig.batcher.take(topic.partitions[0], rig.clock.monotonic());
    CHECK(rig.append(topic, {.value = value}).code() == ErrorCode::kOverloaded);
    rig.batcher.free_room(*taken.batch);
    rig.batcher.release(*taken.batch, {});
    CHECK(rig.append(topic, {.value = value}).ok());
  }
  SUBCASE("a message that can never fit") {
    BatcherRig rig({.buffer_bytes_max = 65'536});
    CHECK(rig.append(rig.topic(), {.value = std::string(70'000, 'x')}).code() ==
          ErrorCode::kTooLarge);
  }
}

TEST_CASE(
    "overflow drop_oldest: the oldest unsent batch goes, with a report; what was sent stays") {
  BatcherRig rig({.buffer_messages_max = 20,
                  .overflow = client::Overflow::drop_oldest(),
                  .batch_bytes = 1024});
  TopicQueue& topic = rig.topic("t", 2);
  const std::string value(300, 'x');
  for (uint64_t i = 0; i < 20; ++i) {
    REQUIRE(rig.append(topic, {.value = value, .partition = i % 2}, i).ok());
    rig.clock.advance_ms(1);
  }
  auto sent = rig.batcher.take(topic.partitions[0], rig.clock.monotonic());
  REQUIRE(sent.batch != nullptr);
  CHECK(sent.batch->opaques.front() == 0);
  REQUIRE(rig.append(topic, {.value = value}, 100).ok());
  const auto failed = rig.batcher.take_failed();
  REQUIRE(failed.size() == 1);
  CHECK(failed[0].partition == 1);
  CHECK(failed[0].batch->opaques.front() == 1);
  CHECK(failed[0].why.code() == ErrorCode::kOverloaded);
  CHECK(rig.batcher.stats().buffered_messages == 20 + 1 - failed[0].batch->records);
}

TEST_CASE("overflow drop_oldest: refuses when everything is on its way") {
  BatcherRig rig(
      {.buffer_messages_max = 3, .overflow = client::Overflow::drop_oldest(), .linger_ns = 0});
  TopicQueue& topic = rig.topic();
  for (int i = 0; i < 3; ++i) {
    REQUIRE(rig.append(topic, {.value = "v"}).ok());
  }
  const auto sent = rig.batcher.take(topic.partitions[0], rig.clock.monotonic());
  CHECK(rig.append(topic, {.value = "v"}).code() == ErrorCode::kOverloaded);
}

TEST_CASE(
    "overflow block_for: waits for room, gives up in time, and never waits on the I/O thread") {
  BatcherRig rig(
      {.buffer_messages_max = 1, .overflow = client::Overflow::block_for(60'000), .linger_ns = 0});
  TopicQueue& topic = rig.topic();
  REQUIRE(rig.append(topic, {.value = "first"}).ok());
  CHECK(rig.append(topic, {.value = "v"}, 0, /*may_block=*/false).code() == ErrorCode::kOverloaded);
  Status second;
  std::thread blocked(
      [&] { second = rig.append(topic, {.value = "second"}, 0, /*may_block=*/true); });
  auto taken = rig.batcher.take(topic.partitions[0], rig.clock.monotonic());
  rig.batcher.free_room(*taken.batch);
  rig.batcher.release(*taken.batch, {});
  blocked.join();
  CHECK(second.ok());

  BatcherRig short_rig({.buffer_messages_max = 1, .overflow = client::Overflow::block_for(1)});
  TopicQueue& other = short_rig.topic();
  REQUIRE(short_rig.append(other, {.value = "first"}).ok());
  CHECK(short_rig.append(other, {.value = "v"}, 0, /*may_block=*/true).code() ==
        ErrorCode::kOverloaded);
}

TEST_CASE("closing wakes who waits for room") {
  BatcherRig rig({.buffer_messages_max = 1, .overflow = client::Overflow::block_for(60'000)});
  TopicQueue& topic = rig.topic();
  REQUIRE(rig.append(topic, {.value = "first"}).ok());
  Status second;
  std::thread blocked(
      [&] { second = rig.append(topic, {.value = "second"}, 0, /*may_block=*/true); });
  rig.batcher.close();
  blocked.join();
  CHECK(second.code() == ErrorCode::kShuttingDown);
}

TEST_CASE("before the partitions are known messages wait, keep their order and their wishes") {
  BatcherRig rig({.batch_bytes = 1024});
  TopicQueue& topic = rig.topic("t", 0);
  for (uint64_t i = 0; i < 30; ++i) {
    client::Message message{.value = std::string(100, static_cast<char>('a' + i % 26))};
    const std::string value = std::to_string(i);
    message.value = value;
    message.partition = i % 3 == 2 ? 9 : static_cast<uint32_t>(i % 3);
    REQUIRE(rig.append(topic, message, i).ok());
  }
  std::vector<TopicQueue*> unresolved;
  std::vector<PartitionQueue*> ready;
  rig.batcher.take_news(unresolved, ready);
  CHECK(unresolved == std::vector<TopicQueue*>{&topic});
  CHECK(ready.empty());
  const auto before = rig.batcher.stats();

  rig.batcher.resolve(topic, 2);
  rig.batcher.take_news(unresolved, ready);
  CHECK(ready.size() == 2);
  CHECK(rig.batcher.stats().buffered_bytes == before.buffered_bytes);
  for (uint32_t p = 0; p < 2; ++p) {
    const auto values = values_of(*topic.partitions[p].open);
    REQUIRE(values.size() == 10);
    for (size_t i = 0; i < values.size(); ++i) {
      CHECK(std::stoull(values[i]) == i * 3 + p);
    }
  }
  const auto failed = rig.batcher.take_failed();
  CHECK(failed.size() == 10);  // asked for partition 9
  CHECK(failed[0].why.code() == ErrorCode::kUnknownPartition);
}

TEST_CASE("a flush point covers what was accepted before it, and no more") {
  BatcherRig rig({});
  TopicQueue& topic = rig.topic("t", 1);
  TopicQueue& waiting = rig.topic("u", 0);
  REQUIRE(rig.append(topic, {.value = "a"}).ok());
  REQUIRE(rig.append(waiting, {.value = "b"}).ok());
  const uint64_t point = rig.batcher.flush_point();
  REQUIRE(rig.append(topic, {.value = "later"}).ok());
  CHECK(!rig.batcher.wait_released(point, 0));
  auto taken = rig.batcher.take(topic.partitions[0], rig.clock.monotonic());
  REQUIRE(taken.batch != nullptr);  // sealed by the flush
  rig.batcher.free_room(*taken.batch);
  rig.batcher.release(*taken.batch, {});
  CHECK(!rig.batcher.wait_released(point, 0));
  rig.batcher.resolve(waiting, 1);
  taken = rig.batcher.take(waiting.partitions[0], {rig.clock.monotonic().ns + 1'000'000'000});
  rig.batcher.free_room(*taken.batch);
  rig.batcher.release(*taken.batch, Status(ErrorCode::kIoError, "x"));
  CHECK(rig.batcher.wait_released(point, 0));
  CHECK(rig.batcher.stats().buffered_messages == 1);
  const auto failures = rig.batcher.take_failures();
  CHECK(failures.count == 1);
  CHECK(failures.first.code() == ErrorCode::kIoError);
  CHECK(rig.batcher.take_failures().count == 0);
}

TEST_CASE("timestamps too far apart for one batch go into two") {
  BatcherRig rig({});
  TopicQueue& topic = rig.topic();
  REQUIRE(rig.append(topic, {.value = "a", .timestamp_ms = INT64_MIN}).ok());
  REQUIRE(rig.append(topic, {.value = "b", .timestamp_ms = INT64_MAX}).ok());
  CHECK(topic.partitions[0].sealed.size() == 1);
  CHECK(values_of(*topic.partitions[0].sealed.front()) == std::vector<std::string>{"a"});
}

TEST_CASE("sequences wrap from 2^31 - 1 to 0") {
  CHECK(sequence_after(5, 3) == 8);
  CHECK(sequence_after(0x7FFF'FFFF, 1) == 0);
  CHECK(sequence_after(0x7FFF'FFF0, 0x20) == 0x10);
}

}  // namespace
}  // namespace tidemark::client_core
